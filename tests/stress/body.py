"""What a worker's process does: random forms of calls in two threads, until it is told to stop."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections import Counter

import worker_client
from tests import leaks
from tests.stress import forms
from tests.stress.board import Board, Ends
from tests.stress.forms import Caller, Form

TIMEOUT_S = 100.0
"""Of calls that say nothing else: far longer than a broker's restart takes, much shorter than a hang."""

DUMP_SIGNAL = signal.SIGUSR2


def work(place: int, address: str, seed: str, board: Board) -> Counter[str]:
    """Until the board says stop; how the calls have ended. Raises what is wrong, leaks of its own included."""
    faulthandler.register(DUMP_SIGNAL, all_threads=True)  # for a worker that hangs
    before = leaks.Snapshot.take()
    lock = threading.Lock()

    def step() -> None:
        with lock:
            board.done[place] += 1

    wrong: list[BaseException] = []
    with worker_client.connect(address, timeout=TIMEOUT_S) as client:
        closings = Ends()
        others = frozenset(before.descriptors)
        callers = [Caller(client, closings, f"{seed}.{thread}", board, step, others) for thread in range(2)]
        other = threading.Thread(target=_go_on, args=(callers[1], forms.OF_ANY_THREAD, wrong))
        other.start()
        _go_on(callers[0], forms.of_the_main_thread(), wrong)
        other.join()
    if wrong:
        raise wrong[0]
    found = leaks.find_leaks(before)
    assert not found, f"a worker that has closed its client has {found.report()}"
    return callers[0].ends + callers[1].ends


def _go_on(caller: Caller, choices: tuple[tuple[int, Form], ...], wrong: list[BaseException]) -> None:
    weights, known = [weight for weight, _ in choices], [form for _, form in choices]
    process = os.getpid()
    while not caller.board.stopped and not wrong:
        (form,) = caller.random.choices(known, weights)
        try:
            caller.attempt(form)
        except BaseException as error:
            if os.getpid() == process:
                wrong.append(error)

"""Calls under a trace function, as debuggers and profilers in Python set one: another thread may run at each line, also
where CPython would not let it otherwise."""

from __future__ import annotations

import threading
import time
from types import FrameType
from typing import Any

import numpy as np

from tests.brokers import TestBroker, serving
from tests.workers import in_child
from worker_client import Client, connect

THREADS = 4
CALLS = 60
PATIENCE_S = 30.0


def test_threads_that_take_turns_at_each_line_have_their_own_answers() -> None:
    """Two slots for four threads: one that two threads held at once would answer one of them with the other's rows."""
    with serving("double", slots=2, max_slots=2) as broker:
        assert in_child(_calls, broker) == []


def _calls(broker: TestBroker) -> list[str]:
    """What went wrong."""
    wrong: list[str] = []
    with connect(broker.address, timeout=PATIENCE_S) as client:
        threading.settrace(_trace)
        try:
            threads = [
                threading.Thread(target=_call, args=(client, number, wrong), daemon=True)
                for number in range(THREADS)
            ]
            for thread in threads:
                thread.start()
        finally:
            threading.settrace(None)  # type: ignore[arg-type]
        for thread in threads:
            thread.join(PATIENCE_S)
            if thread.is_alive():
                return [*wrong, "a thread still waits"]
        model = client.model("double")
        with model.request(rows=1), model.request(rows=1):
            return wrong


def _call(client: Client, number: int, wrong: list[str]) -> None:
    model = client.model("double")
    for count in range(CALLS):
        x = np.full((1, 4), number * CALLS + count, np.float32)
        try:
            answer = model.submit(x).result() if count % 2 else model.predict(x)
            if not (answer == 2 * x).all():
                wrong.append(f"{answer} for {x}")
        except Exception as error:
            wrong.append(repr(error))


def _trace(frame: FrameType, event: str, _: Any) -> Any:
    if "/worker_client/attachment/" not in frame.f_code.co_filename:
        return None
    if event == "line":
        time.sleep(0.0002)
    return _trace

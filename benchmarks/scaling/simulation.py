"""Workers, the broker's thread and the cores that they share, event by event: what mean value analysis leaves out.

- a batch takes no newcomers: they are the next one;
- the broker and its workers run on the same cores, which all that run share alike; but of a crowd, of more workers than
  cores, each runs until it waits again, in turns, since a time slice is much longer than that, on the cores that the
  broker leaves: it never rests then, and Linux leaves it the core that it is on;
- who sleeps must be woken, which costs the one who wakes it, and time if its core has gone to sleep as well;
- who polls keeps a core busy.

All service times are fixed, as the stages' are nearly. Pure, and the same numbers give the same result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Literal

from benchmarks.scaling.costs import Costs, Machine

Action = Callable[[], None]
Way = Literal["poll", "block", "give way"]
WARM_UP = 0.2  # of the requests


class Cores:
    """Threads that run share what the cores do, alike. Virtual time is the work that each of them has been given, so
    the one to finish next is the one whose end comes first in virtual time (Parekh and Gallager, "A generalized
    processor sharing approach to flow control", IEEE/ACM Transactions on Networking 1, 1993)."""

    def __init__(self, machine: Machine) -> None:
        self.now_us = 0.0
        self.polling = 0
        self._machine = machine
        self._virtual_us = 0.0
        self._running: list[tuple[float, int, Action]] = []
        self._timers: list[tuple[float, int, Action]] = []
        self._numbers = count()

    @property
    def idle(self) -> bool:
        """Whether another thread would find a core that nobody uses."""
        return len(self._running) + self.polling < self._machine.cores

    def run(self, work_us: float, then: Action) -> None:
        heappush(self._running, (self._virtual_us + work_us, next(self._numbers), then))

    def after(self, delay_us: float, then: Action) -> None:
        heappush(self._timers, (self.now_us + delay_us, next(self._numbers), then))

    def step(self) -> None:
        """On to the next thing that happens."""
        busy = len(self._running) + self.polling
        speed = self._machine.speed(busy) / busy if busy else 0.0
        ends_us = self.now_us + (self._running[0][0] - self._virtual_us) / speed if self._running else None
        if self._timers and (ends_us is None or self._timers[0][0] <= ends_us):
            at_us, _, then = heappop(self._timers)
            self._virtual_us += (at_us - self.now_us) * speed
        else:
            assert ends_us is not None, "nobody runs, and nobody ever will"
            at_us = ends_us
            self._virtual_us, _, then = heappop(self._running)
        self.now_us = at_us
        then()


class Server:
    """One broker and its workers, each of which calls again as soon as it has its answer.

    All of them wait in one `way`. If they poll, the broker does, too; else it blocks when there is nothing to do. Who
    is woken gets a core that is idle, if there is one; with `near` that of the one who wakes it. Linux does either. Who
    gives way uses what no other wants. More workers than cores have turns on all cores but one.
    """

    def __init__(self, costs: Costs, machine: Machine, workers: int, way: Way, near: bool) -> None:
        self.cores = Cores(machine)
        self.answers = 0
        self.batches = 0
        self._costs = costs
        self._polls = way == "poll"
        self._gives_way = way == "give way"
        self._near = near
        self._queue: deque[int] = deque()
        crowd = workers > machine.cores
        self._worker_us = costs.crowd_us if crowd else costs.worker_us
        if crowd and not self._gives_way:  # a semaphore's change of who runs comes in its place
            self._worker_us -= costs.waking.give_way_us
        self._turns = max(1, machine.cores - 1) if crowd else workers
        self._ready: deque[float] = deque()  # whose turn is to come, each with its work
        self._resting = True
        if self._polls:
            self.cores.polling += 1
        for _ in range(workers):
            self._take_turn(self._worker_us)

    # -- a worker ------------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        waking = self._costs.waking
        if self._polls:
            self.cores.polling += 1
            self.cores.after(waking.poll_us, self._arrive)
        elif self._resting:
            self._resting = False  # whoever comes now finds it on its way
            self.cores.run(self._post_us, lambda: None)
            self._queue.append(1)
            self._wake(lambda work_us: self.cores.run(work_us, self._look))
        else:
            self._queue.append(1)

    def _arrive(self) -> None:
        self._queue.append(1)
        if self._resting:
            self._resting = False
            self.cores.polling -= 1
            self._look()

    def _answered(self) -> None:
        self.answers += 1
        if self._polls:
            self.cores.after(self._costs.waking.poll_us, self._go_on)
        elif self._gives_way:
            self._take_turn(self._worker_us)
        else:
            self._wake(self._take_turn, self._worker_us)

    def _go_on(self) -> None:
        self.cores.polling -= 1
        self._take_turn(self._worker_us)

    def _take_turn(self, work_us: float) -> None:
        """Run until the next request is submitted, now or when those before have done so."""
        if not self._turns:
            self._ready.append(work_us)
            return
        self._turns -= 1
        self.cores.run(work_us, self._end_turn)

    def _end_turn(self) -> None:
        self._turns += 1
        if self._ready:
            self._take_turn(self._ready.popleft())
        self._submit()

    def _wake(self, run: Callable[[float], None], work_us: float = 0.0) -> None:
        """Have a thread that sleeps run, on a core that sleeps as well or on one that has to leave another's work."""
        waking = self._costs.waking
        if self._elsewhere:
            self.cores.after(waking.latency_us, lambda: run(waking.sleep_us + work_us))
        else:
            run(waking.busy_sleep_us + work_us)

    @property
    def _post_us(self) -> float:
        """What it costs whoever wakes a sleeper now."""
        waking = self._costs.waking
        return waking.wake_us if self._elsewhere else waking.busy_wake_us

    @property
    def _elsewhere(self) -> bool:
        return self.cores.idle and not self._near

    # -- the broker's thread -------------------------------------------------------------------------------------

    def _look(self) -> None:
        taken = min(len(self._queue), self._costs.most)
        if not taken:
            self._resting = True
            if self._polls:
                self.cores.polling += 1
            return
        for _ in range(taken):
            self._queue.popleft()
        self.batches += 1
        costs = self._costs
        each_us = (costs.single_us if taken == 1 else costs.request_us) / 2  # the other half is taking it
        first_us = costs.answering_us(taken) + costs.run_us(taken) - each_us * taken
        self.cores.run(first_us, lambda: self._complete(taken, each_us, taken))

    def _complete(self, left: int, each_us: float, taken: int) -> None:
        """Answer one of the batch after the other."""
        if not left:
            change_us = self._costs.waking.give_way_us if self._gives_way else 0.0
            self.cores.run(self._costs.afterwards_us(taken) + change_us, self._look)
            return
        wake_us = 0.0 if self._polls or self._gives_way else self._post_us

        def done() -> None:
            self._answered()
            self._complete(left - 1, each_us, taken)

        self.cores.run(each_us + wake_us, done)


def throughput(
    costs: Costs, machine: Machine, workers: int, near: bool = False, requests: int = 2000
) -> tuple[float, float]:
    """Requests a second, and requests in a batch. Workers poll, while they are no more than the cores, or else give way
    to each other, or they block: whatever is faster."""
    ways: tuple[Way, ...] = ("poll", "block") if workers <= machine.cores else ("give way", "block")
    return max(_run(Server(costs, machine, workers, way, near), requests) for way in ways)


def _run(server: Server, requests: int) -> tuple[float, float]:
    _until(server, round(requests * WARM_UP))
    began_us, answers, batches = server.cores.now_us, server.answers, server.batches
    _until(server, answers + requests)
    done = server.answers - answers
    return done / (server.cores.now_us - began_us) * 1e6, done / max(1, server.batches - batches)


def _until(server: Server, answers: int) -> None:
    while server.answers < answers:
        server.cores.step()

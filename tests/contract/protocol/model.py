"""All threads of one configuration together, and what must hold when nothing moves any more."""

from __future__ import annotations

from collections.abc import Iterator

from tests.contract.protocol.fate import Fate
from tests.contract.protocol.fields import NUMBER_OF, STATES, Broken, Config, Fields
from tests.contract.protocol.threads.caller import Caller
from tests.contract.protocol.threads.dispatcher import Dispatcher
from tests.contract.protocol.threads.intake import Intake
from tests.contract.protocol.threads.pool import Control, Runner
from tests.contract.protocol.threads.program import END, Body, Thread
from tests.contract.protocol.threads.watcher import Clock, Watcher
from worker_client.wire.states import State

_FREE = NUMBER_OF[State.FREE]
_OVER = frozenset(NUMBER_OF[state] for state in (State.COMPLETED, State.ABANDONED_COMPLETED, State.ANSWERED))
_STUCK = frozenset({NUMBER_OF[State.ENTERED], NUMBER_OF[State.SHOWN]})

Move = tuple[bool, bytes]
"""Whether something of the system moved, and not only its environment; and the state then."""


class Model:
    """Thread classes may be replaced by ones with a mistake in them."""

    def __init__(
        self,
        config: Config,
        caller: type[Caller] = Caller,
        watcher: type[Watcher] = Watcher,
        dispatcher: type[Dispatcher] = Dispatcher,
        intake: type[Intake] = Intake,
        runner: type[Runner] = Runner,
        control: type[Control] = Control,
    ) -> None:
        self.config = config
        f = self.f = Fields(config)
        self.callers: list[Caller] = []
        self.dispatchers: list[Dispatcher] = []
        self.intake = intake(f, "intake")
        broker: list[Thread] = [self.intake]
        if config.heavy:
            broker.append(runner(f, "runner", self.intake))
        if config.worker_kills:
            broker.append(control(f, "control"))
        self.broker = broker
        self.workers: list[list[Thread]] = [
            list(self._threads_of(worker, caller, watcher, dispatcher)) for worker in range(config.workers)
        ]
        self.environment: list[Thread] = [Fate(f, "fate")]
        if config.deadlines:
            self.environment.append(Clock(f, "clock"))
        self.threads = [*self.broker, *(t for threads in self.workers for t in threads), *self.environment]
        local = [
            (number, thread.pc, bytes(place in thread.local_places() for place in thread.places))
            for number, thread in enumerate(self.threads)
        ]
        self._local = [each for each in local if any(each[2])]
        self._programs = [self._program(thread) for thread in self.threads]

    def _threads_of(
        self, worker: int, caller: type[Caller], watcher: type[Watcher], dispatcher: type[Dispatcher]
    ) -> Iterator[Thread]:
        f, config = self.f, self.config
        for number in range(config.callers):
            made = caller(f, f"caller {worker}.{number}", worker, number)
            self.callers.append(made)
            yield made
        if config.deadlines or config.broker_kills:
            yield watcher(f, f"watcher {worker}", worker)
        if config.futures:
            made_dispatcher = dispatcher(f, f"dispatcher {worker}", worker)
            self.dispatchers.append(made_dispatcher)
            for each in self.callers:
                if each.worker == worker:
                    each.renew_call = _forgetting(made_dispatcher)  # type: ignore[method-assign]
            yield made_dispatcher

    def _program(self, thread: Thread) -> tuple[int, list[Body | None], list[bool], tuple[int, ...], bool]:
        may_raise = [False] * len(thread.places)
        if isinstance(thread, Caller) and thread.number == 0 and self.config.interruptions:
            may_raise = [place in thread.AFTER_CALLS for place in thread.places]
        if thread.BELONGS_TO_BROKER:
            unless: tuple[int, ...] = (self.f.broker_gone, self.f.broker_stopped)
        elif thread.worker is not None:
            unless = (self.f.dead[thread.worker], self.f.stopped[thread.worker])
        else:
            unless = ()
        return thread.pc, thread.bodies, may_raise, unless, not thread.ENVIRONMENT

    def start(self) -> bytes:
        f = self.f
        state = bytearray(f.size)
        for worker in range(self.config.workers):
            state[f.free[worker]] = (1 << self.config.slots) - 1
        for thread in self.threads:
            thread.begin(state)
        return bytes(state)

    def moves(self, s: bytes) -> list[tuple[int, Move]]:
        """(number of the thread that moves, what comes of it)."""
        for number, pc, local in self._local:
            if local[s[pc]]:
                found = self.moves_of(number, s)
                if found:
                    return found
        return [move for number in range(len(self._programs)) for move in self.moves_of(number, s)]

    def moves_of(self, number: int, s: bytes) -> list[tuple[int, Move]]:
        pc, bodies, may_raise, unless, system = self._programs[number]
        for place in unless:
            if s[place]:
                return []
        place = s[pc]
        body = bodies[place]
        if body is None:
            return []
        outcome = body(s)
        if outcome is None:
            found = []
        elif type(outcome) is list:
            found = [(number, (system, bytes(each))) for each in outcome]
        else:
            found = [(number, (system, bytes(outcome)))]
        if may_raise[place] and s[self.f.interruptions]:
            c = bytearray(s)
            c[self.f.interruptions] -= 1
            thread = self.threads[number]
            assert isinstance(thread, Caller)
            found.append((number, (False, bytes(thread.interrupted(c)))))
        return found

    # -- at rest -------------------------------------------------------------------------------------------------

    def check_rest(self, s: bytes, time_is_over: bool) -> None:
        """Nothing of the system moves; with `time_is_over`, no deadline can pass either. Raises Broken."""
        f = self.f
        broker_works = not s[f.broker_gone] and not s[f.broker_stopped]
        for worker in range(self.config.workers):
            if s[f.dead[worker]]:
                if broker_works and not s[f.disposed[worker]]:
                    raise Broken(f"the channel of dead worker {worker} stays")
            elif s[f.stopped[worker]]:
                continue
            elif broker_works:
                self._check_over(s, worker)
                self._check_worker(s, worker)
            elif time_is_over or s[f.broker_gone]:
                self._check_over(s, worker)
        if broker_works:
            self._check_broker(s)

    def _check_over(self, s: bytes, worker: int) -> None:
        for caller in self.callers:
            if caller.worker == worker and caller.at(s) != END:
                raise Broken(f"{caller.name} waits for ever: it {caller.action(caller.at(s))}")
        if s[self.f.calls[worker]]:
            raise Broken(f"a future of worker {worker} is never completed")

    def _check_worker(self, s: bytes, worker: int) -> None:
        f = self.f
        if s[f.submitted[worker]] and not s[f.unrung[worker]]:
            raise Broken(f"{s[f.submitted[worker]]} posts of submitted are left over")
        if s[f.bell[worker]]:
            raise Broken(f"{s[f.bell[worker]]} posts of the bell are left over")
        for slot in range(worker * self.config.slots, (worker + 1) * self.config.slots):
            life = s[f.life[slot]]
            posts = s[f.extra[slot]] + (s[f.busy[slot]] and life in _OVER)
            lost = self.config.interruptions - s[f.interruptions]  # acquired, and not counted
            if not posts - lost <= s[f.completed[slot]] <= posts:
                raise Broken(f"slot {slot} has {s[f.completed[slot]]} posts, and not {posts}")
            mine = s[f.free[worker]] | s[f.abandoned[worker]]
            if not mine >> slot % self.config.slots & 1:
                raise Broken(f"slot {slot} is lost: {STATES[life].value}")
            if life in _STUCK:
                raise Broken(f"slot {slot} is lost: {STATES[life].value}")
        if s[f.head[worker]] != s[f.tail[worker]] and not s[f.unrung[worker]]:
            raise Broken(f"an entry of worker {worker} is not seen")

    def _check_broker(self, s: bytes) -> None:
        for thread in self.broker:
            if thread.at(s) not in {"block", "wait", "select"}:
                raise Broken(f"{thread.name} hangs: it {thread.action(thread.at(s))}")


def _forgetting(dispatcher: Dispatcher):  # type: ignore[no-untyped-def]
    def renew_call(c: bytearray, slot: int) -> None:
        c[dispatcher.found] &= ~dispatcher.bit(slot)

    return renew_call

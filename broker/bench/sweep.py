"""The sweep: right answers first, then memory, then every case in windows that take turns between the arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from broker.bench import inputs as files
from broker.bench.answers import TOLERANCE, check
from broker.bench.arms import Named, WorkerArm
from broker.bench.arms.brokered import Brokered
from broker.bench.arms.in_process import InProcessArm, InProcessCall
from broker.bench.load.samples import Window
from broker.bench.load.worker import Inputs
from broker.bench.load.worker_pool import WorkerPool
from broker.bench.model_under_test import ModelUnderTest, ServedUnderTest, served
from broker.bench.outcome import MeasuredCase, SweepOutcome
from broker.bench.plan import Case, SweepPlan
from broker.bench.stability import WINDOWS, WindowLevel, stable
from broker.bench.turns import in_turn
from broker.counters.counted import counted
from broker.host import describe as machine
from worker_client.system.clock import monotonic
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature

OnProgress = Callable[[float, str], None]
"""Called with the finished share, from 0 to 1, and with what is measured now."""


@dataclass(frozen=True)
class Questions:
    """Where inputs come from, and whether answers are checked. `input` None: generated from the signature."""

    input: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    checked: bool = True


class Sweep:
    """One model, one plan. `calls` are the ways in which the same model is called in process, beside the broker."""

    def __init__(
        self,
        model: ModelUnderTest,
        plan: SweepPlan,
        calls: Sequence[InProcessCall],
        questions: Questions,
        on_progress: OnProgress,
    ) -> None:
        self._model = model
        self._plan = plan
        self._calls = calls
        self._questions = questions
        self._on_progress = on_progress
        self._given: dict[int, Inputs] = {}  # by rows
        self._memory: dict[tuple[str, int], int | None] = {}  # by arm and workers
        self._begun = monotonic()

    def run(self) -> SweepOutcome:
        """Raises BrokerError: for a model, broker or input that is not there or does not fit, WrongAnswer."""
        model = self._model
        if model.address is None:
            self._on_progress(0, "loading the model for the right answers")
            signature = self._ask_in_process()
            self._measure_memory_in_process(signature.name)
            self._on_progress(0, "starting the broker, which may measure the model first")
        with served(model) as broker:
            if model.address is not None:
                self._ask_beside(broker)
                self._measure_memory_in_process(broker.signature.name)
            outcome = self._outcome(broker)
            for workers, cases in groupby(self._plan.cases(), lambda case: case.workers):
                self._measure_group(workers, list(cases), broker, outcome)
        self._on_progress(1, "done")
        return outcome

    # --- the right answers ---

    def _ask_in_process(self) -> Signature:
        """Make the inputs and have the model itself answer them. Its signature."""
        assert self._model.spec is not None
        with WorkerPool(
            InProcessArm(self._model.spec, InProcessCall.BARE, self._model.signature), 1
        ) as alone:
            signature: Signature = alone.about["signature"]
            self._answer(alone, signature)
            return signature

    def _ask_beside(self, broker: ServedUnderTest) -> None:
        """For a running broker: ask the model itself if there is one, else the broker, one request at a time."""
        spec, signature = self._model.spec, broker.signature
        arm: WorkerArm = self._broker_arm(broker)
        if spec is not None:
            arm = InProcessArm(spec, InProcessCall.BARE, signature.name)
        with WorkerPool(arm, 1) as alone:
            if spec is not None and alone.about["signature"] != signature:
                raise InvalidInput(
                    f"{spec.source} is not what the broker serves as {spec.name!r}: its signature is "
                    f"{alone.about['signature']}, the broker's {signature}"
                )
            self._answer(alone, signature)

    def _answer(self, alone: WorkerPool, signature: Signature) -> None:
        questions, plan = self._questions, self._plan
        if questions.input is None:
            maker = files.made(signature, plan.seed, questions.shapes)
        else:
            maker = files.from_file(questions.input, signature)
        if not files.has_rows(signature):
            self._plan = plan = replace(plan, rows=(0,))
        for rows in plan.rows:
            arrays = maker(rows)
            expected: list[Named] | None = None
            if questions.checked:
                asked = Inputs(arrays, None, questions.tolerance, wanted=True)
                expected, again = alone.take(asked), alone.take(asked)
                for number, (one, other) in enumerate(zip(expected, again), 1):
                    check(one, other, questions.tolerance, f"input {number}, asked twice in one process")
            self._given[rows] = Inputs(arrays, expected, questions.tolerance)

    # --- memory ---

    def _measure_memory_in_process(self, signature: str) -> None:
        """Before our broker is there, which has TensorFlow's libraries as well: a shared page counts in part."""
        for workers in self._plan.workers if self._calls else ():
            for arm in self._arms_in_process(signature):
                self._on_progress(0, f"memory: {arm.label}, {counted(workers, 'worker')}")
                with WorkerPool(arm, workers) as pool:
                    self._measure_memory(pool)

    def _measure_memory(self, pool: WorkerPool) -> None:
        for given in self._given.values():
            pool.take(given)
        self._memory[pool.arm.name, pool.workers] = pool.memory_bytes()

    # --- speed ---

    def _measure_group(
        self, workers: int, cases: list[Case], broker: ServedUnderTest, outcome: SweepOutcome
    ) -> None:
        """All cases of one number of workers, with one pool for each arm."""
        if self._over():
            outcome.left_out += [str(case) for case in cases]
            return
        with ExitStack() as stack:
            self._on_progress(self._share(outcome), f"starting {counted(workers, 'worker')}")
            pools = [stack.enter_context(WorkerPool(self._broker_arm(broker), workers, [broker.pid]))]
            self._measure_memory(pools[0])
            in_process = self._arms_in_process(broker.signature.name)
            pools += [stack.enter_context(WorkerPool(arm, workers)) for arm in in_process]
            for case in cases:
                if self._over():
                    outcome.left_out.append(str(case))
                    continue
                for pool in pools:
                    pool.take(self._given[case.rows])
                outcome.measured += self._measure(case, pools, self._share(outcome))

    def _measure(self, case: Case, pools: list[WorkerPool], share: float) -> Iterator[MeasuredCase]:
        """Windows in turn, until those of every arm are stable or the plan allows no more."""
        plan, seconds = self._plan, self._plan.window_s
        series: dict[str, list[Window]] = {pool.arm.name: [] for pool in pools}
        for number in range(plan.most_windows):
            if number >= WINDOWS and (
                self._over() or all(self._stable(case, windows) for windows in series.values())
            ):
                break
            for pool in in_turn(pools, number):
                self._on_progress(share, f"{case}: {pool.arm.label}, window {number + 1}")
                seed = [plan.seed, case.workers, case.rows, number]
                series[pool.arm.name].append(pool.window(case.load, plan.warm_up_s, seconds, seed))
            if (
                number + WINDOWS < plan.most_windows
                and seconds < plan.most_window_s
                and any(len(windows[-1].taken_ns) < plan.least_calls for windows in series.values())
            ):
                seconds = min(2 * seconds, plan.most_window_s)
                series = {name: [] for name in series}  # windows of one length are compared
        for pool in pools:
            windows = series[pool.arm.name]
            if windows:
                yield MeasuredCase(
                    pool.arm.name,
                    pool.arm.label,
                    case,
                    Window.together(windows[-WINDOWS:]),
                    len(windows),
                    self._stable(case, windows),
                    self._memory.get((pool.arm.name, case.workers)),
                )

    def _stable(self, case: Case, windows: Sequence[Window]) -> bool:
        """An open loop, whose planned rate varies by chance, is judged by the share of requests that were sent."""
        plan, planned = self._plan, case.load.rate is not None
        levels = [WindowLevel(w.sent if planned else w.per_s, w.ns(plan.percentile)) for w in windows]
        return stable(levels, plan.within)

    # --- parts ---

    def _broker_arm(self, broker: ServedUnderTest) -> Brokered:
        return Brokered(broker.address, self._model.name, broker.signature.name, self._plan.timeout_s)

    def _arms_in_process(self, signature: str) -> list[InProcessArm]:
        spec = self._model.spec
        return [] if spec is None else [InProcessArm(spec, call, signature) for call in self._calls]

    def _over(self) -> bool:
        return monotonic() - self._begun > self._plan.limit_s

    def _share(self, outcome: SweepOutcome) -> float:
        return len(outcome.cases) / max(1, len(list(self._plan.cases())))

    def _outcome(self, broker: ServedUnderTest) -> SweepOutcome:
        questions, model = self._questions, self._model
        against = "the same model in a process of its own" if model.spec else "the broker, asked alone"
        counts = sorted({len(given.inputs) for given in self._given.values()})
        many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        origin = f"from {questions.input}" if questions.input else "made from the signature"
        outcome = SweepOutcome(
            model.name,
            str(broker.signature),
            self._plan,
            machine.describe(),
            broker.facts,
            f"{many} for each number of rows, {origin}",
            against if questions.checked else None,
        )
        if model.address is not None and self._calls:
            outcome.notes.append(
                "memory in process was taken beside a running broker, which shares TensorFlow's libraries with it: "
                "the real figure is higher"
            )
        return outcome

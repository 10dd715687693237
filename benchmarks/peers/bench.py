"""The measurement of a peer, and what it gets: the ways to call the peer take turns with the broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from benchmarks import mobilenet
from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import Pace
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import Workbench
from benchmarks.peers.environment import Environment
from benchmarks.peers.other_system import SystemSetting, Way
from benchmarks.peers.turns import run_in_turns, start_ratio
from benchmarks.rates import RateSeries, best, by_cpu, by_p50, ratio
from benchmarks.sampling import Spread
from benchmarks.throughput.contenders import OWN, THREADS

MODELS = ("mlp", "mobilenet", "head")
"""The reference models, and a function that costs nothing, to measure only the transport."""
BROKER = "broker"
_HEAD = "benchmarks.models.functions:head"


@dataclass
class OtherSystemBench(Workbench):
    """`threads` are names of `THREADS`. With `quick`, which is for tests, brokers do not measure their settings."""

    model: str
    workers: tuple[int, ...]
    threads: tuple[str, ...]
    rounds: int
    pace: Pace
    quick: bool

    @cached_property
    def setting(self) -> SystemSetting:
        """The setting, after the model has been made and the broker has measured its settings for it."""
        path = {"mlp": lambda: self.mlp, "mobilenet": self._mobilenet, "head": lambda: None}[self.model]()
        if path is not None and not self.quick:
            with self.broker("tune", {self.model: path}):
                self.progress(0, 1, "tuned")
        return SystemSetting(self.model, path, str(self.directory))

    def _mobilenet(self) -> str:
        self.progress(0, 1, "making the heavy model")
        return mobilenet.export()

    def broker_arm(self, workers: int) -> Arm:
        models = {self.model: {"source": self.setting.model or _HEAD}}
        tune = "remembered" if self.setting.model and not self.quick else "off"
        options = {"directory": str(self.directory), "models": models, "model": self.model, "tune": tune}
        return _arm(
            BROKER,
            "broker",
            "benchmarks.arms.several_workers.brokered:brokered",
            self.model,
            workers,
            OWN,
            options,
        )

    def arms(self, way: Way, workers: int, python: str) -> Iterator[Arm]:
        for threads in self.threads:
            options = way.options(self.setting, THREADS[threads])
            name = f"{way.name}-{threads}"
            yield _arm(name, way.label, way.factory, self.model, workers, threads, options, python)


def _arm(
    name: str,
    label: str,
    factory: str,
    workload: str,
    workers: int,
    threads: str,
    options: dict[str, Any],
    *python: str,
) -> Arm:
    facts = {"workers": workers, "threads": threads}
    options = {"workers": workers, **options}
    return Arm(f"{name}-{workers}", label, factory, workload, options, 1.0, facts, *python)


def target(environment: Environment, model: str) -> MeasuredTarget:
    """The target of one peer, whose environment was made before, or says why it could not be made."""
    peer = environment.peer
    title = f"{peer.label}, beside the broker; {model}"
    return MeasuredTarget(target_name(peer.name, model), title, partial(measure, environment))


def target_name(peer: str, model: str) -> str:
    """`peer zmq`, `peer zmq, mobilenet`"""
    return f"peer {peer}" if model == MODELS[0] else f"peer {peer}, {model}"


def model_of(name: str) -> str | None:
    """The model of a target of this name; None if it is not the target of a peer."""
    kind, _, rest = name.partition(" ")
    return (rest.partition(", ")[2] or MODELS[0]) if kind == "peer" else None


def measure(environment: Environment, bench: OtherSystemBench) -> TargetResult:
    peer = environment.peer
    series: dict[str, RateSeries] = {}
    skipped = _unable(environment, bench.model)
    for workers in bench.workers:
        ways = [way for way in peer.ways if bench.model in way.workloads and way.label not in skipped]
        if not ways or peer.label in skipped:
            break
        broker = bench.broker_arm(workers)
        arms = [broker, *(arm for way in ways for arm in bench.arms(way, workers, environment.python))]
        found, left_out = run_in_turns(arms, bench.rounds, bench.pace, bench.progress, broker.name)
        series |= found
        skipped |= left_out
    figures = [figure for workers in bench.workers for figure in _figures(series, workers)]
    made = target(environment, bench.model)
    return TargetResult(made.name, made.title, "us", series, figures, _notes(environment), skipped)


def _unable(environment: Environment, model: str) -> dict[str, str]:
    """Why none of the peer's ways can be measured, if so, by its label."""
    peer = environment.peer
    why = environment.absent()
    if why is None and not any(model in way.workloads for way in peer.ways):
        why = f"it has no way to serve {model}"
    return {} if why is None else {peer.label: why}


def _figures(series: Mapping[str, RateSeries], workers: int) -> Iterator[Figure]:
    """The broker over each of the peer's ways with as many workers, with the threads that it was quicker with."""
    broker = series.get(f"{BROKER}-{workers}")
    if broker is None:
        return
    by_way: dict[str, list[RateSeries]] = {}
    for one in series.values():
        if one is not broker and one.facts["workers"] == workers:
            by_way.setdefault(one.label, []).append(one)
    for label, several in by_way.items():
        other = best(*several)
        for what, spread, at_least in _ratios(broker, other, workers):
            about = f"{workers} {'worker' if workers == 1 else 'workers'}: {what}"
            yield Figure(f"{about}, broker / {label}", spread, "x", at_least=at_least)


def _ratios(broker: RateSeries, other: RateSeries, workers: int) -> Iterator[tuple[str, Spread, bool]]:
    """What each ratio compares, and whether more is better: the latency with one worker, rate and cost with several."""
    if workers == 1:
        yield "p50", ratio(broker, other, by_p50), False
        return
    yield "answers/s", ratio(broker, other), True
    yield "CPU of an answer", ratio(broker, other, by_cpu), False
    yield "memory", start_ratio(broker, other, "memory_mb"), False
    yield "start", start_ratio(broker, other, "start_s"), False


def _notes(environment: Environment) -> list[str]:
    peer = environment.peer
    asked = f"Its own environment: {peer.version}." if environment.own else ""
    return [text for text in (asked, *peer.notes) if text]

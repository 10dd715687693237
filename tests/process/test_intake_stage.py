"""The broker's own intake, timed in this process: what `python -m benchmarks scaling` predicts from."""

from __future__ import annotations

from benchmarks import workloads
from benchmarks.scaling.costs import Costs
from benchmarks.scaling.intake_stage import stage
from benchmarks.scaling.stages import _broker
from broker.models.spec import ModelSpec

HEAD = "benchmarks.models:head"


def test_every_request_of_a_batch_is_run_and_checked() -> None:
    """As many as are asked for are answered, in one run; none asked for, none run."""
    with stage(ModelSpec("model", HEAD), workloads.make("head:2", 1), channels=3) as intake:
        for requests in (0, 1, 3, 2):
            before = intake.runs
            answered, run, after = intake.time(requests, times=4)
            ran = {rows: times - before.get(rows, 0) for rows, times in intake.runs.items()}
            assert {rows for rows, times in ran.items() if times} == ({2 * requests} if requests else set())
            assert (answered > run > 0 and after > 0) if requests else (answered, run) == (0, 0)


def test_costs_are_fitted_to_what_was_timed() -> None:
    """None is negative, and a batch of one is the single request."""
    found = _broker(HEAD, workloads.make("head:16", 1), 16, times=4)
    assert min(found.values()) >= 0
    assert found["single_us"] > 0
    assert found.keys() < Costs.__dataclass_fields__.keys()

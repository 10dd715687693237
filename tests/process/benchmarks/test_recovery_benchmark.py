"""`python -m benchmarks recovery`: that it measures what it says, not how fast anything is."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import workloads
from benchmarks.__main__ import main
from benchmarks.harness.arm import ArmFailed
from benchmarks.recovery import caller
from benchmarks.recovery.caller import CallerProcess, Met
from benchmarks.recovery.deaths import Death
from tests.brokers import serving, wait_until

HEAD = {"head": "benchmarks.models.functions:head"}


def waits(pid: int) -> bool:
    """Whether its process sleeps: a caller does so in a call only."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_each_caller_tells_of_the_call_that_met_the_death() -> None:
    """One with retries=0 of its error, a patient one of the answer that the next broker gave; both began before."""
    workload = workloads.make("head", 1)
    with serving(models=HEAD, supervise=True) as broker:
        callers = [
            CallerProcess(body, broker.address, "head", workload) for body in (caller.told, caller.patient)
        ]
        try:
            for each in callers:
                each.await_answers(50)
                assert not each.ended
            told, patient = callers
            for _ in range(
                2
            ):  # a broker that is stopped between an answer and its wake-up has answered that call
                broker.signal(signal.SIGSTOP)
                for each in callers:
                    wait_until(partial(waits, each.pid), "its call to wait for the answer")
                broker.next_pid(broker.kill_engine())
                told.await_answers(1)
                if told.ended:
                    break
            met = told.result()
            assert met.error is not None
            assert "went away" in met.error
            patient.await_answers(20)
            patient.progress.stop()
            answered = patient.result()
        finally:
            for each in callers:
                each.close()
    assert answered.error is None
    assert answered.checked >= 70
    assert answered.ended_ns - answered.began_ns > met.ended_ns - met.began_ns > 0


def test_a_wrong_answer_is_no_figure() -> None:
    """A caller whose answer is another one's ends the run."""
    workload = workloads.make("head", 1)
    workload.answers.reverse()
    with serving(models=HEAD) as broker:
        wrong = CallerProcess(caller.patient, broker.address, "head", workload)
        try:
            wrong.await_answers(1)
            with pytest.raises(ArmFailed, match="WrongAnswer"):
                wrong.result()
        finally:
            wrong.close()


def test_times_are_from_the_kill() -> None:
    """A call that began after the kill did not wait for its broker."""
    death = Death(1_000_000, [], [])
    assert death.after_ms(Met(500_000, 3_000_000, "gone", 1)) == 2.0
    assert death.waited(Met(500_000, 3_000_000, "gone", 1))
    assert not death.waited(Met(1_500_000, 3_000_000, "gone", 1))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    """With TensorFlow in it: no patient call fails, and the JSON has every figure."""
    path = tmp_path / "recovery.json"
    result = CliRunner().invoke(
        main, ["recovery", "--kills", "1", "--callers", "2", "--json", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    (target,) = json.loads(path.read_text())["targets"].values()
    figures = {figure["label"]: figure["value"] for figure in target["figures"]}
    assert figures["run again: calls that failed"] == 0

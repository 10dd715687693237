"""Light or heavy: a ServedSignature tells its decision of every run that may matter, and shows what was decided."""

from __future__ import annotations

from typing import Any

import pytest

from broker.counters.failures import Failures
from broker.data_plane.served_signature import ModelQueueLimits, ServedSignature
from broker.host.processor_wait import ProcessorWait
from broker.models.lifecycle.entry import entry_of
from broker.models.python.function import ATTRIBUTE, FunctionModel, signature
from broker.models.spec import ModelSpec
from broker.scheduling.lightness import FAR_TOO_LONG_NS, FIRST_PAUSE_NS, LONG_NS, SHORT_RUNS

US = 1000
ROWS = {"inputs": {"x": ("float32", [None])}, "outputs": {"y": ("float32", [None])}}


class Waits(ProcessorWait):
    """A thread that waited for a processor as long as the test says."""

    lost = 0

    def lost_ns(self, now_ns: int) -> int:
        return self.lost


class Served:
    """A ServedSignature and the clock of its runs."""

    def __init__(self, stateful: bool = False, **settings: Any) -> None:
        function = signature(**ROWS, stateful=stateful)(lambda x: x)
        spec = ModelSpec("m", "app:f", **settings)
        model = FunctionModel(spec, function, getattr(function, ATTRIBUTE))
        self.served = ServedSignature(entry_of(1, model, "serving_default", 1), ModelQueueLimits(spec))
        self.waits = Waits()
        self.now_ns = 1_000_000_000

    def ran(self, run_ns: int, times: int = 1, held_ns: int = 0) -> None:
        for _ in range(times):
            self.now_ns += run_ns
            self.served.ran(1, run_ns, held_ns or run_ns, self.now_ns, self.waits)

    @property
    def state(self) -> tuple[bool, str]:
        message = self.served.to_message(Failures())
        assert message["light"] is self.served.light
        return message["light"], message["why"]


def test_what_is_not_measured_is_heavy_whatever_its_first_run_takes() -> None:
    """And some more: a heavy run on the intake thread holds up all others."""
    found = Served(warmup=False)
    assert found.state == (False, "unmeasured")
    found.ran(300_000 * US)
    found.ran(20 * US, times=SHORT_RUNS - 1)
    assert found.state == (False, "unmeasured")
    found.ran(20 * US)
    assert found.state == (True, "short runs")


def test_what_is_measured_begins_as_it_was() -> None:
    found = Served()
    assert found.state == (True, "measured")


def test_one_long_run_makes_it_heavy() -> None:
    found = Served()
    found.ran(20 * US, times=1000)
    found.ran(FAR_TOO_LONG_NS + 1)
    assert found.state == (False, "long run")
    found.ran(20 * US, times=2 * SHORT_RUNS)
    assert found.state == (False, "long run")
    found.now_ns += FIRST_PAUSE_NS
    found.ran(20 * US)
    assert found.state == (True, "short runs")


def test_two_long_runs_make_it_heavy_unless_many_came_between() -> None:
    """The counters say how many."""
    found = Served()
    counters = found.served.new_counters(1)
    found.ran(LONG_NS + 1)
    counters.sizes[1] = 2 * SHORT_RUNS
    found.ran(LONG_NS + 1)
    assert found.state == (True, "measured")
    counters.sizes[2] = SHORT_RUNS - 1
    found.ran(LONG_NS + 1)
    assert found.state == (False, "long run")


def test_runs_that_fail_count_as_well() -> None:
    """They hold the thread as those do that answer."""
    found = Served()
    found.served.failed(100_000 * US, found.now_ns, found.waits)
    assert found.state == (False, "long run")


def test_what_belongs_to_a_run_counts() -> None:
    """Copying an answer of hundreds of megabytes, say; the time that runs take is told without it."""
    found = Served()
    found.ran(20 * US, held_ns=FAR_TOO_LONG_NS + 1)
    assert found.state == (False, "long run")
    assert found.served.expected_ns < 1000 * US


def test_time_without_a_processor_is_not_the_models() -> None:
    """On a busy machine, any run may take some milliseconds by the clock."""
    found = Served()
    found.waits.lost = 2 * LONG_NS
    found.ran(2 * LONG_NS + 20 * US, times=1000)
    assert found.state == (True, "measured")
    found.ran(2 * LONG_NS + FAR_TOO_LONG_NS + 1)
    assert found.state == (False, "long run")


def test_what_is_stateful_stays_heavy() -> None:
    """One thread runs it, so that its requests keep their order."""
    found = Served(stateful=True)
    found.ran(20 * US, times=10 * SHORT_RUNS)
    assert found.state == (False, "stateful")


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"inline": False}, "inline = false"), ({"max_delay": 0.001, "batching": "on"}, "max_delay")],
)
def test_what_settings_keep_off_the_intake_thread_stays_heavy(settings: dict[str, Any], why: str) -> None:
    found = Served(**settings)
    found.ran(20 * US, times=10 * SHORT_RUNS)
    assert found.state == (False, why)

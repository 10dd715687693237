"""The client's own suites once more, without a broker: the models run in this process, and every assertion holds there
as it does against a real broker. So the double cannot drift from what it stands in for.

Left out is what asks a broker about itself, ends its process, counts its batches or changes shared memory.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import worker_client
from tests.brokers import Gate, folder
from tests.process.calls import (
    test_answers,
    test_batching,
    test_copies,
    test_errors,
    test_keras_calls,
    test_predict,
    test_strings,
    test_zero_copy,
)
from tests.process.models import GATE_VARIABLE, sources
from tests.process.waiting import (
    test_aio,
    test_deadlines,
    test_futures,
    test_loops,
    test_threads,
    test_timings,
)
from tests.process.waiting.test_aio import number, run  # noqa: F401 - fixtures
from tests.process.waiting.test_loops import new_loop  # noqa: F401
from tests.process.waiting.test_timings import exporter, provider  # noqa: F401
from worker_client import Client, testing

SUITES = (
    *(test_aio, test_answers, test_batching, test_copies, test_deadlines, test_errors, test_futures),
    *(test_keras_calls, test_loops, test_predict, test_strings, test_threads, test_timings, test_zero_copy),
)
LEFT_OUT = {
    test_aio.test_no_thread_for_each_call: "counts the broker's workers",
    test_aio.test_calls_given_up_at_any_moment: "counts what the broker has in flight",
    test_aio.test_errors_are_the_sync_clients: "calls an address where no broker is",
    test_answers.test_an_answer_that_outgrows_its_region_leaves_none_behind: "writes into shared memory",
    test_answers.test_strings_that_outgrow_their_region_leave_none_behind: "writes into shared memory",
    test_answers.test_models_take_turns_on_one_slot: "writes into shared memory",
    test_answers.test_requests_of_no_rows_beside_others: "joins requests",
    test_batching.test_what_waits_together_runs_together: "joins requests",
    test_batching.test_a_slow_model_does_not_hold_up_another: "counts batches",
    test_copies.test_pools_are_given_handles_as_arguments: "counts the broker's workers",
    test_loops.test_an_interruption_anywhere: "interrupts each line of the client's channel, which is another here",
    test_strings.test_requests_are_joined_padded_and_cut_apart: "joins requests",
    test_strings.test_a_bad_row_fails_alone: "joins requests",
    test_strings.test_a_request_larger_than_a_batch_runs_in_parts: "splits requests",
    test_strings.test_words_that_no_client_writes: "writes into shared memory",
    test_timings.test_of_a_request_in_several_batches: "splits requests",
    test_zero_copy.test_inputs_are_written_and_outputs_read_in_place: "looks for shared memory",
    test_zero_copy.test_grown_regions_are_shared_memory_too: "looks for shared memory",
}
"""What is about the broker, and not about its client."""


class InProcess:
    """What those tests use of a `TestBroker`."""

    def __init__(self, client: Client, gate: Gate) -> None:
        self.client = client
        self.address = client.address
        self.gate = gate


def _client_for(suite: ModuleType) -> Client:
    """By an address that means the same in other processes; of models with settings, of objects of this process."""
    if hasattr(suite, "MODELS"):
        models = sources(*suite.MODELS)
        return worker_client.connect(
            "inline:" + ",".join(f"{name}={source}" for name, source in models.items())
        )
    return testing.inline(
        {name: {"source": source, **suite.SETTINGS.get(name, {})} for name, source in suite.SOURCES.items()}
    )


@pytest.fixture(scope="module")
def doubles() -> Iterator[Callable[[str], InProcess]]:
    """The double for a suite, made when it is first asked for."""
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        made: dict[str, InProcess] = {}

        def double(suite: str) -> InProcess:
            if suite not in made:
                place = stack.enter_context(folder())
                client = stack.enter_context(_client_for(sys.modules[suite]))
                made[suite] = InProcess(client, Gate(place))
                stack.callback(made[suite].gate.open)
            patch.setenv(GATE_VARIABLE, str(made[suite].gate.folder))
            return made[suite]

        yield double


@pytest.fixture
def broker(request: pytest.FixtureRequest, doubles: Callable[[str], InProcess]) -> InProcess:
    return doubles(request.function.__module__)


@pytest.fixture
def client(broker: InProcess) -> Iterator[Client]:
    with worker_client.connect(broker.address) as client:
        yield client


def _suits(test: Callable[..., Any]) -> bool:
    """Whether it needs nothing of a broker but its address and the gates in its models."""
    wanted = set(inspect.signature(test).parameters)
    used = set(re.findall(r"\bbroker\b(?:\.(\w+))?", inspect.getsource(test)))
    return bool(wanted & {"client", "broker"}) and used <= {"address", "gate", ""} and test not in LEFT_OUT


for suite in SUITES:
    for name, test in vars(suite).items():
        if (
            name.startswith("test_")
            and inspect.isfunction(test)
            and test.__module__ == suite.__name__
            and _suits(test)
        ):
            globals()[f"test_{suite.__name__.rpartition('test_')[2]}_{name.removeprefix('test_')}"] = test

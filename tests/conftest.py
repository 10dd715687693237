"""Fixtures of every test: the leak check, a seed for the run, a marker by folder, a limit for hangs, a client."""

from __future__ import annotations

import faulthandler
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import worker_client
from broker.config.settings import TUNE_VARIABLE
from tests import leaks, side_by_side
from tests.brokers import TestBroker
from worker_client import Client

SEED_VARIABLE = "ONESESSION_SEED"
HANG_GRACE_S = 30

FOLDER_MARKERS = {"tensorflow": pytest.mark.tensorflow, "stress": pytest.mark.slow}

seed_key = pytest.StashKey[int]()
stderr_key = pytest.StashKey[int]()

# No test asserts a duration, hypothesis included; a failing example prints how to repeat it.
hypothesis.settings.register_profile("onesession", deadline=None, print_blob=True)
hypothesis.settings.load_profile("onesession")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # In the environment, so that the processes which tests start can draw from the same seed.
    seed = int(os.environ.setdefault(SEED_VARIABLE, str(random.SystemRandom().randrange(2**32))))
    config.stash[seed_key] = seed
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(seed)
    # The terminal's stderr, as long as it is that: during tests descriptor 2 is pytest's capture file.
    config.stash[stderr_key] = os.dup(2)
    # A broker that a test starts does not measure its models first, unless the test is about that.
    os.environ.setdefault(TUNE_VARIABLE, "off")
    leaks.prepare_process()
    side_by_side.prepare(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[stderr_key])


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.stash[seed_key]} (the same again: {SEED_VARIABLE}={config.stash[seed_key]})"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            folder = item.path.relative_to(here).parts[0]
            if folder in FOLDER_MARKERS:
                item.add_marker(FOLDER_MARKERS[folder])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the run, with the traceback of every thread, when a test outlives its time-out.

    pytest-timeout raises in a signal handler, which runs when the interpreter is reached; code stuck in C never gets
    there. faulthandler needs no interpreter.
    """
    limit_s = timeout_s(item)
    if limit_s:
        faulthandler.dump_traceback_later(
            limit_s + HANG_GRACE_S, exit=True, file=item.config.stash[stderr_key]
        )
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def timeout_s(item: pytest.Item) -> float:
    """The limit that pytest-timeout uses: the test's marker, else the command line, else pyproject.toml."""
    marker = item.get_closest_marker("timeout")
    of_marker = (*marker.args, marker.kwargs.get("timeout"))[0] if marker else None
    for limit in (of_marker, item.config.getoption("timeout", None), item.config.getini("timeout")):
        if limit is not None:
            return float(limit or 0)
    return 0


@pytest.fixture(scope="session", autouse=True)
def run_baseline() -> Iterator[list[leaks.Snapshot]]:
    """Fails the run if fixtures of a module or of the run leave something behind, once all are torn down."""
    baseline = [leaks.Snapshot.take()]
    yield baseline
    fail_for("the run", leaks.find_leaks(baseline[0]))


@pytest.fixture(autouse=True)
def nothing_left_behind(run_baseline: list[leaks.Snapshot], request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves something behind.

    Fixtures of a wider scope are set up before this one, so what they hold is theirs; one that a test asks for only
    while it runs (`request.getfixturevalue`) is counted as the test's.
    """
    before = leaks.Snapshot.take()
    yield
    found = leaks.find_leaks(before)
    request.node.user_properties += [(side_by_side.UNJUDGED, name) for name in leaks.unjudged(before)]
    run_baseline[0] = run_baseline[0].including(found)  # reported now, not once more at the end
    fail_for("this test", found)


def fail_for(who: str, found: leaks.Leaks) -> None:
    if found:
        message = f"{who} {found.report()}"
        found.contain()
        pytest.fail(message, pytrace=False)


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed, which its first lines print."""
    return request.config.stash[seed_key]


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator for this test only: the same for one seed, whatever tests run before it."""
    return np.random.default_rng([seed, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture
def client(broker: TestBroker) -> Iterator[Client]:
    """A client of the folder's, or the module's, `broker`."""
    with worker_client.connect(broker.address) as client:
        yield client

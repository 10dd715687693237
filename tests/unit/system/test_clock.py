"""No wait depends on the realtime clock, which may be set at any time: by reading the code, as no test may set it."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker_client.system import clock

ROOT = Path(__file__).parents[3]
FILES = sorted(path for package in ("worker_client", "broker") for path in (ROOT / package).rglob("*.py"))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """The last name of every function that is called, and the call."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Call):
            function = node.func
            yield getattr(function, "attr", getattr(function, "id", "")), node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_waits_on_a_semaphore_with_a_time_limit(path: Path) -> None:
    """`acquire` is called without a time-out, which POSIX counts on the realtime clock, or with 0, which waits not.

    The one exception is the time-out of a waiting thread: it is a lock's of the interpreter, as in every condition of
    the standard library, and who waits looks again after a second.
    """
    for name, call in calls(path):
        if name == "acquire":
            arguments = [ast.unparse(argument) for argument in (*call.args, *call.keywords)]
            allowed = arguments in ([], ["0"], ["blocking=False"]) or "semaphore.acquire(" in ast.unparse(
                call
            )
            allowed |= path.name == "condition.py" and ast.unparse(call.func) == "self._asleep.acquire"
            assert allowed, f"{path}:{call.lineno}"
        assert name not in ("sem_timedwait", "sem_clockwait"), f"{path}:{call.lineno}"


def test_a_worker_reads_the_monotonic_clock_only() -> None:
    """The worker's packages take no time from the realtime clock."""
    for path in FILES:
        if path.is_relative_to(ROOT / "worker_client"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "time":
                    allowed = {"sleep"}
                    if path.name == "otel.py":  # spans carry the time of day, and nobody waits by it
                        allowed.add("time_ns")
                    assert {alias.name for alias in node.names} <= allowed, path
                elif isinstance(node, ast.Import):
                    assert all(alias.name != "datetime" for alias in node.names), path
                elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time":
                    assert node.attr == "sleep", path  # by its module, so that gevent's patch reaches it


def test_one_module_owns_the_clock() -> None:
    """No other module uses a function of `time` that a test suite may have frozen: see
    `worker_client/system/clock.py`."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time":
                names = [node.attr]
            assert not any(name.startswith(("monotonic", "perf_counter")) for name in names), path


def test_the_clock_is_the_kernels() -> None:
    """What the other process reads, whatever it is; and no function that a module named `time` holds."""
    for name in ("monotonic_ns", "perf_counter_ns"):
        ours, others = getattr(clock, name), getattr(time, name)
        assert ours is not others
        before = others()
        now = ours()
        assert before <= now <= others()

"""Several pytest processes that share one run: which tests wait for which, and which test a leak belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import leaks

pytestmark = pytest.mark.alone  # the names that tests beside these leave would be theirs

PROLOGUE = """
import pathlib, subprocess, sys, time
import pytest

HERE = pathlib.Path({here!r})


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


def ended_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs each of these sources as a file of its own, in two processes, under this project's conftest."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*sources: str) -> pytest.RunResult:
        prologue = PROLOGUE.format(here=str(tmp_path))
        pytester.makepyfile(**{f"test_{i}": prologue + source for i, source in enumerate(sources)})
        plugins = (text for name in ("tests.conftest", "pytest_timeout", "xdist") for text in ("-p", name))
        return pytester.runpytest_subprocess(*plugins, "-n", "2", "--dist", "loadfile", "-o", "timeout=60")

    return run


def test_nothing_runs_beside_a_test_that_is_alone(run):
    """Those that begin meanwhile wait for its end, and it for the end of those that run."""
    alone = """
@pytest.mark.alone
@pytest.mark.parametrize("number", range(3))
def test_alone(number):
    for _ in range(20):
        assert not (HERE / "running").exists()
        time.sleep(0.02)

def test_not_alone(): pass
"""
    others = """
@pytest.mark.parametrize("number", range(20))
def test_other(number):
    (HERE / "running").touch()
    time.sleep(0.05)
    (HERE / "running").unlink()
"""
    run(alone, others).assert_outcomes(passed=24)


def test_the_others_run_side_by_side(run):
    """Two tests that wait for one another pass."""
    one, other = (
        f"""
def test_meets():
    (HERE / "{mine}").touch()
    wait_for(HERE / "{theirs}")

def test_next(): pass
"""
        for mine, theirs in ("ab", "ba")
    )
    run(one, other).assert_outcomes(passed=4)


def test_a_name_of_an_ended_process_is_no_leak_of_the_others_tests(run):
    """A broker that one process has killed leaves names for a while, which another process's test sees come."""
    holder = """
def test_holds():
    wait_for(HERE / "begun")
    name = pathlib.Path(f"/dev/shm/sem.onesession.0123456789ab.{ended_pid()}.1")
    name.touch()
    (HERE / "held").touch()
    wait_for(HERE / "passed")
    name.unlink()

def test_next(): pass
"""
    witness = """
def test_sees():
    (HERE / "begun").touch()
    wait_for(HERE / "held")

def test_next():
    (HERE / "passed").touch()
"""
    run(holder, witness).assert_outcomes(passed=4)


def test_a_name_of_an_ended_process_that_stays_fails_the_run(run):
    """With the tests after which it was first there; it is gone afterwards."""
    leaky = """
def test_leaky():
    name = pathlib.Path(f"/dev/shm/sem.onesession.0123456789ab.{ended_pid()}.1")
    name.touch()

def test_clean(): pass
"""
    result = run(leaky, "def test_clean(): pass")
    result.assert_outcomes(passed=3, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["the run left behind: shared-memory name /dev/shm/sem.onesession.*", "  test_0.py::test_leaky"]
    )
    name = Path(result.stdout.str().partition("shared-memory name ")[2].split()[0])
    assert name.parent == leaks.SHM
    assert not name.exists()


def test_a_name_of_a_living_process_is_its_tests_leak(run):
    """At once, and not once more at the end."""
    leaky = """
import os

def test_leaky():
    pathlib.Path(f"/dev/shm/sem.onesession.0123456789ab.{os.getpid()}.1").touch()

def test_clean(): pass
"""
    result = run(leaky, "def test_clean(): pass")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["this test left behind:"])
    result.stdout.no_fnmatch_line("the run left behind*")


def test_what_several_need_is_made_once(run, tmp_path):
    """By whichever process asks first; the others wait for it."""
    source = """
from tests.side_by_side import made_once

def make(folder):
    folder.mkdir()
    with (HERE / "made").open("a") as file:
        file.write("once ")
    time.sleep(0.2)
    (folder / "ready").touch()

@pytest.mark.parametrize("number", range(3))
def test_asks(tmp_path_factory, number):
    assert (made_once(tmp_path_factory, "costly", make) / "ready").exists()
"""
    run(source, source).assert_outcomes(passed=6)
    assert (tmp_path / "made").read_text() == "once "

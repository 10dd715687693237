"""The leak fixture itself: each kind of leak fails the test that made it, by name, and nothing else does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import leaks

PROLOGUE = """
import os, pathlib, subprocess, sys, threading, time
import pytest
from tests import leaks

leaks.GRACE_S = {grace_s}
leaks.Snapshot.shared = {beside_others}
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
kept = []
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Runs test source in a pytest of its own, under this project's conftest."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # which would take most of the time

    def run(source: str, grace_s: float = 0.1, beside_others: bool = True) -> pytest.RunResult:
        pytester.makepyfile(PROLOGUE.format(grace_s=grace_s, beside_others=beside_others) + source)
        return pytester.runpytest_subprocess(
            "-p", "tests.conftest", "-p", "pytest_timeout", "-o", "timeout=60"
        )

    return run


def only_leak(result: pytest.RunResult) -> str:
    """The one line by which the run names its one leak."""
    result.assert_outcomes(passed=1, errors=1)
    text = result.stdout.str()
    (listing,) = re.findall(r"^this test left behind:\n((?:  .+\n)+)", text, re.MULTILINE)
    (line,) = listing.splitlines()
    return line.strip()


def test_a_clean_test_passes(run):
    """Holding something of each kind is no leak when the test gives it back."""
    source = """
def test_clean(tmp_path):
    name = pathlib.Path(f"/dev/shm/onesession-test-{os.getpid()}")
    with open(name, "w"), subprocess.Popen(SLEEP) as process:
        thread = threading.Thread(target=process.wait)
        thread.start()
        process.kill()
        thread.join()
    name.unlink()
"""
    run(source).assert_outcomes(passed=1)


@pytest.mark.alone  # the names of tests beside it would be its own
@pytest.mark.parametrize("prefix", leaks.NAME_PREFIXES)
def test_a_shared_memory_name_is_named_and_unlinked(run, prefix):
    """A name left in /dev/shm fails its test, and is gone afterwards."""
    source = f"""
def test_leaky():
    pathlib.Path(f"/dev/shm/{prefix}-test-{{os.getpid()}}").touch()
"""
    line = only_leak(run(source, beside_others=False))
    assert re.fullmatch(rf"shared-memory name /dev/shm/{re.escape(prefix)}-test-\d+", line)
    assert not Path(line.split()[-1]).exists()


OTHER_RUN = """
import mmap, pathlib, sys, time
name, go, there = map(pathlib.Path, sys.argv[1:])
while not go.exists():
    time.sleep(0.01)
name.write_bytes(bytes(mmap.PAGESIZE))
with open(name, "r+b") as file:
    view = mmap.mmap(file.fileno(), 0)
there.touch()
sys.stdin.read()
name.unlink()
"""


@pytest.mark.alone
def test_a_name_that_another_run_has_mapped_is_no_leak(run, tmp_path):
    """Two test runs on one machine take nothing from each other."""
    name, go, there = Path(f"/dev/shm/onesession-other-{os.getpid()}"), tmp_path / "go", tmp_path / "there"
    source = f"""
def test_beside_another_run():
    pathlib.Path({str(go)!r}).touch()
    while not pathlib.Path({str(there)!r}).exists():
        time.sleep(0.01)
"""
    command = [sys.executable, "-c", OTHER_RUN, name, go, there]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as other:
        run(source, beside_others=False).assert_outcomes(passed=1)
        assert name.exists()
        other.communicate()


def test_a_child_process_is_named_and_killed(run):
    """A child that outlives its test fails it, and is killed."""
    line = only_leak(run("def test_leaky(): kept.append(subprocess.Popen(SLEEP))"))
    match = re.fullmatch(
        rf"process (\d+): {re.escape(sys.executable)} -c import time; time.sleep\(600\)", line
    )
    assert match, line
    assert not psutil.pid_exists(int(match[1]))


def test_an_orphan_is_found(run):
    """A grandchild whose parent has died is a leak of the test as well."""
    source = """
def test_leaky():
    subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.Popen({SLEEP})"], check=True)
"""
    assert only_leak(run(source)).endswith("-c import time; time.sleep(600)")


def test_a_thread_is_named_with_its_place(run):
    """A thread that runs on fails its test, with the line it stands at."""
    source = """
def wait_forever(event): event.wait()

def test_leaky():
    threading.Thread(target=wait_forever, args=(threading.Event(),), name="watcher", daemon=True).start()
"""
    assert re.fullmatch(r"thread 'watcher' \(daemon\), at .+:\d+ in wait", only_leak(run(source)))


@pytest.mark.parametrize(
    ("opening", "target"),
    [
        ("os.open('/etc/passwd', os.O_RDONLY)", "/etc/passwd"),
        ("os.memfd_create('scratch')", "/memfd:scratch"),
        ("os.dup(0)", "/dev/null"),
    ],
)
def test_a_descriptor_is_named_with_its_target(run, opening, target):
    """A descriptor left open fails its test, with what it is open on."""
    line = only_leak(run(f"def test_leaky(): kept.append({opening})"))
    assert re.fullmatch(rf"descriptor \d+ -> {re.escape(target)}", line)


def test_what_ends_within_the_grace_is_no_leak(run):
    """A thread or child on its way out when the test returns is waited for."""
    source = """
def test_ends_soon():
    threading.Thread(target=time.sleep, args=(0.3,)).start()
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"]))
"""
    run(source, grace_s=30).assert_outcomes(passed=1)


def test_what_a_wider_fixture_holds_is_not_the_test_s(run):
    """A module's fixture may hold resources over its tests, as long as it gives them back."""
    source = """
@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()

def test_one(server): pass
def test_two(server): pass
"""
    run(source).assert_outcomes(passed=2)


def test_what_a_wider_fixture_leaves_fails_the_run(run):
    """What a module's fixture never gives back is reported when the run ends."""
    source = """
@pytest.fixture(scope="module")
def server():
    kept.append(subprocess.Popen(SLEEP))

def test_one(server): pass
"""
    result = run(source)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the run left behind:", "  process *time.sleep(600)"])


def test_a_leak_is_reported_once(run):
    """Neither the next test nor the end of the run is blamed for what a test has left behind."""
    source = """
def test_leaky():
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    kept.append((subprocess.Popen(SLEEP), os.dup(0)))

def test_clean(): pass
"""
    result = run(source)
    result.assert_outcomes(passed=2, errors=1)
    assert re.findall(r"^(this test|the run) left behind:", result.stdout.str(), re.MULTILINE) == [
        "this test"
    ]

"""`python -m tests.mutants.trial SECONDS TEST...`: run tests of the checkout in the working directory until one fails.

Ends with 0 if all passed, with 1 if one failed or hung, with 3 if the outcome says nothing. It ends every process that
the tests left behind, also when it is stopped itself or its parent dies.
"""

from __future__ import annotations

import ctypes
import re
import shlex
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import psutil

from tests.mutants.copy import environment

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ARGUMENTS = ("-q", "-x", "--timeout=60", "--no-header", "--tb=no", "-p", "no:cacheprovider")
_SECONDS_ALONE = 200.0
_SAYS_NOTHING = (2, 4, 5)  # pytest: interrupted, wrong usage, no test found
_NO_VERDICT = 3


def main() -> int:
    seconds, tests = float(sys.argv[1]), sys.argv[2:]
    adopt_orphans()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # a shell's & and nohup ignore them
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    command = [sys.executable, "-m", "pytest", *_ARGUMENTS, *tests]
    try:
        pytest = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = pytest.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"no verdict: the tests take longer than {seconds:g} s")
        return _NO_VERDICT
    finally:
        end_children()
    return _verdict(pytest.returncode, out)


def _verdict(status: int, out: str) -> int:
    if status == 0:
        print("survived")
        return 0
    failed = [line for line in out.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if status in _SAYS_NOTHING and not failed:
        print(out)
        return _NO_VERDICT
    print(f"killed by: {failed[0] if failed else ' '.join(out.split())[-200:]}")
    return 1


def tried(copy: Path, path: str, text: str, tests: str, seconds: float) -> str:
    """The verdict of these tests on the copy with this text in one of its files: "killed by: ...", "survived" or
    "no verdict: ...". A test that also fails on good code has not killed anything."""
    file = copy / path
    good = file.read_text()
    file.write_text(text)
    try:
        verdict = _run(copy, tests, seconds)
    finally:
        file.write_text(good)
    found = re.match(r"killed by: (?:FAILED|ERROR) (.+?)(?: - |$)", verdict)
    if found is not None and not _passes(copy, found[1]):
        return f"no verdict: {found[1]} fails on good code, too"
    return verdict if verdict.startswith(("killed", "survived", "no verdict")) else f"no verdict: {verdict}"


@cache
def _passes(copy: Path, test: str) -> bool:
    return _run(copy, shlex.quote(test), _SECONDS_ALONE) == "survived"


def _run(copy: Path, tests: str, seconds: float) -> str:
    """The last line that a trial in a process of its own prints."""
    command = [sys.executable, "-m", "tests.mutants.trial", str(seconds), *shlex.split(tests)]
    done = subprocess.run(
        command, cwd=copy, env=environment(copy), capture_output=True, text=True, check=False
    )
    return ((done.stdout or done.stderr).strip().splitlines() or ["no output"])[-1]


def adopt_orphans() -> None:
    """Become the parent of what a killed broker or test leaves behind, so that `end_children` finds it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_children() -> None:
    """Kill every descendant by its pid. Repeated, because children of a killed process become ours."""
    while children := psutil.Process().children(recursive=True):
        for child in children:
            child.kill()
        psutil.wait_procs(children, timeout=10)


if __name__ == "__main__":
    sys.exit(main())

"""When a benchmark takes the programs of the arms before for quiet."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.harness.host.cpu import NotQuiet, wait_until_quiet

_STOPPED_AT_TIMES = """
import time
print(flush=True)
while True:
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    time.sleep(0.08)
"""


def test_a_program_that_a_quota_stops_at_times_is_not_quiet() -> None:
    """It uses no processor for most of each period; the next arm's window would share the quota with it."""
    with subprocess.Popen([sys.executable, "-c", _STOPPED_AT_TIMES], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(NotQuiet, match=f"{process.pid}"):
                wait_until_quiet([process.pid], timeout_s=1, look_s=0.3)
            process.kill()
            process.wait()
            wait_until_quiet([process.pid], look_s=0.3)
        finally:
            process.kill()

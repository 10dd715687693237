"""What is read of the machine: quotas, other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from broker.host.usage import cpu_s
from broker.tuning import machine
from broker.tuning.candidates import Processors


def test_a_quota_leaves_so_many_processors(monkeypatch):
    """Rounded up, at least one, at most those there are."""
    monkeypatch.setattr(machine, "cores", lambda: 8)
    for quota, usable in ((None, 8), (0.2, 1), (1.5, 2), (2.0, 2), (100.0, 8)):
        monkeypatch.setattr(machine, "quota", lambda quota=quota: quota)
        assert machine.processors() == Processors(8, usable)


def test_the_description_is_plain_and_steady():
    """It can be written as JSON, and is the same a moment later."""
    told = machine.describe()
    assert json.loads(json.dumps(told)) == told == machine.describe()
    assert told["processors"] == len(os.sched_getaffinity(0))


def test_what_changes_tensorflow_is_part_of_it(monkeypatch):
    """Its own switches are; those of other programs that begin alike, and the oneDNN switch, are not."""
    before = machine.describe()
    monkeypatch.setenv("TF_VAR_password", "secret")
    monkeypatch.setenv(machine.ONEDNN_VARIABLE, "0")
    assert machine.describe() == before
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "3")
    assert machine.describe() != before


def test_other_processes_are_seen_and_our_own_are_not():
    """A process that we name counts as ours."""
    code = "import time\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
        try:
            busy.stdout.readline()
            ours, theirs = machine.OtherProcesses([busy.pid]), machine.OtherProcesses([])
            used = cpu_s([busy.pid])
            while cpu_s([busy.pid]) < used + 0.3:
                time.sleep(0.02)
            assert theirs.share() > ours.share()
        finally:
            busy.kill()
    assert cpu_s([busy.pid]) == 0


def test_where_nobody_tells_nothing_is_busy(monkeypatch):
    """A machine without /proc/stat is not taken for busy."""
    monkeypatch.setattr(machine, "busy_s", lambda processors: 0.0)
    assert machine.OtherProcesses([]).share() == 0

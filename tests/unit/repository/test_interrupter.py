"""The tests' own tool that raises where a signal handler may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

GARBAGE = """
import gc
from tests.interrupts import Interrupter

class Cycle:
    def __init__(self):
        self.me = self

    def __del__(self):
        str(self)

    def __str__(self):
        return ""

def code():
    for _ in range(50):
        Cycle()
        tuple(x for x in ())

gc.set_threshold(1)
place = 1
while True:
    interrupter = Interrupter(place)
    interrupter.run(code)
    if not interrupter.where:
        break
    place += 1
print(place)
"""


def test_it_may_raise_in_what_the_garbage_collector_runs() -> None:
    """CPython 3.11 then called its trace function after it had freed it; that memory is overwritten here."""
    debugged = {**os.environ, "PYTHONMALLOC": "debug"}
    places = subprocess.check_output([sys.executable, "-c", GARBAGE], cwd=ROOT, env=debugged, timeout=300)
    assert int(places) > 50

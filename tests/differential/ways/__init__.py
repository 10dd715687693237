"""The ways to call a model.

way.py         what a way is, and who may go it
waiting.py     predict, requests in place, sessions, Keras, in a hurry, copies of handles
futures.py     submit, cancel, map; loops.py the same in an event loop
processes.py   signals and forks
"""

from __future__ import annotations

from tests.differential.ways import futures, loops, processes, waiting
from tests.differential.ways.way import Setup, Way

__all__ = ["USUAL", "WAYS", "Setup", "Way"]

WAYS = {way.name: way for way in (*waiting.WAYS, *futures.WAYS, *loops.WAYS, *processes.WAYS)}
USUAL = {name: way for name, way in WAYS.items() if name != "forked_in_c"}
"""A fork in C while other threads wait for the interpreter's lock may leave a child that hangs inside CPython, before
any code of ours runs there: that way is to be asked for by name. tests/process/workers/test_fork_unnoticed.py goes it
alone."""

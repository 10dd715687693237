"""The clock for deadlines and pauses: CLOCK_MONOTONIC, which both sides share.

Test suites freeze `time`: freezegun replaces `time.monotonic_ns` in every module that holds it, and `mock.patch`
replaces it in the module `time`. Deadlines read from such a clock would be in 1970, or never pass. So these are
functions of a second `time` module, which no other code holds; they cost the same. time-machine does not change the
monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from importlib.util import find_spec, module_from_spec

_spec = BuiltinImporter.find_spec("time") or find_spec("time")
assert _spec is not None
_time = module_from_spec(_spec)

monotonic: Callable[[], float] = _time.monotonic
monotonic_ns: Callable[[], int] = _time.monotonic_ns
perf_counter: Callable[[], float] = _time.perf_counter
perf_counter_ns: Callable[[], int] = _time.perf_counter_ns
thread_time_ns: Callable[[], int] = _time.thread_time_ns

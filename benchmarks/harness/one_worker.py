"""The process of an arm of one worker: opens the arm, then runs a window of calls at each message.

rounds.py (another process)                  this process
{"run": (calls, warm-up)}  -- socket -->     calls, each timed, each answer checked
                           <-- socket --     {"taken_ns": array, "checked": n} or {"error": text}
end of the socket          ----------->      closes the arm and ends
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from array import array
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Any

from benchmarks import workloads
from benchmarks.harness.timed import Timed
from benchmarks.workloads import Checker, Workload
from broker.bench.load.forks import die_with_parent, messages


def run_window(timed: Timed, workload: Workload, checker: Checker, calls: int) -> array[int]:
    """Nanoseconds of each call. Raises WrongAnswer."""
    call, prepare, read, elapsed_ns = timed.call, timed.prepare, timed.read, timed.elapsed_ns
    inputs, check, clock = workload.inputs, checker.check, perf_counter_ns
    taken = array("q", bytes(8 * calls))
    for number in range(calls):
        index = number % len(inputs)
        x = inputs[index]
        if prepare is not None:
            prepare(x)
        start = clock()
        result = call(x)
        end = clock()
        taken[number] = end - start if elapsed_ns is None else elapsed_ns(result)
        check(index, result if read is None else read(result))
    return taken


def serve(connection: Connection, spec: dict[str, Any]) -> None:
    workload = workloads.make(spec["workload"], spec["seed"])
    checker = Checker(workload)
    with resolve(spec["factory"])(workload, **spec["options"]) as timed:
        run_window(timed, workload, checker, len(workload.inputs))  # first use is not what is measured
        connection.send({"ready": True})
        for message in messages(connection):
            calls, warm_up = message["run"]
            run_window(timed, workload, checker, warm_up)
            checked = checker.checked
            taken = run_window(timed, workload, checker, calls)
            connection.send({"taken_ns": taken, "checked": checker.checked - checked})


def resolve(factory: str) -> Callable[..., Any]:
    """The factory in "package.module:name"."""
    module, _, name = factory.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def main(serve: Callable[[Connection, dict[str, Any]], None] = serve) -> None:
    """The body of an arm's process: `serve` until the socket ends, or say what went wrong."""
    die_with_parent()
    connection = Connection(int(sys.argv[1]))
    try:
        serve(connection, json.loads(sys.argv[2]))
    except Exception:
        traceback.print_exc()
        with suppress(BrokenPipeError):
            connection.send({"error": traceback.format_exc(limit=-3)})
        sys.exit(1)


if __name__ == "__main__":
    main()

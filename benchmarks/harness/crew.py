"""The process of an arm with several workers: opens what they share, forks them, and runs windows in all at once.

bout (another process)                       this process                        its members
{"run": (seconds, warm-up)} -- socket -->    start and end of the window ----->  harness/member.py
                            <-- socket --    {"window": RateWindow,       <----  Tally of each
                                              "checked": n}
                                             or {"error": text}
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from time import monotonic_ns
from typing import Any

from benchmarks import workloads
from benchmarks.harness.cpu import descendants
from benchmarks.harness.member import MemberFailed, MemberProcess, Tally
from benchmarks.harness.rounds import starting
from benchmarks.harness.subject import main, resolve
from benchmarks.harness.timed import Crew
from benchmarks.rates import RateWindow
from benchmarks.sampling import Window
from broker.host.usage import busy_s, cpu_s

START_TIMEOUT_S = 110.0
WINDOW_TIMEOUT_S = 60.0
_LEAD_NS = 5_000_000  # for the word to reach every member


def serve(connection: Connection, spec: dict[str, Any]) -> None:
    workload = workloads.make(spec["workload"], spec["seed"])
    with (
        resolve(spec["factory"])(workload, **spec["options"]) as crew,
        starting([partial(MemberProcess, member) for member in crew.members]) as members,
    ):
        for member in members:
            member.receive(START_TIMEOUT_S)
        connection.send({"facts": dict(crew.facts)})
        while True:
            try:
                seconds, warm_up_s = connection.recv()["run"]
            except EOFError:
                return
            connection.send(_window(crew, members, seconds, warm_up_s))


def _window(crew: Crew, members: list[MemberProcess], seconds: float, warm_up_s: float) -> dict[str, Any]:
    before = Counter(crew.batches())
    start = monotonic_ns() + _LEAD_NS + int(warm_up_s * 1e9)
    end = start + int(seconds * 1e9)
    for member in members:
        member.run(start, end)
    load = _load_between(start, end)
    tallies = [member.receive(WINDOW_TIMEOUT_S) for member in members]
    counted = [tally for member, tally in zip(members, tallies) if member.counted]
    beside = [tally for member, tally in zip(members, tallies) if not member.counted]
    window = _summed(counted, beside, load, Counter(crew.batches()) - before)
    return {"window": window, "checked": sum(tally.checked for tally in tallies)}


def _summed(
    counted: Sequence[Tally], beside: Sequence[Tally], load: tuple[float, float], batches: Counter[int]
) -> RateWindow:
    taken = array("q")
    for tally in counted:
        taken.extend(tally.taken_ns)
    if not taken:
        raise MemberFailed("no answer came in a whole window")
    per_s, beside_per_s = (sum(tally.per_s for tally in tallies) for tallies in (counted, beside))
    return RateWindow(per_s, Window.of(taken), *load, beside_per_s, dict(sorted(batches.items())))


def _load_between(start_ns: int, end_ns: int) -> tuple[float, float]:
    """Cores that the arm's tree of processes keeps busy between two moments to come, and that all others do."""
    pids = descendants()
    seen = []
    for moment in (start_ns, end_ns):
        time.sleep(max(0, moment - monotonic_ns()) / 1e9)
        seen.append((monotonic_ns() / 1e9, cpu_s(pids), busy_s()))
    took_s, ours_s, all_s = (after - before for before, after in zip(*seen))
    return ours_s / took_s, max(0.0, all_s - ours_s) / took_s


if __name__ == "__main__":
    main(serve)

"""Converts traced runs to events of Chrome's trace format, which Perfetto also reads. Pure.

    process "broker", one per thread   [ wait: joining ][ run ][ copy ]
                                              ^ arrow from each request's submission
    process "worker PID", one per slot [ queue ][ wait      ][ run ][ copy ]

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU describes the format. Times are
microseconds from the first event on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from broker.counters.counted import counted
from broker.data_plane.tracer import TracedRequest, TracedRun

Event = dict[str, Any]


def to_events(runs: Iterable[Sequence[Any]], broker_pid: int) -> list[Event]:
    """The events of `runs`, which come from `Tracer.take`, directly or through msgpack."""
    known = [
        TracedRun._make([*run[:-1], tuple(TracedRequest(*request) for request in run[-1])]) for run in runs
    ]
    if not known:
        return []
    zero = min(min([run.begun_ns, *(each.stamps[0] for each in run.requests)]) for run in known)
    threads = {name: number for number, name in enumerate(dict.fromkeys(run.thread for run in known), 1)}
    events = list(_names(known, broker_pid, threads))
    shown: set[tuple[int, ...]] = set()
    for number, run in enumerate(known):
        events += _of_run(run, broker_pid, threads[run.thread], zero)
        for request in run.requests:
            use = (request.pid, request.channel, request.slot, request.sequence)
            if use not in shown:  # a request that ran in parts is in several runs
                shown.add(use)
                events += _of_request(request, run, zero)
            arrow = f"{number}:{'.'.join(map(str, use))}"
            events += _arrow(arrow, request, run, broker_pid, threads[run.thread], zero)
    return events


def _names(runs: list[TracedRun], broker_pid: int, threads: dict[str, int]) -> Iterator[Event]:
    yield _meta("process_name", broker_pid, 0, f"broker {broker_pid}")
    yield {**_meta("process_sort_index", broker_pid, 0, ""), "args": {"sort_index": -1}}
    for name, number in threads.items():
        yield _meta("thread_name", broker_pid, number, name.removeprefix("onesession-"))
    slots = sorted({(each.pid, each.channel, each.slot) for run in runs for each in run.requests})
    for pid in dict.fromkeys(pid for pid, _, _ in slots):
        yield _meta("process_name", pid, 0, f"worker {pid}")
    for pid, channel, slot in slots:
        yield _meta("thread_name", pid, _line(channel, slot), f"slot {slot}")


def _line(channel: int, slot: int) -> int:
    return channel * 1000 + slot + 1


def _of_run(run: TracedRun, pid: int, thread: int, zero: int) -> Iterator[Event]:
    about = {
        "model": run.model,
        "version": run.version,
        "signature": run.signature,
        "rows": run.rows,
        "padding": run.padding,
        "requests": len(run.requests),
    }
    title = f"{run.model}: {counted(run.rows, 'row')}"
    yield _slice(title, "batch", pid, thread, run.begun_ns, run.ended_ns, zero, about)
    steps = (("join", run.begun_ns, run.started_ns), ("run", run.started_ns, run.finished_ns))
    for name, begin, end in (*steps, ("copy", run.finished_ns, run.ended_ns)):
        if end > begin:
            yield _slice(name, "batch", pid, thread, begin, end, zero)


def _of_request(request: TracedRequest, run: TracedRun, zero: int) -> Iterator[Event]:
    submitted, taken, completed = request.stamps
    end = completed or run.ended_ns
    pid, line = request.pid, _line(request.channel, request.slot)
    about = {"model": run.model, "sequence": request.sequence, "answered": bool(completed)}
    yield _slice(run.model, "request", pid, line, submitted, end, zero, about)
    steps = (
        ("queue", submitted, taken),
        ("wait", taken, run.started_ns),
        ("run", run.started_ns, run.finished_ns),
    )
    for name, begin, finish in (*steps, ("copy", run.finished_ns, end)):
        if finish > begin:
            yield _slice(name, "request", pid, line, begin, min(finish, end), zero)


def _arrow(
    number: str, request: TracedRequest, run: TracedRun, pid: int, thread: int, zero: int
) -> Iterator[Event]:
    common = {"name": "batch", "cat": "flow", "id": number}
    line = _line(request.channel, request.slot)
    yield {**common, "ph": "s", "pid": request.pid, "tid": line, "ts": (request.stamps[0] - zero) / 1000}
    yield {**common, "ph": "f", "bp": "e", "pid": pid, "tid": thread, "ts": (run.started_ns - zero) / 1000}


def _slice(
    name: str, kind: str, pid: int, thread: int, begin: int, end: int, zero: int, args: Event | None = None
) -> Event:
    event = {"name": name, "cat": kind, "ph": "X", "pid": pid, "tid": thread}
    return {
        **event,
        "ts": (begin - zero) / 1000,
        "dur": (end - begin) / 1000,
        **({"args": args} if args else {}),
    }


def _meta(what: str, pid: int, thread: int, name: str) -> Event:
    return {"name": what, "ph": "M", "pid": pid, "tid": thread, "args": {"name": name}}

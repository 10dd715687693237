"""What `onesession top` draws from two answers to `stats`."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from rich.console import Console

from broker.cli.top_screen import History, frame
from broker.counters.histogram import Histogram
from broker.counters.thread_counters import STAGES
from broker.observe.summary import figures, label_of, shown


def worker(channel: int, pid: int, requests: int) -> dict[str, Any]:
    return {
        "pid": pid,
        "channel": channel,
        "slots": 8,
        "in_flight": 1,
        "in_ring": 0,
        "requests": requests,
        "shared_memory_bytes": 70_000,
    }


def signature(model: str, requests: int, errors: int) -> dict[str, Any]:
    histogram = Histogram()
    histogram.counts[28] = requests
    return {
        "model": model,
        "version": 1,
        "signature": "serving_default",
        "light": True,
        "why": "measured",
        "inline_runs": 0,
        "stateful": "",
        "requests": requests,
        **dict.fromkeys(("rows", "runs"), requests),
        **dict.fromkeys(("padded_rows", "output_bytes", "joined_bytes"), 0),
        "errors": {"ModelFailed": errors} if errors else {},
        "sizes": [[1, requests]],
        "paddings": [],
        "stages": {stage: histogram.to_message() for stage in STAGES},
    }


def answer(
    time: float, requests: int, *workers: dict[str, Any], models: tuple[str, ...] = ("digits",), **more: Any
) -> dict[str, Any]:
    return {
        "time": time,
        "pid": 77,
        "uptime_seconds": time,
        "restarts": 0,
        "process": {"cpu_seconds": time / 4, "resident_bytes": 300 << 20, "threads": 5},
        "shared_memory": {"bytes": 140_000, "limit": 1 << 30},
        "slots": {"free": 14, "submitted": 0, "held": 0, "taken": 1, "running": 1},
        "queues": {model: {"rows": 0, "bytes": 0, "held": 0} for model in models},
        "workers": list(workers),
        "signatures": [signature(model, requests, requests // 10) for model in models],
        **more,
    }


def drawn(history: History, height: int = 24, note: str = "") -> list[str]:
    console = Console(width=80, height=height, legacy_windows=False)
    with console.capture() as capture:
        console.print(frame(history, 80, height, note))
    return [line.rstrip() for line in capture.get().splitlines()]


def row(lines: list[str], first: str) -> list[str]:
    return next(line.split() for line in lines if line.startswith(first))


def test_rates_are_of_the_time_between():
    """Of the model, of the broker's processor, and of each worker: two clients of one process are two."""
    history = History()
    history.add(answer(100.0, 50, worker(1, 11, 40), worker(2, 11, 10)))
    history.add(answer(102.0, 90, worker(1, 11, 70), worker(2, 11, 20)))
    lines = drawn(history)
    assert "20 requests/s" in lines[0]
    assert "CPU 25%" in lines[1]
    assert row(lines, "digits")[1] == "20"
    assert row(lines, "digits")[-1] == "2"
    assert [line.split()[1] for line in lines if line.startswith("11 ")] == ["15", "5"]


@pytest.mark.parametrize(
    ("polling", "reason", "text"),
    [
        ("freely", "quiet", "workers poll (quiet)"),
        ("yielding", "crowd", "workers poll and yield (crowd)"),
        ("no", "others", "workers block (others use 1.3 of 2 cores)"),
        ("no", "quota", "workers block (a quota of 1.5 cores)"),
    ],
)
def test_how_workers_wait(polling: str, reason: str, text: str):
    """And why: what else uses the cores, or that a quota has to last."""
    waiting = {"polling": polling, "reason": reason, "busy_neighbours": 1.31, "cores": 2, "quota": 1.5}
    history = History()
    history.add(answer(100.0, 50, worker(1, 11, 40), waiting=waiting))
    assert text in drawn(history)[2]


def test_a_worker_that_came_since_counts_from_nothing():
    """And one that has gone is not shown."""
    history = History()
    history.add(answer(100.0, 50, worker(1, 11, 40)))
    history.add(answer(102.0, 90, worker(2, 12, 30)))
    lines = drawn(history)
    assert row(lines, "12")[1] == "15"
    assert not [line for line in lines if line.startswith("11 ")]


def test_another_broker_begins_anew():
    """Its counters are smaller, and no rate is negative."""
    history = History()
    history.add(answer(100.0, 50, worker(1, 11, 40)))
    history.add(answer(10.0, 20, worker(1, 11, 20), pid=78, restarts=1))
    lines = drawn(history)
    assert "broker 78, up 10 s, 1 restart   2 requests/s" in lines[0]
    assert row(lines, "11")[1] == "2"


def test_however_much_there_is_it_fits():
    """80 columns, and the height of the terminal, with more models and workers than it has lines."""
    names = tuple(f"a-model-with-a-long-name-{number}" for number in range(30))
    history = History()
    for time in range(100, 170):
        workers = [worker(number, 1_000_000 + number, 2_000_000 * time) for number in range(40)]
        history.add(answer(float(time), 3_000_000 * time, *workers, models=names))
    for height in (24, 13):
        lines = drawn(history, height, "no broker answers " * 10)
        assert len(lines) == height
        assert max(map(len, lines)) <= 80
        assert len([line for line in lines if line.startswith("and ") and line.endswith(" more")]) == 2
        assert row(lines, "a-model-with-a-lo")[1] == "3000k"
        assert row(lines, "model") == ["model", "req/s", "p50", "p99", "rows/run", "fail/s"]
        assert lines[-1] == "q quits, h helps"


def called(signature_name: str, requests: int) -> dict[str, Any]:
    return {**signature("digits", requests, 0), "signature": signature_name}


def test_signatures_that_never_ran_are_not_shown() -> None:
    """Of a model that is called; and the one that is left goes by the model's name."""
    history = History()
    now = {**answer(1.0, 0), "signatures": [called("serve", 0), called("serving_default", 40)]}
    history.add(now)
    assert [label_of(each, shown(history.figures, now)) for each in shown(history.figures, now)] == ["digits"]
    never = {**now, "signatures": [called("serve", 0), called("serving_default", 0)]}
    assert len(shown(figures(never), never)) == 2


def test_a_signature_that_did_not_run_just_now_is_still_shown() -> None:
    before = {**answer(1.0, 0), "signatures": [called("a", 5), called("b", 5)]}
    now = {**answer(2.0, 0), "signatures": [called("a", 5), called("b", 9)]}
    assert [each.signature for each in shown(figures(now, before), now)] == ["a", "b"]


def test_a_long_name_takes_the_room_there_is() -> None:
    name = "a_model_with_a_name_of_forty_characters_"
    history = History()
    history.add(answer(1.0, 10, models=(name,)))
    wide = Console(width=130, height=24, file=io.StringIO())
    wide.print(frame(history, 130, 24))
    assert name in wide.file.getvalue()  # type: ignore[attr-defined]


def test_workers_go_by_their_titles() -> None:
    """Where process ids mean here what they mean to the broker; elsewhere a number is all."""
    pid = os.getpid()
    for namespace, has_title in ((os.readlink("/proc/self/ns/pid"), True), ("pid:[1]", False)):
        now = answer(100.0, 50, worker(1, pid, 40))
        now["process"]["pid_namespace"] = namespace
        history = History()
        history.add(now)
        (line,) = [line for line in drawn(history) if line.startswith(str(pid))]
        assert any(map(str.isalpha, line.partition("KiB")[0])) is has_title, line

"""An outcome as tables, page, JSON and plots: every figure where it belongs, and what was not reached told."""

from __future__ import annotations

import io
import json
from array import array
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from broker.bench.load.samples import STAGES, CallSamples, Window
from broker.bench.outcome import MeasuredCase, SweepOutcome
from broker.bench.plan import Case, Load, SweepPlan
from broker.bench.report import markdown, plots, rows, screen
from tests.workers import in_child


def window(
    per_s: float, latency_us: list[int], stages: bool = False, unsent: int = 0, failed: int = 0
) -> Window:
    samples = CallSamples(
        per_s=per_s, unsent=unsent, failures=Counter({"Overloaded": failed} if failed else {})
    )
    samples.taken_ns = array("q", [us * 1000 for us in latency_us])
    if stages:
        samples.stages_ns = array("q", [*[1000 * number for number in range(len(STAGES))], 4])
    return Window.of([samples], seconds=1.0, cpu_s=0.5, others=0.0)


def outcome(load: Load = Load(), **ours: int) -> SweepOutcome:  # noqa: B008 - frozen
    case = Case(2, 8, load)
    made = SweepOutcome(
        "digits",
        "serving_default(x: float32[?, 64]) -> (y: float32[?, 10])",
        SweepPlan(workers=(2,), rows=(8,), loads=(load,), seed=42),
        {
            "cpu": "a | b",
            "cores": 2,
            "kernel": "6",
            "python": "3",
            "onesession": None,
            "tensorflow": "2",
            "numpy": "2",
        },
        {"source": "models/digits", "max_batch_size": 64, "max_concurrency": 1, "intra_op_threads": 0},
        "8 for each number of rows, made from the signature",
        "the same model in a process of its own",
    )
    made.measured = [
        MeasuredCase(
            "broker", "broker", case, window(2000, [100, 200, 300], True, **ours), 3, True, 60_000_000
        ),
        MeasuredCase(
            "session", "in process: Session.run", case, window(1000, [400, 400, 800]), 10, False, 240_000_000
        ),
    ]
    made.left_out = ["8 workers, 8 rows, closed loop"]
    return made


def test_the_tables_have_the_figures() -> None:
    speed, beside, stages = rows.tables(outcome())
    assert speed.lines == [
        ["2", "8", "broker", "2,000", "16.0k", "200us", "300us", "300us", "0.25", "60MB", ""],
        ["2", "8", "session", "1,000 ~", "8,000", "400us", "800us", "800us", "0.5", "240MB", ""],
    ]
    assert beside.lines == [
        ["2", "8", "in process: Session.run", "2.00 x", "0.50 x", "0.38 x", "0.50 x", "0.25 x"]
    ]
    assert stages.lines == [["2", "8", "-", *[f"{us}.0us" for us in range(1, len(STAGES))], "4.0"]]


def test_without_another_arm_nothing_is_compared() -> None:
    made = outcome()
    del made.measured[1]
    assert [table.title for table in rows.tables(made)] == [
        "Requests and latency: closed loop",
        "Where the time of a call goes (means): closed loop",
    ]


def test_what_was_not_reached_failed_or_left_out_is_told() -> None:
    made = outcome(Load(rate=5000), unsent=7, failed=3)
    assert not made.measured[0].rate_reached
    told = "\n".join(rows.notes(made))
    for text in (
        "2,000 of 5,000/s",
        "7 requests",
        "3 Overloaded",
        "differ by more than 10%",
        "8 workers, 8 rows",
    ):
        assert text in told
    assert rows.tables(made)[0].lines[0][-1] == "!*"


def test_a_rate_that_was_reached_is_not_told_off() -> None:
    """One request that was due at the window's very end is no failure."""
    assert outcome(Load(rate=2000), unsent=1).measured[0].rate_reached


def test_the_page_has_the_seed_the_machine_and_every_table() -> None:
    page = markdown.page(outcome(), "onesession bench digits", ["latency.png"])
    for text in (
        "`onesession bench digits`",
        "| seed | 42 |",
        "a \\| b",
        "2.00 x",
        "![latency](latency.png)",
    ):
        assert text in page
    for line in page.splitlines():
        if line.startswith("| 2 |"):
            assert "1,000 ~" not in line  # a tilde is Markdown


def test_the_screen_has_every_cell_at_eighty_columns() -> None:
    made = outcome()
    text = io.StringIO()
    screen.show(made, Console(file=text, width=80))
    for table in rows.tables(made):
        for cell in (cell for line in table.lines for cell in line):
            assert cell in text.getvalue()


def test_json_has_what_the_tables_have() -> None:
    told = json.loads(json.dumps(outcome().to_json()))
    ours, theirs = told["measured"]
    assert (told["seed"], told["left_out"]) == (42, ["8 workers, 8 rows, closed loop"])
    assert (ours["requests_per_s"], ours["rows_per_s"], ours["latency_us"]["p50"]) == (2000, 16000, 200)
    assert (ours["stages_us"]["wake_up"], ours["batch_rows"], ours["stable"]) == (6, 4, True)
    assert (theirs["stages_us"], theirs["stable"], theirs["cpu_s_per_1000"]) == ({}, False, 0.5)


@pytest.mark.parametrize(
    ("us", "told"),
    [(0, "-"), (7.31, "7.3us"), (99.96, "100us"), (999.6, "1.0ms"), (12_400, "12.4ms"), (2e6, "2.0s")],
)
def test_durations_are_short(us: float, told: str) -> None:
    assert rows.duration(us) == told


@pytest.mark.parametrize(
    ("per_s", "told"),
    [
        (0.531, "0.531"),
        (95.24, "95.2"),
        (99.96, "100"),
        (954, "954"),
        (9_544, "9,540"),
        (12_444, "12.4k"),
        (2.5e6, "2.5M"),
    ],
)
def test_rates_have_three_digits(per_s: float, told: str) -> None:
    assert rows.rate(per_s) == told


def test_plots_are_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written = in_child(plots.write, outcome(), tmp_path)  # matplotlib keeps the files of its fonts open
    assert written == ["throughput.png", "latency.png", "percentiles.png", "stages.png"]
    for name in written:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

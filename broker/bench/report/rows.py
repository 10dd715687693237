"""The tables of a report as plain text, one list of cells a line: what terminal and page have in common."""

from __future__ import annotations

from dataclasses import dataclass

from broker.bench.load.samples import STAGES
from broker.bench.outcome import SweepOutcome
from broker.bench.plan import Case, Load

MB = 1e6
BROKER = "broker"
_CASE = ("workers", "rows")


@dataclass(frozen=True)
class ReportTable:
    """`left` is how many columns, from the first, hold words."""

    title: str
    columns: tuple[str, ...]
    lines: list[list[str]]
    left: int = 1


def tables(outcome: SweepOutcome) -> list[ReportTable]:
    """The tables that have a line: for each load the tables of speed, of the comparison, and of the stages."""
    loads = dict.fromkeys(case.load for case in outcome.cases)
    made = [make(outcome, load) for make in (_speed, _beside, _stages) for load in loads]
    return [table for table in made if table.lines]


def _speed(outcome: SweepOutcome, load: Load) -> ReportTable:
    columns = ("req/s", "rows/s", "p50", "p99", "p99.9", "CPU s/1000", "memory", "")
    lines = [
        [
            *_case(case),
            each.arm,
            rate(each.per_s) + ("" if each.stable else " ~"),
            rate(each.rows_per_s),
            *(duration(each.us(percentile)) for percentile in (50, 99, 99.9)),
            f"{each.window.cpu_s_per_1000:.3g}",
            "-" if each.memory_bytes is None else f"{each.memory_bytes / MB:.0f}MB",
            "".join(
                mark for mark, holds in zip("!*", (not each.rate_reached, each.window.failures)) if holds
            ),
        ]
        for case in _cases(outcome, load)
        for each in outcome.measured
        if each.case == case
    ]
    return ReportTable(f"Requests and latency: {load}", (*_CASE, "arm", *columns), lines, len(_CASE) + 1)


def _beside(outcome: SweepOutcome, load: Load) -> ReportTable:
    """The broker compared with each other arm in the same case, which took turns with it."""
    lines = []
    for case in _cases(outcome, load):
        ours = outcome.of(case, BROKER)
        for arm in outcome.arms:
            theirs = outcome.of(case, arm)
            if arm != BROKER and ours is not None and theirs is not None:
                lines.append(
                    [
                        *_case(case),
                        theirs.label,
                        _times(ours.per_s, theirs.per_s),
                        *(_times(ours.us(p), theirs.us(p)) for p in (50, 99)),
                        _times(ours.window.cpu_s_per_1000, theirs.window.cpu_s_per_1000),
                        _times(ours.memory_bytes or 0, theirs.memory_bytes or 0),
                    ]
                )
    columns = (*_CASE, "beside", "req/s", "p50", "p99", "CPU", "memory")
    return ReportTable(f"The broker as a multiple of the others: {load}", columns, lines, len(_CASE) + 1)


def _stages(outcome: SweepOutcome, load: Load) -> ReportTable:
    lines = []
    for each in outcome.measured:
        stages = each.window.stages_us
        if stages and each.case.load == load:
            cells = [duration(stages[stage]) for stage in STAGES]
            lines.append([*_case(each.case), *cells, f"{each.window.batch_rows or 0:.1f}"])
    columns = (*_CASE, *(stage.replace("_", "-") for stage in STAGES), "batch rows")
    return ReportTable(f"Where the time of a call goes (means): {load}", columns, lines, len(_CASE))


def _cases(outcome: SweepOutcome, load: Load) -> list[Case]:
    return [case for case in outcome.cases if case.load == load]


def _case(case: Case) -> list[str]:
    return [str(case.workers), str(case.rows or "-")]


def notes(outcome: SweepOutcome) -> list[str]:
    """Notes on the figures, each a sentence."""
    found = list(outcome.notes)
    if any(each.window.failures for each in outcome.measured):
        found.append("* some requests failed; they count for nothing else")
    if not all(each.rate_reached for each in outcome.measured):
        found.append("! the planned rate was not reached")
    if any(not each.stable for each in outcome.measured):
        share = f"{outcome.plan.within:.0%}"
        found.append(f"~ the last three windows differ by more than {share}: take this figure with care")
    for each in outcome.measured:
        found += [f"{each.arm}, {each.case}: {note}" for note in each.notes]
    disturbed = [each.window.others for each in outcome.measured if each.disturbed]
    if disturbed:
        many = f"{len(disturbed)} of {len(outcome.measured)} lines"
        found.append(
            f"other programs used up to {max(disturbed):.1f} cores during {many}: measure on a quiet machine"
        )
    found += [f"not measured, as the time was over: {case}" for case in outcome.left_out]
    return found


def facts(outcome: SweepOutcome) -> list[tuple[str, str]]:
    """The facts about the measurement, each with a name."""
    plan, machine, broker = outcome.plan, outcome.machine, outcome.broker
    threads = broker["intra_op_threads"]
    settings = [
        f"batches of up to {broker['max_batch_size']}",
        f"{broker['max_concurrency']} at a time",
        *([f"intra-op threads: {threads or 'all'}"] if threads is not None else []),
    ]
    versions = [
        f"{name} {machine[name]}" for name in ("onesession", "tensorflow", "numpy", "python") if machine[name]
    ]
    window = f"windows of {plan.window_s:g} s until three agree within {plan.within:.0%}"
    return [
        ("model", f"{outcome.model}, {outcome.signature}"),
        *((arm, label) for arm, label in outcome.arms.items() if arm != BROKER),
        ("from", str(broker["source"])),
        ("broker", ", ".join(settings)),
        ("inputs", outcome.inputs),
        ("answers", f"compared with {outcome.checked_against}" if outcome.checked_against else "not checked"),
        ("windows", f"{window} (rate, and latency at p{plan.percentile:g}), at most {plan.most_windows}"),
        ("seed", str(plan.seed)),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}"),
        ("versions", ", ".join(versions)),
    ]


def duration(us: float) -> str:
    """`7.3us`, `124us`, `12.4ms`; a dash for nothing."""
    if us < 0.05:
        return "-"
    scale, unit = (1, "us") if us < 999.5 else (1e3, "ms") if us < 999_500 else (1e6, "s")
    value = us / scale
    return f"{value:.{0 if value >= 99.95 else 1}f}{unit}"


def rate(per_s: float) -> str:
    """`0.53`, `95.2`, `9,540`, `12.4k`: three digits."""
    if per_s < 99.95:
        return f"{per_s:.3g}"
    if per_s < 9_995:
        return f"{round(per_s, -1 if per_s >= 999.5 else 0):,.0f}"
    scale, unit = (1e3, "k") if per_s < 999_500 else (1e6, "M")
    value = per_s / scale
    return f"{value:.{0 if value >= 99.95 else 1}f}{unit}"


def _times(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f} x" if ours and theirs else "-"

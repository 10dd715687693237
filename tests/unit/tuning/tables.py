"""Tables as a measurement could have given them."""

from __future__ import annotations

from broker.tuning.setting import RunSetting, Sample, SampleTable

DEFAULT = RunSetting(onednn=True, intra_op_threads=2, caller_thread=False, side_by_side=1)


def setting(text: str) -> RunSetting:
    """`1x2 caller off` is one thread, two runs side by side, on the caller's thread, oneDNN off."""
    counts, place, onednn = text.split()
    threads, runs = counts.split("x")
    return RunSetting(onednn == "on", int(threads), place == "caller", int(runs))


def table(
    rows: dict[str, tuple[float, list[float]]], sizes: tuple[int, ...] = (1, 4, 8), times: int = 2
) -> SampleTable:
    """{setting: (p50 in microseconds, rows per second by size)}, each measured so often; the first is the default."""
    made = SampleTable(setting(next(iter(rows))), sizes)
    for text, (p50_us, rates) in rows.items():
        one = setting(text)
        for _ in range(times):
            if one != one.alone and not made.of(one.alone, sizes[0]):
                made.add(one.alone, sizes[0], Sample(p50_us, 1e6 / p50_us))
            for size, rate in zip(sizes, rates):
                made.add(one, size, Sample(p50_us if size == sizes[0] else size * 1e6 / rate, rate))
    return made

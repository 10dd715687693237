"""When a figure has moved, and when it only differs. Pure.

The rule, for one figure in two runs, of which each has a value for every round:

1.  With at least 5 positive values in both, the ratio of their medians, new to old, has a bootstrap interval: both
    runs' values are resampled with replacement 4,000 times, and the middle 99 % of the ratios are kept (Efron,
    "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979; intervals of a ratio as the answer
    to "how much faster" are Kalibera and Jones', "Rigorous benchmarking in reasonable time", ISMM 2013). The figure has
    moved if all of the interval is more than 10 % away from 1.
2.  With fewer values, with none kept (results from before they were) or with values that are not positive: it has
    moved if the ranges from lowest to highest do not overlap, and the medians are more than 10 % apart. Without any
    change this happens by chance in 2 of (2n over n) comparisons of n rounds each: 10 % for 3 rounds, 0.8 % for 5.

The 10 % are there because rounds of one run share what differs between two runs of the same code: where the scheduler
put the processes, where the memory lies, what the host's other guests do. No interval from within a run knows of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from benchmarks.sampling import Spread

MARGIN = 0.10
LEAST_ROUNDS = 5
RESAMPLES = 4000
LEVEL = 0.99
_SEED = 1979


class ChangeVerdict(str, Enum):
    BETTER = "better"
    WORSE = "worse"
    WITHIN_NOISE = "within noise"


@dataclass(frozen=True)
class Change:
    """`ratio` is new to old, of medians, None where one of them is not positive; `interval` is that of rule 1."""

    verdict: ChangeVerdict
    ratio: float | None
    interval: tuple[float, float] | None


def compare(old: Spread, new: Spread, higher_is_better: bool) -> Change:
    """The change of a figure between two runs."""
    ratio = new.median / old.median if old.median > 0 and new.median > 0 else None
    if _enough(old) and _enough(new):
        interval = ratio_interval(old.rounds, new.rounds)
        rose, fell = interval[0] > 1 + MARGIN, interval[1] < 1 / (1 + MARGIN)
    else:
        interval = None
        rose, fell = _above(new, old), _above(old, new)
    return Change(_verdict(rose, fell, higher_is_better), ratio, interval)


def ratio_interval(old: tuple[float, ...], new: tuple[float, ...]) -> tuple[float, float]:
    """Percentile bootstrap of the ratio of medians, new to old. The same values give the same interval."""
    rng = np.random.default_rng(_SEED)
    ratios = _medians(rng, new) / _medians(rng, old)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _medians(rng: np.random.Generator, values: tuple[float, ...]) -> np.ndarray:
    """The medians of resampled values: float64 [RESAMPLES]."""
    drawn = rng.choice(np.array(values), size=(RESAMPLES, len(values)))
    return np.asarray(np.median(drawn, axis=1))


def _enough(spread: Spread) -> bool:
    return len(spread.rounds) >= LEAST_ROUNDS and min(spread.rounds) > 0


def _above(one: Spread, other: Spread) -> bool:
    return one.low > other.high and one.median - other.median > MARGIN * abs(other.median)


def _verdict(rose: bool, fell: bool, higher_is_better: bool) -> ChangeVerdict:
    if not (rose or fell):
        return ChangeVerdict.WITHIN_NOISE
    return ChangeVerdict.BETTER if rose == higher_is_better else ChangeVerdict.WORSE

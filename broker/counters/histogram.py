"""Durations counted in buckets of half an octave, so that counting one costs a multiplication and an index.

Bucket `(ns * ns).bit_length()` holds values below `2 ** (bucket / 2)` nanoseconds that fit no earlier bucket. A
quantile is right within a factor of sqrt(2), or better, because values are assumed to be spread evenly over their
bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BUCKETS = 132
"""Enough for the square of any difference of two 64-bit words."""

FIRST_BOUND = 10
LAST_BOUND = 36
BOUNDS_NS = tuple(1 << exponent for exponent in range(FIRST_BOUND, LAST_BOUND + 1))
"""The bounds exported to Prometheus: whole octaves from a microsecond to a minute."""


def new_counts() -> list[int]:
    return [0] * BUCKETS


class Histogram:
    """The counts, and the sum of the counted durations in nanoseconds. A plain value: each thread counts into its own
    list."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self, counts: Sequence[int] = (), sum_ns: int = 0) -> None:
        self.counts = list(counts) or new_counts()
        self.sum_ns = sum_ns

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}, median {self.quantile_ns(0.5) / 1000:.1f} us>"

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean_ns(self) -> float:
        return self.sum_ns / self.count if self.count else 0.0

    def add(self, counts: Sequence[int], sum_ns: int) -> None:
        """Add the counts of another thread."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts)]
        self.sum_ns += sum_ns

    def since(self, before: Histogram) -> Histogram:
        """The values counted after `before`, an earlier state of the same histogram."""
        counts = [max(0, now - then) for now, then in zip(self.counts, before.counts)]
        return Histogram(counts, max(0, self.sum_ns - before.sum_ns))

    def quantile_ns(self, q: float) -> float:
        """The value below which the share `q` of all values lies; 0 if nothing was counted."""
        rank = q * self.count
        below = 0
        for bucket, count in enumerate(self.counts):
            if count and below + count >= rank:
                low, high = _lower_ns(bucket), upper_ns(bucket)
                return low + (high - low) * max(0.0, rank - below) / count
            below += count
        return 0.0

    def cumulative(self) -> list[tuple[int, int]]:
        """(bound in ns, number of values below it) for each of BOUNDS_NS."""
        found = []
        total, done = 0, 0
        for bound, exponent in zip(BOUNDS_NS, range(FIRST_BOUND, LAST_BOUND + 1)):
            total += sum(self.counts[done : 2 * exponent + 1])
            done = 2 * exponent + 1
            found.append((bound, total))
        return found

    def to_message(self) -> dict[str, object]:
        counts = [[bucket, count] for bucket, count in enumerate(self.counts) if count]
        return {"sum_ns": self.sum_ns, "counts": counts}

    @classmethod
    def from_message(cls, message: dict[str, Iterable[tuple[int, int]] | int]) -> Histogram:
        found = cls(sum_ns=message["sum_ns"])  # type: ignore[arg-type]
        for bucket, count in message["counts"]:  # type: ignore[union-attr]
            found.counts[bucket] = count
        return found


def upper_ns(bucket: int) -> float:
    """The upper bound of the bucket."""
    return float(2 ** (bucket / 2))


def _lower_ns(bucket: int) -> float:
    return float(2 ** ((bucket - 1) / 2)) if bucket else 0.0

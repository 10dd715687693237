"""Finds by runs whether a signature's rows are independent, so that requests may be joined and split.

    rows 0 1 2 3 alone ------> the answer that the row must get in every request
    0123, 10, 220 ... ------> the same answers: no row depends on its place, or on how many there are
    0123, 0a2b, cd23 ... ---> rows that stay, at the same place in a run of the same size, get the same bits: none
                              depends on what is in the others, however little
    as many as a batch may have and more, half of them exchanged: nor on rows far away

This is not a proof, and other values may behave differently. So all doubtful cases count as dependent, and the broker
continues to check while it serves (broker/data_plane/evidence.py). Pure, except for the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from broker.models.examples import Feeds
from broker.models.model import Run
from broker.models.rows.closeness import (
    Outputs,
    difference,
    exactly_same,
    same_outputs,
    same_rows,
    same_shapes,
)
from broker.models.rows.made_up import LENGTHS, Recipe, draw, families_of
from broker.models.rows.rounding import rounding_explains
from broker.models.rows.trial_rows import kept_halves, picked, regrouped
from worker_client.system.clock import monotonic
from worker_client.wire.signature import Signature

VERSION = 3
"""The version of the examination: results of other versions are not used."""
SECONDS = 3.0
"""Seconds of trials for one signature, after its accepted inputs are known. Half of that is enough for a result, but
only once every family of values had its trial: on a busy machine, that takes longer."""
_PATIENCE = 4
"""How many times `SECONDS` the trials may take when the machine is busy or the model slow."""
TRIALS = 18
_ROWS = 4
_PROBED = 60
_BIG_BYTES = 16 << 20
_MOST_ROWS = 4096
_CHEAP_SECONDS = 0.15
_FEWEST_RUNS = 20
"""Rows of the smallest meaningful trial."""
_ENOUGH = 3
"""Trials in which different rows had different answers; if time runs out before there are so many, nothing is known."""
_FAR_TRIALS = (0, 1, 3, 5)
_EXAMPLES = 4
"""The most examples that have a trial of their own."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result. `apart` is the reason why requests may be neither joined nor split; "" if they may. `lasting`:
    another examination would find the same."""

    apart: str
    lasting: bool = True


def structure(signature: Signature) -> str:
    """Why the shapes alone forbid joining requests; empty if they do not."""
    if not signature.inputs:
        return "it takes no inputs"
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.component:
                return f"{kind} {spec.name!r} is {spec.component}"
            if spec.shape is None:
                return f"the rank of {kind} {spec.name!r} is unknown"
            if not spec.shape or spec.shape[0] is not None:
                return f"the first dimension of {kind} {spec.name!r} is not free"
    return ""


def examine(
    run: Run,
    signature: Signature,
    limit: int,
    examples: Sequence[Feeds] = (),
    seed: int = 0,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = monotonic,
) -> Verdict:
    """Run made-up requests, and the examples, whole, separately, joined and split. `limit`: maximum rows of a batch."""
    reason = structure(signature)
    if reason:
        return Verdict(reason)
    trials = _Trials(run, signature, limit, examples, seed, seconds, clock)
    try:
        trials.make()
    except _Dependent as found:
        return Verdict(str(found))
    except _OutOfTime:
        if trials.learned < _ENOUGH:
            return Verdict(
                f"it is too slow to be examined: one row takes {trials.row_seconds:.2g} s", lasting=False
            )
        return Verdict("", lasting=trials.slow)
    if trials.learned:
        return Verdict("")
    if not trials.answered:
        return Verdict(f"it cannot be examined: no made-up request could be run ({trials.error})")
    return Verdict("it cannot be examined: its answers are the same for all inputs")


class _Dependent(Exception):
    """Rows depend on each other, or may."""


class _OutOfTime(Exception):
    pass


class _Failed(Exception):
    """The model has raised."""


class _Trials:
    def __init__(
        self,
        run: Run,
        signature: Signature,
        limit: int,
        examples: Sequence[Feeds],
        seed: int,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.learned = 0
        """Trials in which different rows had different answers."""
        self.answered = False
        self.error = ""
        self.row_seconds = 0.0
        self.slow = False
        """The trials need more time than they may take, however idle the machine."""
        self._here_seconds = 0.0  # seconds per row of this trial, whose rows may be longer
        self._run = run
        self._signature = signature
        self._limit = limit
        self._examples = examples
        self._rng = np.random.default_rng(seed)
        self._clock = clock
        self._seconds = seconds
        self._until = clock() + seconds  # when no trial should begin any more
        self._end = self._until  # when no run may begin any more
        self._families = [families_of(spec, signature) for spec in signature.inputs]
        self._free = any(None in (spec.shape or ())[1:] for spec in signature.inputs)
        self._refused: set[tuple[int, int]] = set()  # (input, family that the model does not accept)
        self._short: set[int] = set()  # lengths that the model does not accept

    def make(self) -> None:
        """Raises _Dependent, _OutOfTime."""
        base = self._accepted()
        if base is None:
            return
        self._measure(base)
        needed = self._needed()
        for number, choice in enumerate(self._choices(base)):
            if number >= needed and self.learned >= _ENOUGH and self._left() < self._seconds / 2:
                return
            small = self._rows_for(self._left() / 2)
            self._try(choice, small)
            if number in _FAR_TRIALS:
                self._try_many(choice, small, self._left() if number else self._seconds)

    def _needed(self) -> int:
        """The number of trials until every example and every family of every input had one: no clock cuts these."""
        return min(len(self._examples), _EXAMPLES) + max(map(len, self._families))

    # -- accepted inputs -----------------------------------------------------------------------------------------

    def _accepted(self) -> Recipe | None:
        """The first recipe that the model accepts, one row at a time; None if it accepts none."""
        for number, _ in enumerate(self._examples):
            choice = Recipe((), 1, number)
            if self._runs(choice):
                return choice
        lengths = LENGTHS if self._free else LENGTHS[:1]
        most = max(map(len, self._families))
        ways = [  # all inputs in step, then each by itself
            Recipe(tuple(min(family, len(known) - 1) for known in self._families), length)
            for length in lengths[:3]
            for family in range(most)
        ]
        for families in product(*[range(min(len(known), 6)) for known in self._families[:3]]):
            rest = (0,) * (len(self._families) - len(families))
            ways.append(Recipe(families + rest, lengths[0]))
        ways += [Recipe((0,) * len(self._families), length) for length in lengths[3:]]
        for choice in dict.fromkeys(ways[: _PROBED * 2]):
            if self._runs(choice):
                return choice
        return None

    def _runs(self, choice: Recipe) -> bool:
        pool = draw(self._signature, choice, 1, self._rng, self._examples)
        try:
            self._run_rows(pool, [0])
        except _Failed:
            return False
        self.answered = True
        return True

    def _measure(self, base: Recipe) -> None:
        """Measure the time of one row, without the first run, and set the time of the trials."""
        pool = draw(self._signature, base, 1, self._rng, self._examples)
        measured = []
        for _ in range(3):
            begun = self._clock()
            self._run_quietly(pool, [0])
            measured.append(self._clock() - begun)
        self.row_seconds = min(measured[1:])
        if _FEWEST_RUNS * self.row_seconds > 1.5 * self._seconds:
            raise _OutOfTime
        now = self._clock()
        self._until = now + max(self._seconds, 1.2 * _FEWEST_RUNS * self.row_seconds)
        self._end = now + max(_PATIENCE * self._seconds, 2 * _ENOUGH * _FEWEST_RUNS * self.row_seconds)
        self.slow = _FEWEST_RUNS * self._needed() * self.row_seconds > _PATIENCE * self._seconds

    def _choices(self, base: Recipe) -> Iterator[Recipe]:
        """The examples first, then each accepted family and length, with several inputs in new combinations."""
        for number, _ in enumerate(self._examples[:_EXAMPLES]):
            yield Recipe((), 1, number)
        start, most = base, max(map(len, self._families))
        if base.example is not None:
            found = self._made_up_beside()
            if found is None:
                return
            start = found
        yield start
        for number in range(1, TRIALS):
            families = tuple(
                self._family(each, (known + number) if number < most else int(self._rng.integers(99)), start)
                for each, known in enumerate(start.families)
            )
            choice = Recipe(families, self._length(number, start))
            if not self._runs(choice):
                choice = self._blame(choice, start)
            yield choice

    def _made_up_beside(self) -> Recipe | None:
        examples, self._examples = self._examples, ()
        try:
            return self._accepted()
        finally:
            self._examples = examples

    def _family(self, each: int, number: int, start: Recipe) -> int:
        found = number % len(self._families[each])
        return start.families[each] if (each, found) in self._refused else found

    def _length(self, number: int, start: Recipe) -> int:
        if not self._free:
            return start.length
        usable = [length for length in LENGTHS if length not in self._short]
        # A long row costs more than what was measured for the first.
        usable = (
            usable if self.row_seconds < 0.02 else [length for length in usable if length <= start.length]
        )
        return usable[number % len(usable)] if usable else start.length

    def _blame(self, choice: Recipe, start: Recipe) -> Recipe:
        """Find the parts of a choice that the model does not accept, and keep those at values that work."""
        families = list(start.families)
        for each, family in enumerate(choice.families):
            families[each] = family
            if family != start.families[each] and not self._runs(Recipe(tuple(families), start.length)):
                self._refused.add((each, family))
                families[each] = start.families[each]
        found = Recipe(tuple(families), choice.length)
        if choice.length != start.length and not self._runs(found):
            self._short.add(choice.length)
            found = Recipe(tuple(families), start.length)
        return found

    # -- trials --------------------------------------------------------------------------------------------------

    def _try(self, choice: Recipe, rows: int) -> None:
        """Run all comparisons with a few rows."""
        pool = draw(self._signature, choice, 2 * rows, self._rng, self._examples)
        begun = self._clock()
        alone = self._alone(pool, range(2 * rows))
        self._here_seconds = (self._clock() - begun) / (2 * rows)
        kept = sorted(alone)
        if len(kept) < min(4, 2 * rows):
            return
        half = kept[: len(kept) // 2], kept[len(kept) // 2 :]
        rows = len(half[0])
        first, second = half[0], half[1][:rows]
        for request in regrouped(first, second):
            self._compare(pool, request, alone)
        base = self._steady(pool, first)
        for kept_here in kept_halves(rows):
            mixed = [one if keep else other for one, other, keep in zip(first, second, kept_here)]
            self._compare_exchanged(pool, first, base, mixed, kept_here)
        if not all(same_outputs(alone[kept[0]], alone[number]) for number in kept):
            self.learned += 1

    def _try_many(self, choice: Recipe, small: int, seconds: float) -> None:
        """Compare distant rows, more than a batch has, if that is cheap: `seconds` are left."""
        for rows in self._many(choice, seconds):
            if rows <= small:
                continue
            pool = draw(self._signature, choice, 2 * rows, self._rng, self._examples)
            shown = sorted(
                {0, 1, rows // 2, rows - 1, min(self._limit, rows - 1), min(self._limit - 1, rows - 1)}
            )
            alone = self._alone(pool, shown)
            if len(alone) < len(shown):
                return  # the small trials passed; one of these many rows may be invalid
            first, second = list(range(rows)), list(range(rows, 2 * rows))
            try:
                base = self._steady(pool, first)
                self._compare_some(base, alone)
                self._compare_pieces(pool, rows, base)
            except _Failed:
                return
            keep = self._rng.random(rows) < 0.5
            for kept_here in (keep, ~keep):
                mixed = [one if stays else other for one, other, stays in zip(first, second, kept_here)]
                self._compare_exchanged(pool, first, base, mixed, list(kept_here))

    def _many(self, choice: Recipe, seconds: float) -> list[int]:
        """The numbers of rows to run: above the limit, and far above it if rows are small and fast."""
        row = draw(self._signature, choice, 1, self._rng, self._examples)
        row_bytes = max(1, sum(feed.nbytes for feed in row))
        most = min(_BIG_BYTES // row_bytes, _MOST_ROWS)
        text = any(spec.dtype.hasobject for spec in self._signature.inputs)
        afforded = int(seconds * 0.3 / max(7 * self._here_seconds, 1e-9))
        past = min(self._limit + 3, most, afforded)
        far = min(
            16 * self._limit, most, 256 if text else most, int(_CHEAP_SECONDS / max(self._here_seconds, 1e-9))
        )
        return [past] if far < 2 * past else [past, far]

    # -- comparing -----------------------------------------------------------------------------------------------

    def _alone(self, pool: Feeds, numbers: Sequence[int]) -> dict[int, Outputs]:
        """The answer to each row by itself, without rows for which the model raises."""
        found: dict[int, Outputs] = {}
        for number in numbers:
            try:
                outputs = self._run_rows(pool, [number])
            except _Failed:
                continue
            self._check_rows(outputs, 1)
            found[number] = outputs
        refused = [number for number in numbers if number not in found]
        if refused and self._run_quietly(pool, [*refused, *list(found)[:1]]) is not None:
            raise _Dependent("it raises for a row by itself that it accepts among other rows")
        return found

    def _compare(self, pool: Feeds, request: Sequence[int], alone: dict[int, Outputs]) -> None:
        """Compare a request with its rows by themselves."""
        try:
            together = self._run_rows(pool, request)
        except _Failed as error:
            raise _Dependent(f"it takes each of {len(request)} rows, but not all together: {error}") from None
        self._check_rows(together, len(request))
        for place, number in enumerate(request):
            self._compare_row(pool, number, alone[number], [output[place : place + 1] for output in together])

    def _compare_row(self, pool: Feeds, number: int, alone: Outputs, mine: Outputs) -> None:
        if not same_shapes(mine, alone, 1):
            raise _Dependent(
                f"the shape of its answer to a row depends on the other rows{self._where(mine, alone)}"
            )
        if same_outputs(mine, alone):
            return
        feeds = picked(pool, [number])
        try:
            again = self._run_rows(pool, [number])
            explained = rounding_explains(self._run, feeds, alone, mine)
        except Exception:
            explained, again = False, alone
        if not same_outputs(again, alone):
            raise _Dependent("it answers the same request differently each time")
        if not explained:
            raise _Dependent(
                "its answer to a row by itself differs from its answer among other "
                f"rows{self._where(mine, alone)}"
            )

    def _compare_some(self, base: Outputs, alone: dict[int, Outputs]) -> None:
        for number, outputs in alone.items():
            mine = [output[number : number + 1] for output in base]
            if not same_shapes(mine, outputs, 1):
                raise _Dependent("the shape of its answer to a row depends on the other rows")

    def _compare_pieces(self, pool: Feeds, rows: int, base: Outputs) -> None:
        """Compare with pieces cut at the limit, as for a large request."""
        for start in sorted({0, (rows - 1) // self._limit * self._limit}):
            stop = min(start + self._limit, rows)
            if stop - start == rows:
                continue
            piece = self._run_rows(pool, list(range(start, stop)))
            self._check_rows(piece, stop - start)
            mine = [output[start:stop] for output in base]
            if not same_shapes(piece, mine, stop - start):
                raise _Dependent("the shape of its answer to a row depends on the other rows")
            good = np.all([same_rows(a, b) for a, b in zip(piece, mine)], axis=0)
            for place in np.flatnonzero(~good)[:3]:
                alone = self._run_rows(pool, [start + int(place)])
                for outputs in (piece, mine):
                    self._compare_row(
                        pool, start + int(place), alone, [o[place : place + 1] for o in outputs]
                    )

    def _steady(self, pool: Feeds, request: Sequence[int]) -> Outputs:
        """The answer to a request, which must be the same in a second run."""
        outputs, again = self._run_rows(pool, request), self._run_rows(pool, request)
        self._check_rows(outputs, len(request))
        self._exact = all(same_shapes([a], [b], len(request)) and same_rows(a, b, exact=True).all()
                          for a, b in zip(outputs, again))  # fmt: skip
        if not self._exact and not same_outputs(outputs, again):
            raise _Dependent("it answers the same request differently each time")
        return outputs

    def _compare_exchanged(
        self, pool: Feeds, first: Sequence[int], base: Outputs, mixed: Sequence[int], keep: Sequence[bool]
    ) -> None:
        """Compare rows that stay in place while the other rows change."""
        try:
            outputs = self._run_rows(pool, mixed)
        except _Failed as error:
            if len(first) > 2 * _ROWS:
                return  # one of these many rows may be invalid
            raise _Dependent(f"it takes each of {len(mixed)} rows, but not all together: {error}") from None
        self._check_rows(outputs, len(mixed))
        stays = np.asarray(keep, bool)
        if not same_shapes(outputs, base, len(mixed)):
            raise _Dependent(
                f"the shape of its answer to a row depends on the other rows{self._where(outputs, base)}"
            )
        for spec, mine, before in zip(self._signature.outputs, outputs, base):
            good = same_rows(mine[stays], before[stays], exact=self._exact)
            if not good.all() and self._exact and same_rows(mine[stays], before[stays]).all():
                # A tiny difference: check whether rounding alone causes such differences.
                again = self._run_rows(pool, mixed), self._run_rows(pool, first)
                if not all(exactly_same(a, b) for a, b in zip((*again[0], *again[1]), (*outputs, *base))):
                    continue
            if not good.all():
                far = difference(mine[stays][~good], before[stays][~good])
                raise _Dependent(
                    f"its answer to a row depends on the other rows (output {spec.name!r} changed by "
                    f"{far:.2g})"
                )

    def _check_rows(self, outputs: Outputs, rows: int) -> None:
        for spec, output in zip(self._signature.outputs, outputs):
            if output.shape[:1] != (rows,):
                have = f"{len(output)} rows" if output.ndim else "a scalar"
                what = "1 row" if rows == 1 else f"{rows} rows"
                raise _Dependent(f"for {what} of input its output {spec.name!r} has {have}")

    def _where(self, mine: Outputs, other: Outputs) -> str:
        for spec, a, b in zip(self._signature.outputs, mine, other):
            if a.shape != b.shape or not same_rows(a, b).all():
                return f" (output {spec.name!r})"
        return ""

    # -- running -------------------------------------------------------------------------------------------------

    def _left(self) -> float:
        return max(0.0, self._until - self._clock())

    def _rows_for(self, seconds: float) -> int:
        """The number of rows for a trial, which runs about ten times as many."""
        return min(_ROWS, self._limit) if self.row_seconds * 10 * _ROWS <= seconds and self._limit > 2 else 2

    def _run_rows(self, pool: Feeds, request: Sequence[int]) -> Outputs:
        if self._clock() >= self._end:
            raise _OutOfTime
        begun = self._clock()
        try:
            outputs = self._run(*picked(pool, request))
        except Exception as error:
            self.error = str(error).partition("\n")[0][:200]
            raise _Failed(self.error) from None
        if not self.row_seconds and len(request) == 1:
            self.row_seconds = self._clock() - begun
        return outputs

    def _run_quietly(self, pool: Feeds, request: Sequence[int]) -> Outputs | None:
        try:
            return self._run_rows(pool, request)
        except _Failed:
            return None

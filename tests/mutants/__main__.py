"""`python -m tests.mutants`: break the code in a private copy of the checkout, one place at a time, and run its tests.

First the promises, each taken out by hand, then mutants that a seed draws. Ends with 0 if the tests noticed the loss of
each promise. Mutants that survive are printed, to be looked at one by one (docs/mutants.md).
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.mutants.copy import private_copy
from tests.mutants.promises import PROMISES
from tests.mutants.trial import adopt_orphans, end_children

_OUTCOMES = ("killed", "survived", "no verdict", "not tried")


def main() -> int:
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    adopt_orphans()
    end = time.monotonic() + 60 * options.minutes
    print(f"seed: {options.seed} (the same mutants again: --seed {options.seed})", flush=True)
    with private_copy() as copy:
        try:
            missed = 0 if options.no_promises else run("promises", promises(copy, options), end)
            run("mutants", mutants(copy, options), end)
        finally:
            end_children()
    return 1 if missed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    some = random.SystemRandom().randrange(10_000)
    parser.add_argument(
        "--seed", type=int, default=some, help="which mutants are drawn (default: any, printed)"
    )
    parser.add_argument("--mutants", type=int, default=20, help="how many are drawn (default 20)")
    parser.add_argument("--only", default="", help="only modules and promises with this in their name")
    parser.add_argument("--minutes", type=float, default=30, help="start no trial later (default 30)")
    parser.add_argument("--seconds", type=float, default=240, help="limit of one trial (default 240)")
    parser.add_argument("--no-promises", action="store_true", help="mutants only")
    return parser.parse_args()


Trial = tuple[str, Callable[[], str]]
"""The name of a trial, and what runs it and returns its verdict."""


def run(what: str, trials: Iterator[Trial], end: float) -> int:
    """How many were not killed."""
    counts: Counter[str] = Counter()
    for name, trial in trials:
        verdict = trial() if time.monotonic() < end else "not tried: the time is up"
        print(f"{name}: {verdict}", flush=True)
        counts[next(outcome for outcome in _OUTCOMES if verdict.startswith(outcome))] += 1
    print(f"{what}: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES), flush=True)
    return counts.total() - counts["killed"]


def promises(copy: Path, options: argparse.Namespace) -> Iterator[Trial]:
    for promise in PROMISES:
        if options.only in promise.without or options.only in promise.path:
            yield f"without {promise.without}", lambda promise=promise: promise.verdict(copy, options.seconds)


def mutants(copy: Path, options: argparse.Namespace) -> Iterator[Trial]:
    if not options.mutants:
        return
    from tests.mutants import sample  # needs cosmic-ray, which the promises do not

    for mutant in sample.draw(copy, options.seed, options.mutants, options.only):
        yield (
            sample.described(mutant, copy),
            lambda mutant=mutant: sample.verdict(mutant, copy, options.seconds),
        )


if __name__ == "__main__":
    raise SystemExit(main())

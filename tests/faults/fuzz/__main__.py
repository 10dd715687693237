"""`python -m tests.faults.fuzz --headers 1000000 --seed N`: as many hostile headers through the broker's own intake.

Half of them are valid requests with something wrong in them, half are noise. After each, and for an honest worker after
every 64, it is checked that nothing is left undone or touched which should not be; the first thing that is ends the run
with its number and status 1.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import warnings
from time import monotonic

from tests.faults.fuzz.cases import Cases
from tests.faults.fuzz.target import SLOTS, Target, target

HONEST_EVERY = 64
TELL_EVERY_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--headers", type=int, default=1_000_000, help="how many (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=None, help="of the headers (default: a new one)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    warnings.simplefilter("error")  # as in the tests: numpy warns of what it should not have been given
    logging.getLogger("onesession").setLevel(logging.ERROR)  # each refused request would be told of
    print(f"seed {seed}: {options.headers:,} headers", flush=True)
    with target() as fuzzed:
        try:
            told = bombard(fuzzed, seed, options.headers)
        except Exception as error:
            print(f"FAILED: {error!r}", flush=True)
            raise SystemExit(1) from error
    print(f"survived: {told}", flush=True)
    return 0


def bombard(fuzzed: Target, seed: int, count: int) -> str:
    """Raises whatever should not be; else what has been survived."""
    cases = Cases(fuzzed.ids, seed)
    began = told = monotonic()
    honest = 0
    for number in range(count):
        case = cases.wrong() if number % 2 else cases.noise()
        fuzzed.write(number % SLOTS, case)
        fuzzed.submit(number % SLOTS)
        try:
            fuzzed.settle_all()
            fuzzed.check_idle()
            fuzzed.check_untouched()
            if number % HONEST_EVERY == 0:
                fuzzed.check_honest()
                fuzzed.forget_posts()
                honest += SLOTS
        except Exception as error:
            raise AssertionError(f"{error!r} after header {number}: {case}") from error
        if monotonic() - told > TELL_EVERY_S:
            told = monotonic()
            print(f"{number:,} headers in {told - began:.0f} s", flush=True)
    fuzzed.check_bounds()
    return (
        f"{count:,} headers in {monotonic() - began:.0f} s; {honest:,} answers of the honest worker, all right; "
        f"{fuzzed.violations:,} channels closed"
    )


if __name__ == "__main__":
    sys.exit(main())

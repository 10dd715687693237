"""`python -m tests.stress`: prints its seed and its progress; ends with 0 if everything held."""

from __future__ import annotations

import argparse
import os
import random
import sys
import traceback

from broker.config.settings import TUNE_VARIABLE
from tests import leaks
from tests.stress.campaign import KINDS, run
from tests.stress.forms import CLOSE_DESCRIPTORS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many processes to kill (default 1000)")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the deeds and the calls (default: a new one)"
    )
    parser.add_argument("--only", choices=list(KINDS), help="workers of this kind (default: all, in turn)")
    parser.add_argument("--workers", type=int, default=4, help="how many work at a time (default 4)")
    parser.add_argument("--first-bout", type=int, default=0, help="to begin with, for one that has failed")
    parser.add_argument(
        "--close-descriptors", action="store_true", help="workers close what their clients have open, too"
    )
    options = parser.parse_args()
    if options.close_descriptors:
        os.environ[CLOSE_DESCRIPTORS] = "1"
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    kinds = (options.only,) if options.only else tuple(KINDS)
    os.environ.setdefault(TUNE_VARIABLE, "off")
    leaks.prepare_process()

    def tell(line: str) -> None:
        print(f"[seed {seed}] {line}", flush=True)

    tell(f"{options.kills} kills among {options.workers} workers and their broker")
    try:
        report = run(options.kills, seed, kinds, options.workers, tell, options.first_bout)
    except AssertionError:
        traceback.print_exc()
        tell("FAILED")
        return 1
    tell(f"held: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

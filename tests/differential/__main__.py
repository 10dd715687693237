"""Calls models of every kind in every way, beside kills and suspends, and compares every answer."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

from broker.config.settings import TUNE_VARIABLE
from tests import leaks
from tests.differential import faults
from tests.differential.kinds import KINDS
from tests.differential.report import read
from tests.differential.run import Failed, Limits, exported, run
from tests.differential.shrink import Player
from tests.differential.stage import Options
from tests.differential.ways import USUAL, WAYS


def main() -> int:
    options = _parser().parse_args()
    os.environ.setdefault(TUNE_VARIABLE, "off")
    leaks.prepare_process()
    if options.replay:
        return _replay(options.replay, options.times)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)

    def tell(line: str) -> None:
        print(f"[seed {seed}] {line}", flush=True)

    wanted = Options(
        options.workers,
        options.fault,
        tuple(options.kinds or ()),
        tuple(name for name in options.ways or USUAL if name not in (options.without or ())),
        deeds=not options.no_deeds,
    )
    tell(f"{options.workers} workers for {options.seconds:g} s")
    try:
        with exported() as models:
            limits = Limits(options.seconds, options.shrink_seconds)
            report = run(models, limits, seed, wanted, options.out, tell)
    except Failed as failed:
        tell(f"FAILED\n{failed}\nrepeat it: python -m tests.differential --replay {failed.script}")
        return 1
    tell(f"held: {report}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of calls (default 60)")
    parser.add_argument("--seed", type=int, help="of all that is done (default: a new one)")
    parser.add_argument(
        "--workers", type=int, default=6, help="processes, with one to three threads (default 6)"
    )
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), metavar="KIND", help="only these models")
    parser.add_argument(
        "--ways", nargs="+", choices=list(WAYS), metavar="WAY", help="only these ways to call"
    )
    parser.add_argument(
        "--without", nargs="+", choices=list(WAYS), metavar="WAY", help="not these ways to call"
    )
    parser.add_argument("--no-deeds", action="store_true", help="nobody is killed, suspended or reloaded")
    parser.add_argument("--fault", choices=sorted(faults.ALL), help="put this fault into the product")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="do what the script of a failure says")
    parser.add_argument("--times", type=int, default=5, help="how often to replay it at most (default 5)")
    parser.add_argument("--out", type=Path, default=Path.cwd(), help="folder for scripts (default: this one)")
    parser.add_argument("--shrink-seconds", type=float, default=90, help="to shorten a script (default 90)")
    return parser


def _replay(path: Path, times: int) -> int:
    script = read(path)
    with exported() as models, Player(models, script.fault) as player:
        for number in range(1, times + 1):
            if player.fails(script):
                print(f"{player.message}\nit fails, at time {number} of {times}")
                return 1
    print(f"{script.size} operations, {times} times: no failure")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.package`: checks the files in dist/, and tries the wheel in fresh environments."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.package import contents
from tests.package.fresh import Fresh
from worker_client.wire.version import __version__

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.package", description=__doc__)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="the folder of both files")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters to try it with")
    parser.add_argument("--url", help="the address that the page's links lead to")
    options = parser.parse_args()
    wheel = options.dist.resolve() / f"onesession-{__version__}-py3-none-any.whl"
    contents.check(wheel, options.dist / f"onesession-{__version__}.tar.gz")
    print("package: both files have the committed files, and no others", flush=True)
    if options.url is None:
        print(
            "package: the page's links are relative; a release is built with make package URL=...", flush=True
        )
    else:
        contents.check_page(wheel, options.url)
        print(f"package: the page's links lead to {options.url}", flush=True)
    for interpreter in options.python:
        with tempfile.TemporaryDirectory(prefix="onesession-package-") as folder:
            try_wheel(wheel, interpreter, Path(folder))
    return 0


def try_wheel(wheel: Path, interpreter: str, folder: Path) -> None:
    fresh = Fresh(folder, interpreter)
    fresh.install(f"onesession @ {wheel.as_uri()}")
    fresh.check_a_worker()
    fresh.install(f"onesession[broker] @ {wheel.as_uri()}")
    fresh.check_the_first_example()
    print(f"package: works in a fresh environment of {interpreter}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

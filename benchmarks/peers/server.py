"""The process of a peer's server: `python -m benchmarks.peers.server MODULE PLACE` runs MODULE.serve(place)."""

from __future__ import annotations

import importlib
import signal
import sys

from benchmarks.harness.lifetime import die_with_parent
from benchmarks.peers.place import Place

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    die_with_parent(signal.SIGTERM)  # its own processes are for it to end
    importlib.import_module(sys.argv[1]).serve(Place.from_json(sys.argv[2]))

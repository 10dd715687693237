"""The process of a peer's server: `python -m benchmarks.peers.server MODULE PLACE` runs MODULE.serve(place)."""

from __future__ import annotations

import importlib
import signal
import sys

from benchmarks.peers.place import ServerPlace

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    importlib.import_module(sys.argv[1]).serve(ServerPlace.from_json(sys.argv[2]))

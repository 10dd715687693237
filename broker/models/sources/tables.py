"""Initialises look-up tables of graphs that do not name their initialisers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FILLERS = (
    *("InitializeTable", "InitializeTableV2"),
    *("InitializeTableFromTextFile", "InitializeTableFromTextFileV2"),
    *("LookupTableImport", "LookupTableImportV2"),
)


def initialise_tables(session: Any, assets: Mapping[Any, str] | None = None) -> None:
    """Run every operation that fills a table, with `assets` as the names of files."""
    fillers = [op for op in session.graph.get_operations() if op.type in _FILLERS]
    if fillers:
        session.run(fillers, dict(assets or {}))

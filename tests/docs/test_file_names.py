"""The files of the code that the pages for its readers name are there, under these names."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, ROOT

_IN_CODE = re.compile(r"`([\w/]+\.py)`")
_FULL = re.compile(r"\b(?:broker|worker_client|benchmarks|tests)/[\w/]+\.py\b")


def test_the_tour_names_files_that_are_there() -> None:
    named = set(_IN_CODE.findall((DOCS / "tour.md").read_text()))
    assert len(named) > 30
    paths = {
        str(path.relative_to(ROOT))
        for folder in ("broker", "worker_client")
        for path in (ROOT / folder).rglob("*.py")
    }
    missing = {name for name in named if not any(path == name or path.endswith(f"/{name}") for path in paths)}
    assert not missing


def test_full_paths_in_any_page_are_there() -> None:
    named = {path for page in DOCS.rglob("*.md") for path in _FULL.findall(page.read_text())}
    assert len(named) > 20
    assert {path for path in named if not (ROOT / path).exists()} == set()

"""The tables on trust, in docs/operations.md and docs/protocol.md: each row names a test, and that test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECTIONS = {"operations.md": "## Permissions", "protocol.md": "## Trust"}


def rows(page: str) -> list[str]:
    section = (ROOT / "docs" / page).read_text().split(f"\n{SECTIONS[page]}\n")[1].split("\n## ")[0]
    return [row for row in section.splitlines() if row.startswith(("| a ", "| an"))]


@pytest.mark.parametrize("page", SECTIONS)
def test_each_row_names_a_test_that_exists(page: str) -> None:
    """What nobody has shown is not claimed."""
    assert len(rows(page)) >= 8
    for row in rows(page):
        found = re.search(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", row.rsplit("|", 2)[1])
        assert found, row
        assert f"def {found[2] or 'test_'}" in (ROOT / found[1]).read_text(), row


@pytest.mark.parametrize("page", SECTIONS)
def test_each_kind_has_its_rows(page: str) -> None:
    """A worker, another user's worker, a local stranger, a model."""
    for who in ("a worker", "another user's worker", "a local stranger", "a model"):
        assert [row for row in rows(page) if row.startswith(f"| {who} ")], who

"""docs/failures.md names tests that exist, and leaves out none of tests/faults/."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "failures.md").read_text()
NAMED = set(re.findall(r"`(tests/[\w/.]+\.py)`", TEXT))
ROWS = [
    line for line in TEXT.splitlines() if line.startswith("|") and not line.startswith(("| event", "|--"))
]


def test_each_named_test_exists() -> None:
    """A file that was renamed is renamed there, too; and it has tests in it."""
    assert NAMED
    for name in sorted(NAMED):
        assert "def test_" in (ROOT / name).read_text(), name


def test_each_row_names_a_test() -> None:
    """Each row names a test, so that nothing unproved is claimed."""
    assert len(ROWS) > 25
    assert [row for row in ROWS if not re.search(r"`tests/[\w/.]+\.py`", row.rsplit("|", 2)[1])] == []


def test_each_test_of_faults_has_its_row() -> None:
    """Each test of tests/faults has its row on the page."""
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "faults").rglob("test_*.py")}
    assert there - NAMED == set()


def test_the_commands_exist() -> None:
    """What the page says to run can be run."""
    assert re.search(r"^stress:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert (ROOT / "tests/faults/fuzz/__main__.py").exists()

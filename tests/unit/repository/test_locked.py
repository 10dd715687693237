"""What `make venv`, `make docs` and CI install is pinned by version and by hash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKED = [*sorted((ROOT / "locked").glob("*.txt")), ROOT / "tests/real_models.txt", ROOT / ".ci/uwsgi.txt"]
_PIN = re.compile(r"^([a-z0-9.-]+==\S+)")


def requirements(path: Path) -> list[str]:
    """One line each, however they are written."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", path.read_text()).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def pins(path: Path) -> set[str]:
    return {match[1] for match in map(_PIN.match, requirements(path)) if match}


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_everything_has_a_hash(path: Path) -> None:
    """A package that somebody has put another file in place of is not installed."""
    found = requirements(path)
    assert found
    assert all(_PIN.match(line) and "--hash=sha256:" in line for line in found)


@pytest.mark.parametrize("path", sorted((ROOT / "locked").glob("*.txt")), ids=lambda path: path.name)
def test_the_versions_are_those_of_the_constraints(path: Path) -> None:
    """`make lock` writes all of these files, or none."""
    assert pins(path) <= pins(ROOT / "constraints.txt")


def test_what_installs_asks_for_the_hashes() -> None:
    """pip checks them in all cases only with `--require-hashes`; what is ours alone is installed without, and so are
    the engines of `make test-engines`, which are pinned by version alone."""
    for path in (ROOT / "Makefile", ROOT / ".ci/run"):
        lines = re.findall(r"-m pip install.*", path.read_text())
        assert lines
        allowed = ("--require-hashes", "--no-deps --no-build-isolation --editable .", "uv==$(UV_VERSION)")
        allowed += ("--requirement constraints-engines.txt",)
        assert [line for line in lines if not any(words in line for words in allowed)] == []

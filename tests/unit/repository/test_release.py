"""What is said about a release agrees with what is released."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from worker_client import __version__

ROOT = Path(__file__).parents[3]
_HEADINGS = re.compile(r"^## (.*)$", re.MULTILINE)
_RELEASE = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)")


def test_the_newest_release_of_the_changelog_is_the_version() -> None:
    """Unreleased changes stand above it, and each release has its date."""
    first, *others = _HEADINGS.findall((ROOT / "CHANGELOG.md").read_text())
    assert first == "[Unreleased]"
    releases = [_RELEASE.fullmatch(heading) for heading in others]
    assert all(releases), others
    found = [(match[1], dt.date.fromisoformat(match[2])) for match in releases if match]
    assert found[0][0] == __version__
    assert found == sorted(found, key=lambda each: each[1], reverse=True)

"""Links between pages work on GitHub: the file is there, and so is the heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, pages

_CODE = re.compile(r"^([ \t]*)```.*?^\1```[ \t]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """Targets inside the repository."""
    for target in _LINK.findall(_CODE.sub("", page.read_text())):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub makes of the headings: lower case, spaces become hyphens, punctuation goes."""
    text = re.sub(r"^([ \t]*)```.*?^\1```[ \t]*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return frozenset(
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    )


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each link leads to a file of this repository, and to a heading in it."""
    for target in links(page):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.relative_to(ROOT)}: no {target}"
        assert file.is_relative_to(ROOT), f"{page.relative_to(ROOT)}: {target} is outside the repository"
        if anchor:
            assert anchor in anchors(file), f"{page.relative_to(ROOT)}: {name} has no heading #{anchor}"


def test_every_page_can_be_found() -> None:
    """Every page can be reached by links from the README."""
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in found or not page.is_file():
            continue
        found.add(page)
        waiting += [
            (page.parent / target.partition("#")[0]).resolve()
            for target in links(page)
            if target.partition("#")[0].endswith(".md")
        ]
    unseen = set(pages()) - found - {ROOT / "docs" / "index.md", ROOT / "CHANGELOG.md"}
    assert not unseen, f"no page links to {sorted(str(page.relative_to(ROOT)) for page in unseen)}"


def test_the_first_page_of_the_site_is_the_readmes_first_screen() -> None:
    """It is taken up to a mark, and what newcomers need stands above that."""
    mark = "<!-- end of the first screen -->"
    first = (ROOT / "docs" / "index.md").read_text()
    assert first.startswith(
        f"```{{include}} ../README.md\n:relative-docs: docs/\n:relative-images:\n:end-before: {mark}"
    )
    shown, found, _ = (ROOT / "README.md").read_text().partition(mark)
    assert found
    for needed in ("pip install", "Python 3.10 to 3.13", "# was: ", "memory of the server", "onesession run"):
        assert needed in shown

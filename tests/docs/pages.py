"""The pages and their fenced blocks. HTML comments right above a fence, which no reader sees, say how it is run:

    <!-- not run: REASON -->      it is not, and why
    <!-- before: PYTHON -->       what to run first, in the same namespace: what the text takes for granted
    <!-- file: NAME.py -->        a program: written to the place and run by python
    <!-- elsewhere -->            starts a broker at an address that another block has: give it a directory of its own
    <!-- needs: tensorflow -->    runs in a process with TensorFlow and a session (tests/docs/with_session.py)
    <!-- needs: MODULE -->        runs where that module can be imported

A block whose first line is `# NAME` is a file that others use: it is written to the place, under that name, as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHOWN = ("text", "mermaid")
"""Languages of blocks that there is nothing to run in."""

_COMMENT = r"(?:[ \t]*<!--(?:(?!-->).)*-->[ \t]*\n)"
_BLOCK = re.compile(
    rf"^(?P<comments>{_COMMENT}*)(?P<indent>[ \t]*)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(
    r"<!--\s*(?P<name>not run|before|file|elsewhere|needs)(?::\s?(?P<text>.*?))?\s*-->", re.DOTALL
)
_NAME = re.compile(r"# (?P<name>[\w.]+\.(?:py|toml|ini))\n")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def file_name(self) -> str | None:
        """Of the file that its first line says it is."""
        found = _NAME.match(self.text)
        return found["name"] if found else None

    @property
    def is_directive(self) -> bool:
        """For Sphinx, no code."""
        return self.language.startswith("{")

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page that a reader may see, generated ones included."""
    return sorted(
        [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *DOCS.rglob("*.md")]
    )


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        marks = {mark["name"]: mark["text"] or "" for mark in _MARK.finditer(match["comments"])}
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(page, line, match["language"].strip(), match["text"], marks))
    return found

"""```mermaid state diagrams as SVG, drawn here: GitHub draws them by itself, the site may ask nobody.

Understands what `tests/contract/protocol/diagram.py` writes: `state "label" as name` and `from --> to: step`. States
stand in one column in the order of their declaration, those whose names begin with `abandoned` in a second one, each
beside the state of the first that it belongs to.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROW, COLUMN, TOP, LEFT = 74, 450, 20, 225
WIDTH, HEIGHT = 190, 40
ASIDE = "abandoned_"
_STATE = re.compile(r'state "(?P<label>[^"]+)" as (?P<name>\w+)')
_STEP = re.compile(r"(?P<source>\[\*\]|\w+) --> (?P<target>\w+)(: (?P<step>.+))?")


@dataclass(frozen=True)
class Box:
    label: str
    column: int
    row: int

    @property
    def x(self) -> int:
        return LEFT + self.column * COLUMN

    @property
    def y(self) -> int:
        return TOP + self.row * ROW


def picture(text: str) -> str:
    """The SVG. Raises ValueError for a line that is not understood."""
    first, *lines = [line.strip() for line in text.splitlines() if line.strip()]
    if first != "stateDiagram-v2":
        raise ValueError(f"only state diagrams are drawn, not {first!r}; make it an SVG in docs/pictures")
    boxes: dict[str, Box] = {}
    steps: list[tuple[str, str, str]] = []
    for line in lines:
        if state := _STATE.fullmatch(line):
            name = state["name"]
            main = boxes.get(name.removeprefix(ASIDE)) if name.startswith(ASIDE) else None
            row = main.row if main else len(boxes)
            boxes[name] = Box(state["label"], 1 if main else 0, row)
        elif step := _STEP.fullmatch(line):
            steps.append((step["source"], step["target"], step["step"] or ""))
        else:
            raise ValueError(f"a line of a state diagram that is not understood: {line!r}")
    height = TOP * 2 + (max(box.row for box in boxes.values()) + 1) * ROW
    drawn = [_arrow(boxes, *step) for step in steps if step[0] != "[*]"] + [
        _box(box) for box in boxes.values()
    ]
    return (
        f'<svg class="states" viewBox="0 0 {2 * LEFT + COLUMN + WIDTH} {height}" role="img" '
        'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" fill="currentColor">'
        '<title>States of a slot, and the steps between them</title><defs><marker id="tip" viewBox="0 0 8 8" refX="8" '
        'refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        + "".join(drawn)
        + "</svg>"
    )


def _box(box: Box) -> str:
    name, _, may = box.label.partition(" (")
    lines = [name, may.rstrip(")")] if may else [name]
    middle = box.y + HEIGHT / 2 + 4 - 7 * (len(lines) - 1)
    text = "".join(
        f'<text x="{box.x + WIDTH / 2}" y="{middle + 14 * number}" text-anchor="middle" '
        f'font-size="{12 - 2 * number}">{html.escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return (
        f'<rect x="{box.x}" y="{box.y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="none" stroke="currentColor"/>'
        + text
    )


def _arrow(boxes: dict[str, Box], source: str, target: str, step: str) -> str:
    a, b = boxes[source], boxes[target]
    if a.column == b.column and b.row == a.row + 1:
        x, y = a.x + WIDTH / 2, a.y + HEIGHT
        return _line(f"M{x} {y}V{b.y}", x + 6, y + (ROW - HEIGHT) / 2 + 4, "start", step)
    if a.column == b.column:  # past other states: around them, on the outer side
        side = -1 if a.column == 0 else 1
        edge = a.x if side < 0 else a.x + WIDTH
        out = edge + side * (16 + 12 * abs(b.row - a.row))
        start, end = (
            a.y + HEIGHT * (0.35 if b.row < a.row else 0.75),
            b.y + HEIGHT * (0.65 if b.row < a.row else 0.3),
        )
        path = (
            f"M{edge} {start}C{out} {start} {out} {start} {out} {(start + end) / 2}S{out} {end} {edge} {end}"
        )
        return _line(path, out + side * 4, (start + end) / 2, "end" if side < 0 else "start", step)
    start_x, end_x = (a.x + WIDTH, b.x) if a.column < b.column else (a.x, b.x + WIDTH)
    start, end = a.y + HEIGHT / 2, b.y + HEIGHT / 2
    return _line(
        f"M{start_x} {start}L{end_x} {end}", (start_x + end_x) / 2, (start + end) / 2 - 5, "middle", step
    )


def _line(path: str, x: float, y: float, anchor: str, text: str) -> str:
    return (
        f'<path d="{path}" fill="none" stroke="currentColor" opacity="0.6" marker-end="url(#tip)"/>'
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="10">{html.escape(text)}</text>'
    )


class Mermaid(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            svg = picture("\n".join(self.content))
        except ValueError as error:
            raise self.error(str(error)) from None
        return [nodes.raw("", svg, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

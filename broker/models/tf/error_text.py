"""Shortens TensorFlow's error messages to the cause and the node, without stack traces."""

from __future__ import annotations

import re

_NODE = re.compile(r"\[\[.*?\{\{node ([^}]+)\}\}\]\]|\[\[([^]]+)\]\]")
_NOISE = re.compile(
    r"""Graph\ execution\ error: | Detected\ at\ node | Original\ stack\ trace | <stack\ traces\ unavailable>
      | \d+\ root\ error\(s\)\ found | \d+\ successful\ operations | \d+\ derived\ errors\ ignored
      | File\ "[^"]+",\ line\ \d+ | Traceback\ \(most\ recent | Errors\ may\ have\ originated""",
    re.VERBOSE,
)
_ROOT_ERROR = re.compile(r"\((\d+)\)\s*(?:[A-Z_]+:\s*)?(.*)")


def clean(message: str) -> str:
    """The message's own lines joined to one, with the first node named at the end."""
    node = _NODE.search(message)
    kept: list[str] = []
    in_stack = False
    for line in message.splitlines():
        text = line.strip()
        # The line after a stack entry is its source line, indented deeper.
        if not text or _NODE.fullmatch(text) or (in_stack and line.startswith("    ")):
            continue
        in_stack = text.startswith('File "')
        root = _ROOT_ERROR.fullmatch(text)
        if root and int(root[1]) > 0:
            break
        if _NOISE.match(text):
            continue
        kept.append(root[2] if root else text)
    said = " ".join(kept) or message.strip()
    return f"{said} (node {node[1] or node[2]})" if node else said

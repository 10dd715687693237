"""Protocol buffers' text format, as much of it as configuration files use, into plain values without their schema.

    config { name: "digits" version_labels { key: 'stable' value: 1 } }   # comment

becomes {"config": [{"name": ["digits"], "version_labels": [{"key": ["stable"], "value": [1]}]}]}: every field is a list
of its values in their order. The grammar: https://protobuf.dev/reference/protobuf/textformat-spec/. Extensions and
`Any` are read as fields of their bracketed name.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from worker_client.wire.errors import InvalidInput

Message = dict[str, list[Any]]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)|(?P<newline>\n)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)[fF]?)
    |(?P<extension>\[[\w./\-]+\])
    |(?P<name>-?[A-Za-z_]\w*)
    |(?P<mark>[{}<>:,;\[\]])""",
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}
_WORDS = {"true": True, "false": False, "t": True, "f": False, "True": True, "False": False}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(text: str, where: str = "text format") -> Message:
    """The message in `text`. Raises InvalidInput with the line; `where` is how it calls the text."""
    parser = _Parser(_tokens(text, where), where)
    return parser.fields(None)


def _tokens(text: str, where: str) -> list[_Token]:
    tokens, at, line = [], 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidInput(f"{where}, line {line}: {text[at : at + 20]!r} is no text format")
        kind = str(match.lastgroup)
        if kind == "newline":
            line += 1
        elif kind != "space":
            tokens.append(_Token(kind, match[0], line))
        at = match.end()
    return [*tokens, _Token("end", "the end", line)]


class _Parser:
    def __init__(self, tokens: list[_Token], where: str) -> None:
        self._tokens = tokens
        self._at = 0
        self._where = where

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _takes(self, *marks: str) -> bool:
        if self._next.kind == "mark" and self._next.text in marks:
            self._take()
            return True
        return False

    def fields(self, closing: str | None) -> Message:
        """Up to the mark that closes the message, or to the end."""
        message: Message = {}
        while not (self._takes(closing) if closing else self._next.kind == "end"):
            token = self._take()
            if token.kind not in ("name", "extension", "number"):
                raise self._wrong(token, "the name of a field")
            message.setdefault(token.text.strip("[]"), []).extend(self._values())
            self._takes(",", ";")
        return message

    def _values(self) -> list[Any]:
        colon = self._takes(":")
        if self._takes("["):
            values: list[Any] = []
            while not self._takes("]"):
                values.append(self._value(colon=True))
                if not self._takes(","):
                    if not self._takes("]"):
                        raise self._wrong(self._next, "',' or ']'")
                    break
            return values
        return [self._value(colon)]

    def _value(self, colon: bool) -> Any:
        token = self._take()
        if token.kind == "mark" and token.text in _CLOSING:
            return self.fields(_CLOSING[token.text])
        if not colon:
            raise self._wrong(token, "':' or '{'")
        if token.kind == "text":
            return self._text(token)
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "name":
            return _WORDS.get(token.text, token.text)
        raise self._wrong(token, "a value")

    def _text(self, token: _Token) -> str:
        """Neighbours are one text."""
        parts = [token.text]
        while self._next.kind == "text":
            parts.append(self._take().text)
        try:
            return "".join(str(ast.literal_eval(part)) for part in parts)
        except (SyntaxError, ValueError):
            raise self._wrong(token, "a text") from None

    def _wrong(self, token: _Token, expected: str) -> InvalidInput:
        return InvalidInput(f"{self._where}, line {token.line}: expected {expected}, got {token.text}")


def _number(text: str) -> int | float:
    bare = text if text.lower().startswith(("0x", "-0x")) else text.rstrip("fF")
    try:
        return int(bare, 0)
    except ValueError:
        pass
    try:
        return int(bare, 8)  # 010
    except ValueError:
        return float(bare)

"""Parses protocol buffers' text format into plain values without a schema, so that unknown fields can be reported.

    config { name: "digits" version_labels { key: 'stable' value: 1 } }   # comment

becomes {"config": [{"name": ["digits"], "version_labels": [{"key": ["stable"], "value": [1]}]}]}: every field is a list
of its values in their order. Protobuf reads the tokens and their values. Its own parser stops at fields that are not in
a schema, or drops them. Extensions and `Any` are read as fields of their bracketed name.
"""

from __future__ import annotations

import contextlib
from typing import Any

from google.protobuf.text_format import ParseError, Tokenizer

from worker_client.wire.errors import InvalidInput

Message = dict[str, list[Any]]

_BRACKETS = {"{": "}", "<": ">"}
_WORDS = {"true": True, "false": False, "t": True, "f": False, "True": True, "False": False}


class _Unexpected(Exception):
    def __init__(self, tokens: Tokenizer, expected: str) -> None:
        line = tokens.ParseError("").GetLine()
        super().__init__(f"line {line}: expected {expected}, got {tokens.token or 'the end'}")


def parse(text: str, where: str = "text format") -> Message:
    """The message in `text`. Raises InvalidInput with the line; `where` names the text in messages."""
    try:
        return _fields(Tokenizer(text.split("\n")), "")
    except _Unexpected as error:
        raise InvalidInput(f"{where}, {error}") from None


def _fields(tokens: Tokenizer, closing: str) -> Message:
    """The fields up to the mark that closes the message, or up to the end."""
    message: Message = {}
    while not (tokens.TryConsume(closing) if closing else tokens.AtEnd()):
        message.setdefault(_name(tokens), []).extend(_values(tokens))
        if not tokens.TryConsume(","):
            tokens.TryConsume(";")
    return message


def _name(tokens: Tokenizer) -> str:
    if tokens.TryConsume("["):
        return _bracketed(tokens)
    try:
        return str(tokens.ConsumeIdentifierOrNumber())
    except ParseError:
        raise _Unexpected(tokens, "the name of a field") from None


def _bracketed(tokens: Tokenizer) -> str:
    parts: list[str] = []
    while not tokens.TryConsume("]"):
        if tokens.AtEnd():
            raise _Unexpected(tokens, "']'")
        parts.append(tokens.token)
        tokens.NextToken()
    return "".join(parts)


def _values(tokens: Tokenizer) -> list[Any]:
    colon = tokens.TryConsume(":")
    if not tokens.TryConsume("["):
        return [_value(tokens, colon)]
    values: list[Any] = []
    while not tokens.TryConsume("]"):
        values.append(_value(tokens, colon=True))
        if not tokens.TryConsume(",") and not tokens.LookingAt("]"):
            raise _Unexpected(tokens, "',' or ']'")
    return values


def _value(tokens: Tokenizer, colon: bool) -> Any:
    token = tokens.token
    if token in _BRACKETS:
        tokens.NextToken()
        return _fields(tokens, _BRACKETS[token])
    if not colon:
        raise _Unexpected(tokens, "':' or '{'")
    if token.startswith(("'", '"')):
        return _text(tokens)
    if tokens.TryConsumeIdentifier():
        return _WORDS.get(token, token)
    for consume in (tokens.ConsumeInteger, tokens.ConsumeFloat):
        with contextlib.suppress(ParseError):
            return consume()
    raise _Unexpected(tokens, "a value")


def _text(tokens: Tokenizer) -> str:
    """One string; adjacent strings are joined."""
    try:
        return str(tokens.ConsumeString())
    except ParseError:
        raise _Unexpected(tokens, "a string") from None

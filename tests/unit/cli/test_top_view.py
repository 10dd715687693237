"""The keys of `onesession top`: what is shown, and in which order."""

from __future__ import annotations

import pytest

from broker.cli.top_view import SORTS, TopView
from broker.observe.summary import figures
from tests.unit.cli.test_frame import answer, signature


def models(view: TopView) -> list[str]:
    now = {
        **answer(10.0, 0),
        "signatures": [
            {**signature("quiet", 5, 0), "signature": "other"},
            signature("busy", 500, 7),
            {**signature("quiet", 0, 0), "signature": "never"},
            signature("ant", 50, 9),
        ],
    }
    return [f"{each.model}:{each.signature}" for each in view.chosen(figures(now), now)]


QUIET, BUSY, NEVER, ANT = "quiet:other", "busy:serving_default", "quiet:never", "ant:serving_default"


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("", [QUIET, BUSY, ANT]),
        ("a", [QUIET, BUSY, NEVER, ANT]),
        ("aa", [QUIET, BUSY, ANT]),
        ("s", [ANT, BUSY, QUIET]),
        ("ss", [BUSY, ANT, QUIET]),
        ("sssss", [ANT, BUSY, QUIET]),
        ("s" * (len(SORTS) + 1), [QUIET, BUSY, ANT]),
        ("/us", [BUSY]),
        ("/BUSY\r", [BUSY]),
        ("/busx\x7fy\r", [BUSY]),
        ("/busy\x1b", [QUIET, BUSY, ANT]),
        ("/busy\r\x1b", [QUIET, BUSY, ANT]),
        ("/as\r", []),
        ("/serving_default\rs", [ANT, BUSY]),
    ],
)
def test_what_is_shown(keys: str, shown: list[str]) -> None:
    view = TopView()
    assert not any(view.press(key) for key in keys)
    assert models(view) == shown


@pytest.mark.parametrize("keys", ["q", "Q", "\x1b", "", "sq", "/busy\rq", "hq"])
def test_what_quits(keys: str) -> None:
    """An empty one: the terminal is gone."""
    assert TopView().press_all(keys)


@pytest.mark.parametrize("keys", ["\x1b[A", "\x1bOP", "\x1b[Ah", "\x1b[1;5Ca", "h", "/q", "/qq\r", "x"])
def test_what_does_not_quit(keys: str) -> None:
    """An arrow, a function key, and a `q` that is part of a text."""
    assert not TopView().press_all(keys)


def test_escape_leaves_the_help_first() -> None:
    view = TopView()
    view.press_all("h")
    assert view.help
    assert not view.press_all("\x1b")
    assert not view.help
    assert view.press_all("\x1b")

"""The page in a headless Chromium: its policy lets it work, it refreshes itself, and it fits its window."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from tests.brokers import TestBroker, serving
from tests.chromium import PROGRAM, Chromium, chromium
from worker_client import Client

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium")

MODELS = ("double", "mixed", "constant")
LONG = "a_model_of_" + "which_the_name_is_long_" * 2
ODD = {"odd": "tests.process.odd_names:odd", LONG: "tests.process.models:mixed"}
OPTIONS = {"metrics_port": 0, "models": ODD}

TOO_WIDE = """
[...document.querySelectorAll("*")].filter((each) => !each.closest("pre")
    && each.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((each) => each.outerHTML)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as found:
        yield found


def address(broker: TestBroker) -> str:
    (found,) = broker.status()["metrics"]
    return f"{found}/"


def test_it_refreshes_itself(broker: TestBroker, client: Client, browser: Chromium) -> None:
    """The script runs and puts new figures into the page that is there, without loading it again."""
    browser.said.clear()
    browser.open(address(broker))
    client.model("double").predict(np.ones((1, 4), np.float32))
    browser.wait_for("document.querySelector('h1 small').textContent !== ''")
    browser.wait_for(
        f"[...document.querySelectorAll('td')].some((each) => each.textContent == {os.getpid()})"
    )
    browser.evaluate("window.kept = document.querySelector('h1 small').textContent; 1")
    browser.wait_for("window.kept && document.querySelector('h1 small').textContent !== window.kept")
    assert browser.evaluate("document.getElementById('note').textContent") == ""
    assert browser.said == []


def test_names_run_nothing(broker: TestBroker, browser: Chromium) -> None:
    """Names that are markup are shown as they are, in the page and after a refresh."""
    browser.open(address(broker))
    assert browser.evaluate("document.title").startswith("onesession: ")
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("document.querySelectorAll('script').length") == 1
    assert browser.evaluate("document.body.textContent.includes('</code></pre><img src=x')")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_its_window(
    broker: TestBroker, client: Client, browser: Chromium, width: int, dark: bool
) -> None:
    """Nothing is wider than the page, all details open; the colours are those of the reader's scheme."""
    client.model("double").predict(np.ones((1, 4), np.float32))
    browser.look(width, 800, dark)
    browser.open(address(broker))
    browser.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(TOO_WIDE) == []
    brightness = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)"
    assert (sum(browser.evaluate(brightness)) < 3 * 128) is dark


def test_it_says_that_the_broker_is_gone(browser: Chromium) -> None:
    """And shows the next one when that is there."""
    with serving("double", metrics_port=0) as broker:
        (found,) = broker.status()["metrics"]
        browser.open(f"{found}/")
    browser.wait_for("document.getElementById('note').textContent.includes('does not answer')")
    with serving("double", "mixed", metrics_port=int(found.rpartition(":")[2])):
        browser.wait_for("[...document.querySelectorAll('h3')].some((each) => each.textContent === 'mixed')")

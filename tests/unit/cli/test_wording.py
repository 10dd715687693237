"""Numbers few characters wide, whatever their size."""

from __future__ import annotations

import pytest

from broker.observe import formatting as wording


@pytest.mark.parametrize(
    ("us", "text"),
    [
        *((0, "-"), (0.4, "0.4us"), (7.32, "7.3us"), (9.96, "10us"), (123.4, "123us"), (999.4, "999us")),
        *((999.6, "1.0ms"), (12_000, "12ms"), (999_499, "999ms"), (999_501, "1.0s"), (61e6, "61s")),
    ],
)
def test_durations(us: float, text: str):
    """Two digits or three, and five characters at most, also where rounding reaches the next unit."""
    assert wording.duration(us) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (7.5, "7.5"), (950, "950"), (9_999.4, "9999"), (12_345, "12.3k"), (10_000, "10k")),
        *((9_990_000, "9990k"), (45_000_000, "45M"), (2e10, "20G")),
    ],
)
def test_numbers(value: float, text: str):
    """Thousands and millions are told as such from ten of them on."""
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (3_500, "3.4 KiB"), (120 << 20, "120 MiB"), (5 << 40, "5120 GiB")],
)
def test_sizes(nbytes: float, text: str):
    """In binary units."""
    assert wording.size(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.3, "12 s"), (150, "2 min"), (10_000, "3 h"), (1e6, "12 d")],
)
def test_ages(seconds: float, text: str):
    """In the unit that people would say it in."""
    assert wording.age(seconds) == text


def test_sparklines():
    """Bars from 0 to the largest that is shown, the newest to the right."""
    assert wording.sparkline([], 4) == ""
    assert wording.sparkline([0, 0], 4) == "▁▁"
    assert wording.sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8], 9) == "▁▂▃▄▅▆▇██"
    assert wording.sparkline([100, 1, 2], 2) == "▅█"

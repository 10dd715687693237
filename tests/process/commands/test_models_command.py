"""What `onesession models` says of each signature: light or heavy, joined or kept apart, and why."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from broker.cli import main
from tests.brokers import serving

DOUBLE = "tests.process.models:double"
MODELS = {
    "joined": {"source": DOUBLE, "batching": "on", "max_batch_size": 16},
    "single": {"source": DOUBLE, "batching": "on", "max_batch_size": 1},
    "off": {"source": DOUBLE, "batching": "off"},
    "scalar": "tests.process.models:add",
    "stateful": {"source": "tests.process.models:gated_stateful", "batching": "on"},
    "outside": {"source": DOUBLE, "batching": "on", "inline": False},
}


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """The line of each model's signature."""
    with serving(models=MODELS) as broker:
        text = CliRunner().invoke(main, ["models", "--name", broker.address], env={"COLUMNS": "400"}).stdout
    lines = text.splitlines()
    return {
        model: lines[index + 2]
        for index, line in enumerate(lines)
        for model in MODELS
        if f" {model}, version 1" in line
    }


@pytest.mark.parametrize(
    ("model", "state"),
    [
        ("joined", "), joined, up to 16 rows a run"),
        ("single", "), not joined: max_batch_size = 1"),
        ("off", "), kept apart: batching is off"),
        ("scalar", "), kept apart: the first dimension of input 'a' is not free"),
        ("stateful", "heavy (stateful), kept apart: it is stateful: it changes state"),
        ("outside", "heavy (inline = false), joined, up to "),
    ],
)
def test_the_present_state_of_a_signature(shown: dict[str, str], model: str, state: str) -> None:
    assert state in shown[model]

"""`onesession bench` on a SavedModel, beside the ways in which an app can call it by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import brokers
from tests.commands import commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PATIENCE_S = 300
"""TensorFlow is imported eight times, by one process after the other."""


def test_the_broker_is_measured_beside_session_and_signature(mlp_path: Path) -> None:
    """All answer as the model alone does, in every window."""
    words = ("--workers", "2", "--rows", "4", "--window", "0.3", "--windows", "3", "--no-tune", "--json")
    with brokers.folder() as place, commands(place) as start:
        command = start("bench", f"mlp={mlp_path}", *words, "--compare", "session", "--compare", "signature")
        out, err = command.process.communicate(timeout=PATIENCE_S)
    assert command.process.returncode == 0, err
    told = json.loads(out)
    assert told["checked_against"] == "the same model in a process of its own"
    assert [each["arm"] for each in told["measured"]] == ["broker", "session", "signature"]
    assert all(each["answers_checked"] > 0 and not each["failures"] for each in told["measured"])

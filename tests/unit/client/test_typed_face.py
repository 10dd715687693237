"""What type checkers, `dir()` and `repr()` tell of what apps call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import worker_client
from broker import Broker, Settings
from broker.config.file import BROKER_KEYS
from broker.config.options import StartOptions
from broker.models.setting_field import ChoiceCheck
from worker_client import aio

ROOT = Path(__file__).parents[3]
CLIENT = worker_client.connect("/nowhere/b.sock")


def test_mypy_tells_wrong_uses() -> None:
    """And none of the right ones: see typed_face.py."""
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/unit/typed_face.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_typed_options_are_the_settings() -> None:
    """By name; and where a setting is one of a few texts, those."""
    hints = get_type_hints(StartOptions)
    assert sorted(hints) == sorted(set(BROKER_KEYS) - {"name"})
    for name, field in Settings.__dataclass_fields__.items():
        if isinstance(check := field.metadata.get("check"), ChoiceCheck):
            assert list(get_args(hints[name])) == check.values, name


@pytest.mark.parametrize(
    ("thing", "shown", "hidden"),
    [
        (CLIENT, {"model", "models", "session", "close", "address", "timeout"}, {"_connection"}),
        (CLIENT.model("m"), {"predict", "submit", "map", "request", "inputs"}, {"bind", "_bound", "options"}),
        (aio.connect("/nowhere/b.sock"), {"model", "models", "close"}, {"calls_of", "ready", "_client"}),
        (aio.connect("/nowhere/b.sock").model("m"), {"predict", "submit", "signature"}, {"_model"}),
        (Broker(), {"start", "stop", "address", "run_workers"}, {"_process"}),
        (worker_client, {"connect", "Client", "aio", "BrokerError"}, {"sys", "importlib", "timeouts"}),
    ],
    ids=["client", "model", "aio client", "aio model", "broker", "module"],
)
def test_dir_shows_the_face(thing: object, shown: set[str], hidden: set[str]) -> None:
    names = set(dir(thing))
    assert shown <= names
    assert not hidden & names
    assert {name for name in names if name.startswith("_") and not name.startswith("__")} == set()


def test_a_handle_says_what_it_wants() -> None:
    """Nothing is asked of a broker for it; what it has got, it says once it has called."""
    assert repr(CLIENT.model("m")) == "<Model 'm' at /nowhere/b.sock>"
    handle = CLIENT.model("m", 3, "classify")
    assert repr(handle) == "<Model 'm' version 3, signature 'classify' at /nowhere/b.sock>"


def test_a_wait_that_does_not_exist() -> None:
    with pytest.raises(
        worker_client.InvalidInput, match="wait must be one of 'adaptive', 'poll', 'block', got 'spin'"
    ):
        worker_client.connect(wait="spin")  # type: ignore[arg-type]

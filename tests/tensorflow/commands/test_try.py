"""`onesession try` with SavedModels: every signature is shown, and none is called that changes something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests import brokers
from tests.commands import commands
from tests.models.saved_models import export


def tried(*words: str) -> tuple[int, str, str]:
    with brokers.folder() as place, commands(place) as start:
        found: tuple[int, str, str] = start("try", *words).end()
        return found


def test_a_signature_is_called_by_its_name(saved_models: Mapping[str, Path]) -> None:
    status, out, err = tried(f"shapes={saved_models['shapes']}", "--signature", "scalars")
    assert status == 0, err
    shown = " ".join(out.split())
    assert "fixed(x: float32[2, 3]) -> (" in shown
    assert "nonzero(x: float32[?, ?]) -> (" in shown
    assert "calling scalars(a: float32[], b: float32[])\n" in out
    assert out.count('.model("shapes", signature="scalars")') == 3


def test_a_signature_that_changes_something_is_called_if_it_is_named(tmp_path: Path) -> None:
    """What it changes is said."""
    path = tmp_path / "counter"
    export({"counter": path})
    status, out, err = tried(f"counter={path}")
    assert (status, "calling" in out) == (0, False), err
    assert (
        "not called: serving_default is stateful (it writes variable 'n'); to call it, name it: --signature"
        in out
    )
    status, out, err = tried(f"counter={path}", "--signature", "serving_default")
    assert (status, "calling serving_default(" in out) == (0, True), err

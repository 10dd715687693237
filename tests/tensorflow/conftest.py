"""Real SavedModels, exported once for the run by another process: this one has TensorFlow as a broker has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.models.sources import session
from broker.models.sources.session import SessionModel
from broker.models.spec import ModelSpec
from tests.models.saved_models import KINDS, export
from tests.side_by_side import made_once

TAGS = {"aliases": ("serve", "special")}


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """{kind: directory} for every kind of tests/models/saved_models.py. Read-only: copy what you want to break."""

    def paths(root: Path) -> dict[str, Path]:
        return {kind: root / kind for kind in KINDS if kind != "rows"}  # which has many, for one test

    return paths(made_once(tmp_path_factory, "saved_models", lambda root: export(paths(root))))


@pytest.fixture(scope="session")
def mlp_path(saved_models: Mapping[str, Path]) -> Path:
    return saved_models["mlp"]


@pytest.fixture
def load(saved_models: Mapping[str, Path]) -> Iterator[Callable[..., SessionModel]]:
    """`load(kind, **settings)` is the loaded model, closed after the test; one intra-op thread unless told."""
    loaded: list[SessionModel] = []

    def load_kind(kind: str, **settings: Any) -> SessionModel:
        settings = {"intra_op_threads": 1, "tags": TAGS.get(kind, ("serve",)), **settings}
        loaded.append(session.load(ModelSpec(kind, str(saved_models[kind]), **settings)))
        return loaded[-1]

    yield load_kind
    for model in loaded:
        model.close()

"""The ways for gunicorn's workers to have a model's answers, as arms of the harness."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from benchmarks.harness.arm import Arm

APPS = "benchmarks.http.apps"


@dataclass(frozen=True)
class Setup:
    """What all arms have in common. `tune` is the broker's setting of that name."""

    workers: int
    connections: int
    directory: str
    model: str
    tune: str


@dataclass(frozen=True)
class Kind:
    """One way. `app` and `conf` are modules of `apps`; `workload` is what the app answers."""

    label: str
    app: str
    conf: str = "conf"
    workload: str = "mlp"
    environment: Mapping[str, str] = field(default_factory=dict)


KINDS = {
    "bare": Kind("no model", "bare", workload="head"),
    "sessions": Kind("a session in each worker", "sessions"),
    "dirty": Kind("dirty arbiter", "dirty", "conf_dirty", environment={"HTTP_DIRTY_WORKERS": "1"}),
    "broker": Kind("broker", "brokered", "conf_broker"),
}


def arm(kind: str, setup: Setup) -> Arm:
    chosen = KINDS[kind]
    facts = {"workers": setup.workers, "connections": setup.connections}
    options = {"kind": kind, **asdict(setup)}
    return Arm(kind, chosen.label, "benchmarks.http.served:served", chosen.workload, options, facts=facts)


def missing(kind: str) -> str | None:
    """Why this kind cannot run here, if so."""
    if kind == "dirty":
        try:
            importlib.import_module("gunicorn.dirty")
        except ImportError as error:
            return f"{error} (pip install 'gunicorn>=25')"
    return None

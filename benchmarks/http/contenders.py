"""The ways for gunicorn's workers to have a model's answers, as arms of the harness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from benchmarks.harness import modules
from benchmarks.harness.arm import Arm

APPS = "benchmarks.http.apps"


@dataclass(frozen=True)
class Setup:
    """The options that all arms have in common. `tune` is the broker's setting of that name."""

    workers: int
    connections: int
    directory: str
    model: str
    tune: str


@dataclass(frozen=True)
class HttpContender:
    """One way to serve the model. `app` and `conf` are modules of `apps`; the app answers the inputs of `workload`."""

    label: str
    app: str
    conf: str = "conf"
    workload: str = "mlp"
    environment: Mapping[str, str] = field(default_factory=dict)


KINDS = {
    "bare": HttpContender("no model", "bare", workload="head"),
    "sessions": HttpContender("a session in each worker", "sessions"),
    "dirty": HttpContender("dirty arbiter", "dirty", "conf_dirty", environment={"HTTP_DIRTY_WORKERS": "1"}),
    "broker": HttpContender("broker", "brokered", "conf_broker"),
}


def arm(kind: str, setup: Setup) -> Arm:
    chosen = KINDS[kind]
    facts = {"workers": setup.workers, "connections": setup.connections}
    options = {"kind": kind, **asdict(setup)}
    return Arm(
        kind, chosen.label, "benchmarks.http.server_arm:server_arm", chosen.workload, options, facts=facts
    )


def missing(kind: str) -> str | None:
    """Why this kind cannot run here, if so."""
    return modules.missing("gunicorn.dirty", "'gunicorn>=25'") if kind == "dirty" else None

"""The model to be measured, and the broker that serves it: started here, or one that runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.api import Broker
from broker.control_plane import locks
from broker.control_plane.query import ask
from broker.models.spec import ModelSpec
from broker.sharing.memory import sweep
from worker_client.wire.address import name_prefix
from worker_client.wire.errors import ModelNotFound
from worker_client.wire.signature import Signature

_SOCKET = "b.sock"


@dataclass(frozen=True)
class ModelUnderTest:
    """`address` of a running broker that serves `name`, or None to start one for `spec`, with `options` of Broker.

    `spec` may be None beside an address: the model is then known to its broker only.
    """

    name: str
    spec: ModelSpec | None
    address: str | None = None
    signature: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServedUnderTest:
    """The model as its broker serves it. `facts` is what the broker reports about it, except its signatures."""

    address: str
    pid: int
    signature: Signature
    facts: dict[str, Any]


@contextmanager
def served(model: ModelUnderTest) -> Iterator[ServedUnderTest]:
    """Raises BrokerError if there is no such broker or it cannot be started, and ModelNotFound."""
    if model.address is not None:
        yield _asked(model, model.address)
        return
    assert model.spec is not None
    folder = _folder()
    path = Path(folder, _SOCKET)
    try:
        with Broker([model.spec], name=os.fspath(path), supervise=False, **model.options) as broker:
            yield _asked(model, broker.address)
    finally:
        # No other broker will have this address, and so remove what one leaves that had to be killed.
        sweep(name_prefix(path))
        locks.of_names(path).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> str:
    """A new folder whose path is short enough for a socket, as $TMPDIR may not be."""
    prefix = "onesession-bench-"
    try:
        return tempfile.mkdtemp(prefix=prefix, dir="/tmp")
    except OSError:  # a read-only file system: what any broker needs is there
        return tempfile.mkdtemp(prefix=prefix, dir="/dev/shm")


def _asked(model: ModelUnderTest, address: str) -> ServedUnderTest:
    models = ask(address, "models")["models"]
    facts = models.get(model.name)
    if facts is None:
        known = ", ".join(sorted(models)) or "none"
        raise ModelNotFound(f"the broker at {address} has no model {model.name!r}; it serves {known}")
    found = {each["name"]: each for each in facts["signatures"]}
    name = model.signature or facts["default_signature"]
    if name not in found:
        reason = facts["left_out"].get(name)
        known = ", ".join(sorted(found)) or "none"
        raise ModelNotFound(
            f"model {model.name!r} has no signature {name!r}; it has {known}"
            + (f" ({name!r} was left out: {reason})" if reason else "")
        )
    kept = (
        "source",
        "version",
        "max_batch_size",
        "caller_thread",
        "max_concurrency",
        "intra_op_threads",
        "onednn",
        "light",
    )
    return ServedUnderTest(
        address,
        ask(address, "status")["status"]["pid"],
        Signature.from_message(found[name]),
        {key: facts[key] for key in kept},
    )

"""Where the time of a request goes, from the time stamps that both sides leave in the slot's header."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import monotonic_ns

import numpy as np

import worker_client
from broker import Broker
from worker_client.wire.layout import COMPLETED_NS, FINISHED_NS, STARTED_NS, SUBMITTED_NS, TAKEN_NS

STAGES = (
    "worker: check, claim a slot, copy in, fill the header",
    "hand-over: ring, two posts; broker sees it, reads the ring",
    "broker: read and check the request, find its plan",
    "broker: run the model",
    "broker: copy out, fill the header",
    "hand-back: post; worker sees it, acquires, copies out, releases",
)


def measure(source: str, wait: str, calls: int, directory: Path) -> dict[str, float]:
    """Median microseconds of each stage of `predict(x)`, x float32 [1, 128], and of the whole call ("all")."""
    with (
        Broker(models={"model": source}, name=str(directory / "stages.sock"), wait=wait) as broker,
        worker_client.connect(broker.address, wait=wait) as client,
    ):
        taken = _stamps(client.model("model"), calls)
    stamps = np.array(taken[len(taken) // 10 :])
    steps = np.median(np.diff(stamps, axis=1), axis=0) / 1e3
    return {**dict(zip(STAGES, steps.tolist())), "all": median(stamps[:, -1] - stamps[:, 0]) / 1e3}


def _stamps(model: worker_client.Model, calls: int) -> list[tuple[int, ...]]:
    """Seven monotonic times of each call."""
    x = np.zeros((1, 128), np.float32)
    model.predict(x)
    channel = model._binding.channel  # noqa: SLF001 - the stamps are in the slot, which apps never see
    words = channel._free[-1].words  # noqa: SLF001 - one caller always gets the slot that was released last
    taken = []
    for _ in range(calls):
        start = monotonic_ns()
        model.predict(x)
        end = monotonic_ns()
        stages = [words[at] for at in (SUBMITTED_NS, TAKEN_NS, STARTED_NS, FINISHED_NS, COMPLETED_NS)]
        taken.append((start, *stages, end))
    return taken

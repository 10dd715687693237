"""What must hold for the demo to have succeeded. Each check is what a reader would ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo.load import Load
from benchmarks.demo.measured import Served

TOLERANCE = 1e-5  # between a batch and a single row the order of float32 additions differs


@dataclass(frozen=True)
class Check:
    holds: bool
    text: str


class TestSet:
    """The test images, their true labels, and the model's own answers to them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self.images = stored["images"]
            self.labels = stored["labels"]
            self.probabilities = stored["probabilities"]
        self.digits = self.probabilities.argmax(axis=1)

    def pixels(self, index: int) -> list[int]:
        return [int(value) for value in self.images[index]]

    def accuracy(self, load: Load) -> float:
        """Of the answers over HTTP."""
        return float((load.digits == self.labels[load.images]).mean())

    def own_accuracy(self, load: Load) -> float:
        """Of the model itself, on the images of the same requests."""
        return float((self.digits == self.labels)[load.images].mean())

    def wrong(self, load: Load) -> int:
        """Answers with another class than the model's own."""
        return int((load.digits != self.digits[load.images]).sum())

    def distance(self, load: Load) -> float:
        """The largest difference between a probability over HTTP and the model's own."""
        return float(np.abs(load.probabilities - self.probabilities[load.images]).max())


def of_load(load: Load, tests: TestSet) -> list[Check]:
    missing = load.requests - len(load.images)
    first = f"; the first: {load.errors[0]}" if load.errors else ""
    own, over_http = tests.own_accuracy(load), tests.accuracy(load)
    wrong, distance = tests.wrong(load), tests.distance(load)
    return [
        Check(missing == 0, f"{len(load.images):,} of {load.requests:,} requests answered{first}"),
        Check(own == over_http, f"accuracy over HTTP {over_http:.2%}, of the model itself {own:.2%}"),
        Check(wrong == 0, f"{wrong} answers differ from the model's own class"),
        Check(
            distance <= TOLERANCE,
            f"probabilities differ from the model's own by at most {distance:.0e}",
        ),
    ]


def of_broker(served: Served, asked_before: int) -> Check:
    """Each answer came from the one session, and from nowhere else."""
    assert served.load is not None
    ran, answered = served.requests - asked_before, len(served.load.images)
    return Check(ran == answered, f"the broker's one session ran {ran:,} requests for {answered:,} answers")


def of_bad_request(status: int, answer: Any) -> Check:
    """An image with a pixel missing must be refused, with a message that helps."""
    message = answer.get("error", answer) if isinstance(answer, dict) else answer
    return Check(status == 400, f"an image of 63 pixels gets {status}: {message}")


def of_comparison(served: Served, tests: TestSet) -> Check:
    """The server that we compare with did the same work."""
    assert served.load is not None
    holds = all(check.holds for check in of_load(served.load, tests))
    return Check(holds, f"{served.title}: {'the same answers' if holds else 'other answers'}")

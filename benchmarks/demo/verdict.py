"""The checks that must hold for the demo to have succeeded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo.load import LoadResult
from benchmarks.demo.machine import Leftovers
from benchmarks.demo.program import Program
from benchmarks.demo.server_figures import ServerFigures

TOLERANCE = 1e-5  # rows in a batch may be added up in another order than single ones


@dataclass(frozen=True)
class Check:
    holds: bool
    text: str


class TestImages:
    """The test images, their true labels, and the model's own answers to them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self.images = stored["images"]
            self.labels = stored["labels"]
            self.probabilities = stored["probabilities"]
        self.digits = self.probabilities.argmax(axis=1)

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: int) -> list[int]:
        return [int(value) for value in self.images[index]]

    def accuracy(self, load: LoadResult) -> float:
        """The accuracy of the answers over HTTP."""
        return float((load.digits == self.labels[load.images]).mean())

    def own_accuracy(self, load: LoadResult) -> float:
        """The accuracy of the model itself, on the images of the same requests."""
        return float((self.digits == self.labels)[load.images].mean())

    def other_classes(self, load: LoadResult) -> int:
        """Answers with another class than the model's own."""
        return int((load.digits != self.digits[load.images]).sum())

    def distance(self, load: LoadResult) -> float:
        """The largest difference between a probability over HTTP and the model's own."""
        return float(np.abs(load.probabilities - self.probabilities[load.images]).max())


def of_load(load: LoadResult, tests: TestImages) -> list[Check]:
    answered, first = len(load.images), f"; the first error: {load.errors[0]}" if load.errors else ""
    own, over_http = tests.own_accuracy(load), tests.accuracy(load)
    others, distance = tests.other_classes(load), tests.distance(load)
    closely = f"to {distance:.0e}" if distance else "to the last bit"
    return [
        Check(answered == load.requests, f"{answered:,} of {load.requests:,} requests answered{first}"),
        Check(own == over_http, f"accuracy over HTTP {over_http:.2%}, of the model itself {own:.2%}"),
        Check(
            others == 0 and distance <= TOLERANCE,
            f"{answered - others:,} answers have the model's own class, and its probabilities {closely}",
        ),
    ]


def of_broker(served: ServerFigures) -> Check:
    """Each answer must have come from the one session, and from nowhere else."""
    assert served.load is not None
    assert served.counters is not None
    ran, answered = served.counters.requests, len(served.load.images)
    return Check(
        ran == answered, f"the broker's one session ran {ran:,} requests for these {answered:,} answers"
    )


def of_bad_request(status: int, answer: Any) -> Check:
    """An image with a pixel missing must be refused with a message that helps."""
    message = answer.get("error") if isinstance(answer, dict) else answer
    return Check(status == 400, f"an image of 63 pixels is answered with {status}: {message}")


def of_comparison(served: ServerFigures, tests: TestImages) -> Check:
    """The server that the broker is compared with must have given the same answers."""
    assert served.load is not None
    failed = [check.text for check in of_load(served.load, tests) if not check.holds]
    return Check(not failed, f"{served.title}: {'; '.join(failed) or 'the same answers'}")


def of_stop(program: Program) -> Check:
    """SIGTERM must be enough, and the exit status must say that all went well."""
    status = program.process.returncode
    how = f"ended with status {status}" if program.stopped_in_order else "had to be killed"
    return Check(program.stopped_in_order and status == 0, f"{program.name}, asked to stop, {how}")


def of_machine(left: Leftovers) -> Check:
    clean = "the machine is clean: no process, no name in /dev/shm, no socket, no file is left"
    return Check(not left, f"left behind: {left}" if left else clean)

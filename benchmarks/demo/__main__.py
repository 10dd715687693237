"""`python -m benchmarks.demo`: train a classifier, serve it to gunicorn's workers from one session, see what it costs.

    1. train and export a SavedModel           programs/train
    2. broker + gunicorn + app.py              server, broker
    3. every test image over HTTP              load, programs/client
    4. the same with a session in each worker, and the bare app for the memory's zero
    5. stop, compare, look for what was left   verdict, report, machine

Exit status 0 only if every check holds. Ctrl-C stops everything at any time.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.demo import load, machine, report, verdict
from benchmarks.demo.broker import Broker
from benchmarks.demo.measured import Served, Trained
from benchmarks.demo.program import DemoError, Program, messages
from benchmarks.demo.screen import Screen, Step
from benchmarks.demo.server import Server
from benchmarks.demo.verdict import Check, TestSet

APP = "benchmarks.demo.app:app"
APP_SESSIONS = "benchmarks.demo.programs.app_sessions:app"
APP_BARE = "benchmarks.demo.programs.app_bare:app"

INTERRUPTED = 130
TRAIN_SECONDS = 120.0
LOAD_SECONDS = 40.0


class Demo:
    """One run of the demo, step by step."""

    def __init__(self, options: argparse.Namespace, screen: Screen, space: machine.Workspace) -> None:
        self.options = options
        self.screen = screen
        self.directory = space.directory
        self.broker = Broker(space.broker_name, space.directory / "digits")
        self.checks: list[Check] = []

    def run(self) -> None:
        """All steps but the last. Raises DemoError."""
        self.train()
        self.tests = TestSet(self.directory / "test.npz")
        rounds = -(-self.options.requests // len(self.tests.labels))
        self.plan = load.Plan(rounds * len(self.tests.labels), self.options.clients, LOAD_SECONDS)
        served = [self.with_broker()]
        if not self.options.skip_comparison:
            served += [self.with_sessions(), self.bare()]
        self.show(served)

    def train(self) -> Trained:
        with self.screen.step("train a digits classifier") as step:
            step.note("importing TensorFlow")
            command = [sys.executable, "-m", "benchmarks.demo.programs.train"]
            command += ["--directory", str(self.directory), "--seed", str(self.options.seed)]
            with Program("trainer", command, self.directory, talks=True) as trainer:
                for _, message in messages([trainer], TRAIN_SECONDS):
                    if "epoch" in message:
                        step.note(f"epoch {message['epoch']} of {message['of']}")
                    else:
                        trained = Trained(**message)
            step.result = (
                f"{trained.trained_on:,} images; right on {trained.accuracy:.2%} of {trained.tested_on} others"
            )
        return trained

    def with_broker(self) -> Served:
        with self._start("start the broker and gunicorn", APP, self.broker) as (server, starts):
            ...

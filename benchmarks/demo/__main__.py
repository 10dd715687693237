"""`python -m benchmarks.demo`: train a classifier, serve it to gunicorn's workers from one session, see what it costs.

Exit status 0 only if every check holds; Ctrl-C stops everything at any time.
"""

from __future__ import annotations

import argparse
import os
import sys
from time import monotonic

from benchmarks.demo import load, machine, processors, report, verdict
from benchmarks.demo.broker import BrokerCommand
from benchmarks.demo.program import DemoError, Program, messages
from benchmarks.demo.screen import Screen, ScreenStep
from benchmarks.demo.server import DemoServer, WorkerStart
from benchmarks.demo.server_figures import Counters, ServerFigures
from benchmarks.demo.verdict import Check, TestImages

APP = "benchmarks.demo.app:app"
APP_SESSIONS = "benchmarks.demo.programs.app_sessions:app"
APP_BARE = "benchmarks.demo.programs.app_bare:app"

STEPS, COMPARISON_STEPS = 5, 2
INTERRUPTED = 130
TRAIN_SECONDS = 120.0
LOAD_SECONDS = 40.0


class Demo:
    """One run, up to the last step."""

    def __init__(self, options: argparse.Namespace, screen: Screen, space: machine.Workspace) -> None:
        self.options = options
        self.screen = screen
        self.directory = space.directory
        self.broker = BrokerCommand(space.broker_name, space.directory / "digits")
        self.checks: list[Check] = []

    def run(self) -> list[ServerFigures]:
        """Raises DemoError if it cannot go on."""
        self.train()
        self.tests = TestImages(self.directory / "test.npz")
        rounds = -(-self.options.requests // len(self.tests))
        self.plan = load.LoadPlan(rounds * len(self.tests), self.options.clients, LOAD_SECONDS)
        served = [self.serve_with_broker()]
        if not self.options.skip_comparison:
            served += [self.serve_with_sessions(), self.serve_bare()]
        return served

    def train(self) -> None:
        command = [sys.executable, "-m", "benchmarks.demo.programs.train"]
        command += ["--directory", str(self.directory), "--seed", str(self.options.seed)]
        with (
            self.screen.step("train a digits classifier") as step,
            Program("trainer", command, self.directory, talks=True) as trainer,
        ):
            step.note("importing TensorFlow")
            for _, message in messages([trainer], TRAIN_SECONDS):
                if "epoch" in message:
                    step.note(f"epoch {message['epoch']} of {message['of']}")
                else:
                    step.result = (
                        f"{message['trained_on']:,} images; right on {message['accuracy']:.2%} "
                        f"of {message['tested_on']} others"
                    )

    def serve_with_broker(self) -> ServerFigures:
        with DemoServer(APP, self.options.workers, self.directory, self.broker) as server:
            with self.screen.step("start the broker and gunicorn") as step:
                starts = self._start(server, step)
                step.result = f"all {len(starts)} workers have answered"
            self.checks.append(verdict.of_bad_request(*server.post(self.tests.pixels(0)[1:])))
            self.model_us = self.broker.models()["digits"]["p50_us"]
            before = Counters.of(self.broker.status())
            with self.screen.step("send every test image over HTTP") as step:
                answers, use = self._load(server, step)
                step.result = f"{len(answers.images):,} answers to {self.plan.clients} clients"
            counters = Counters.of(self.broker.status()).since(before)
            served = ServerFigures.of("one session for all", server, starts, answers, use, counters)
            with self.screen.step("stop gunicorn, then the broker") as step:
                server.stop()
                step.result = f"exit status {server.program.process.returncode}"
        self.checks += verdict.of_load(answers, self.tests)
        self.checks += [verdict.of_broker(served), verdict.of_stop(server.program)]
        return served

    def serve_with_sessions(self) -> ServerFigures:
        with (
            self.screen.step("the same app with a session in each worker") as step,
            DemoServer(APP_SESSIONS, self.options.workers, self.directory) as server,
        ):
            starts = self._start(server, step)
            served = ServerFigures.of("a session in each worker", server, starts, *self._load(server, step))
            step.result = "the same requests"
        self.checks.append(verdict.of_comparison(served, self.tests))
        return served

    def serve_bare(self) -> ServerFigures:
        with (
            self.screen.step("the same app without any model") as step,
            DemoServer(APP_BARE, self.options.workers, self.directory) as server,
        ):
            served = ServerFigures.of("bare app", server, self._start(server, step))
            step.result = "its memory is the zero to count from"
        return served

    def _start(self, server: DemoServer, step: ScreenStep) -> list[WorkerStart]:
        step.note("starting")
        server.wait_until_listening()
        step.note("waiting for first answers")
        return server.warm_up(self.tests.pixels(0))

    def _load(self, server: DemoServer, step: ScreenStep) -> tuple[load.LoadResult, processors.Use]:
        def show(sent: int) -> None:
            step.note(f"{sent:,} of {self.plan.requests:,} requests")

        show(0)
        with processors.watched(server.program.pid) as use:
            answers = load.run(server.address, self.plan, self.tests.images, show)
        return answers, use


def main() -> int:
    options = _options()
    screen = Screen(STEPS + COMPARISON_STEPS * (not options.skip_comparison))
    screen.head(
        "onesession: one TensorFlow session for all prefork workers",
        f"{options.workers} gunicorn workers with benchmarks/demo/app.py, {options.clients} clients, "
        f"{os.cpu_count()} cores",
    )
    began = monotonic()
    with machine.one_interrupt():
        machine.adopt_orphans()
        space = machine.Workspace()
        demo = Demo(options, screen, space)
        try:
            served, status = _run(demo)
            with screen.step("look for what was left behind", last=True) as step:
                clean = verdict.of_machine(space.clear())
                step.result = "nothing" if clean.holds else "something"
        finally:
            space.clear()  # once more, since a terminal that is gone makes every line above fail
    checks = [clean] if status == INTERRUPTED else [*demo.checks, clean]
    if served:
        screen.show("", *report.tables(served, demo.model_us))
    screen.checks((check.holds, check.text) for check in checks)
    if status == 0 and not all(check.holds for check in checks):
        status = 1
    screen.show(_closing(status, monotonic() - began))
    return status


def _run(demo: Demo) -> tuple[list[ServerFigures], int]:
    """The demo's steps; what was measured and the exit status so far. Afterwards nothing is to be interrupted."""
    try:
        return demo.run(), 0
    except KeyboardInterrupt:
        return [], INTERRUPTED
    except DemoError as error:
        demo.screen.error(str(error))
        return [], 1
    except Exception:  # a fault of the demo's own: clean up all the same
        demo.screen.console.print_exception(max_frames=8)
        return [], 1
    finally:
        machine.ignore_interrupts()


def _closing(status: int, seconds: float) -> str:
    if status == 0:
        return f"\n[bold green]All checks hold.[/] [dim]{seconds:.0f} s[/]\n"
    return f"\n[bold red]{'Interrupted' if status == INTERRUPTED else 'Failed'}.[/] [dim]{seconds:.0f} s[/]\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo",
        description="Train a digits classifier and serve it to gunicorn's workers from one TensorFlow session.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--requests",
        type=_count,
        default=6000,
        help="number of requests to send, rounded up to a multiple of the number of test images",
    )
    parser.add_argument("--workers", type=_count, default=4, help="number of gunicorn workers")
    parser.add_argument("--clients", type=_count, default=4, help="number of client processes")
    parser.add_argument(
        "--seed", type=int, default=1, help="random seed of the split, the weights and the training"
    )
    parser.add_argument(
        "--skip-comparison", action="store_true", help="leave out the servers without a broker"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())

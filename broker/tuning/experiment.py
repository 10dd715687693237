"""Measures models in probe processes: starts them, opens the model with each number of threads, lets the race run.

this process                        probe, TensorFlow's defaults         probe, oneDNN the other way round
settings -> race -- open, measure -->  stand: 1 thread                    stand: 1 thread
              ^                        stand: all threads                 stand: all threads
              +----- samples -----------+-----------------------------------+

TensorFlow reads its oneDNN switch when it is loaded, hence the processes. The other processes wait while one measures.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from broker.host.memory_left import left_bytes
from broker.models.files.locate import weight_bytes
from broker.models.spec import ModelSpec
from broker.tuning import candidates, machine
from broker.tuning.candidates import Fixed
from broker.tuning.race import Race, RaceProgress, Visit
from broker.tuning.setting import Sample, SampleTable
from worker_client.interpreter.executable import python
from worker_client.interpreter.surroundings import program, python_path
from worker_client.system.clock import monotonic

_log = logging.getLogger("onesession.tuning")

START_SECONDS = 120.0
OPEN_SECONDS = 60.0
OPEN_BYTES_PER_SECOND = 20e6
"""A model with more weights may take longer to open."""
RUN_LIMIT_SECONDS = 30.0
"""Time limit of one visit. The race makes no visit that it expects to take longer than the remaining time."""
PROCESS_BYTES = 500 << 20
WEIGHT_COPIES = 1.5
MEMORY_SHARE = 0.7
FEED_BYTES = 1 << 30
"""Memory limit for the inputs of concurrent runs: on many processors, large batches of images would not fit."""
"""The share of available memory that probes may use, the bytes of each probe, and the multiple of the weights per
session."""

_ENTRY = "from broker.tuning.probe import main; sys.exit(main())"


class NotMeasurable(Exception):
    """The reason why a model cannot be measured. `lasting`: the next try would fail as well. `unloadable`: it cannot be
    loaded either, which loading will report."""

    def __init__(self, reason: str, *, lasting: bool = False, unloadable: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
        self.unloadable = unloadable


@dataclass(frozen=True, slots=True)
class MeasuredTable:
    """`what`: the signature and sizes. `others`: the share of our processors that other processes used meanwhile."""

    table: SampleTable
    what: str
    others: float
    complete: bool
    seconds: float

    @property
    def busy(self) -> bool:
        return self.others > machine.BUSY_SHARE


class ProbeFailed(Exception):
    """The probe has died, hangs, or reports a failure."""

    def __init__(self, reason: str, *, lasting: bool = False, unloadable: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
        self.unloadable = unloadable


class ProbeProcess:
    """A probe process, seen from its parent. It ends with this process, however this one ends."""

    def __init__(self, onednn: bool | None) -> None:
        environment = {**os.environ, "PYTHONPATH": python_path()}
        environment.pop(machine.ONEDNN_VARIABLE, None)
        if onednn is not None:
            environment[machine.ONEDNN_VARIABLE] = "1" if onednn else "0"
        self._rest = b""
        self._process = subprocess.Popen(
            [python(), "-c", program(_ENTRY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,  # a Ctrl-C reaches only the parent
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, message: dict[str, Any]) -> None:
        """Send a command; `answer` returns its result, or raises the reason why the process has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # ended, or closed by `kill`
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def answer(self, seconds: float) -> dict[str, Any]:
        """The answer to the oldest open question. Raises ProbeFailed, and kills it if that takes too long."""
        assert self._process.stdout is not None
        deadline = monotonic() + seconds
        while b"\n" not in self._rest:
            if self._process.stdout.closed:
                raise ProbeFailed(self._end())
            left = deadline - monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                self.kill()
                raise ProbeFailed(f"no answer within {seconds:.0f} s")
            received = os.read(self._process.stdout.fileno(), 1 << 16)
            if not received:
                raise ProbeFailed(self._end())
            self._rest += received
        line, self._rest = self._rest.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise ProbeFailed(
                message["error"],
                lasting=message.get("lasting", False),
                unloadable=message.get("unloadable", False),
            )
        return message

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Idempotent."""
        with self._process as process:  # closes the pipes and waits
            process.kill()

    def _end(self) -> str:
        self.kill()
        return f"the process that measures ended with status {self._process.returncode}"


class ProbePool:
    """The probe processes for the models of one broker. Use it as a context manager.

    `onednn` None starts them with TensorFlow's default, True and False with that. `both`: try the other value as well.
    `weights`: bytes of the largest model. Entering it raises NotMeasurable if no process can be started.
    """

    def __init__(self, onednn: bool | None, *, both: bool, weights: int) -> None:
        self.onednn = onednn
        self.default_onednn = True
        self._both = both
        self._weights = weights
        self._probes: dict[bool, ProbeProcess] = {}
        self._started: list[ProbeProcess] = []
        self._row_bytes = 0

    def __enter__(self) -> ProbePool:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def measure(
        self,
        spec: ModelSpec,
        directory: Path,
        seconds: float,
        on_progress: Callable[[RaceProgress], None] = lambda _: None,
    ) -> MeasuredTable:
        """Raises NotMeasurable."""
        if self.default_onednn not in self._probes:  # the previous model ended it
            self._stop()
            self._start()
        begun = monotonic()
        ours, fixed = machine.processors(), Fixed.of(spec, self.onednn)
        threads = candidates.thread_counts(ours, fixed)
        _check_memory(_needed(1, len(threads), weight_bytes(directory)))
        try:
            opened = self._open(spec, directory, threads)
            self._row_bytes = opened["row_bytes"]
            default = candidates.default_setting(ours, fixed, self.default_onednn)
            tried = candidates.settings(ours, fixed, default, list(self._probes))
            sizes = candidates.batch_sizes(spec, opened["batchable"])
            others = machine.OtherProcesses(probe.pid for probe in self._probes.values())
            race = Race(tried, default, sizes, seconds, self._visit, on_progress, opened["run_us"])
            table = race.run()
            if default not in table.settings:
                run_seconds = opened["run_us"] / 1e6
                raise NotMeasurable(
                    f"{seconds:g} s are too short for runs of {run_seconds:.1f} s", lasting=True
                )
            return MeasuredTable(table, opened["what"], others.share(), race.complete, monotonic() - begun)
        finally:
            self._close()

    # -- processes -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        _check_memory(_needed(1, 2, self._weights))
        first = self._new(self.onednn)
        second = self._new(False) if self._both and _fits(_needed(2, 4, self._weights)) else None
        try:
            self.default_onednn = bool(first.answer(START_SECONDS)["onednn"])
            self._probes[self.default_onednn] = first
            if second is None:
                return
            found = bool(second.answer(START_SECONDS)["onednn"])
            if found == self.default_onednn:  # off is the default for this processor
                second.kill()
                second = self._new(True)
                found = bool(second.answer(START_SECONDS)["onednn"])
            self._probes.setdefault(found, second)
        except ProbeFailed as error:
            raise NotMeasurable(str(error)) from None

    def _new(self, onednn: bool | None) -> ProbeProcess:
        probe = ProbeProcess(onednn)
        self._started.append(probe)
        return probe

    def _stop(self) -> None:
        self._probes.clear()
        while self._started:
            self._started.pop().kill()

    # -- models --------------------------------------------------------------------------------------------------

    def _open(self, spec: ModelSpec, directory: Path, threads: Sequence[int]) -> dict[str, Any]:
        """Open the model with each number of threads, in all processes at the same time. Returns a probe's description
        of it."""
        opened: dict[str, Any] = {}
        limit = OPEN_SECONDS + weight_bytes(directory) / OPEN_BYTES_PER_SECOND
        for probe in self._probes.values():
            for count in threads:
                sent = asdict(replace(spec, intra_op_threads=count))
                probe.ask({"do": "open", "stand": count, "spec": sent})
        for onednn, probe in list(self._probes.items()):
            for _ in threads:
                try:
                    opened = probe.answer(limit)
                except ProbeFailed as error:
                    if onednn == self.default_onednn:
                        raise NotMeasurable(
                            str(error), lasting=error.lasting, unloadable=error.unloadable
                        ) from None
                    self._give_up(onednn)
                    break
        return opened

    def _visit(self, visit: Visit) -> Sample | None:
        setting = visit.setting
        probe = self._probes.get(setting.onednn)
        if probe is None:
            return None  # it has failed before
        if visit.rows * setting.side_by_side * self._row_bytes > FEED_BYTES:
            return None
        command = {
            "do": "measure",
            "stand": setting.intra_op_threads,
            "caller_thread": setting.caller_thread,
            "side_by_side": setting.side_by_side,
            "rows": visit.rows,
            "seconds": visit.seconds,
            "least_runs": visit.least_runs,
        }
        try:
            probe.ask(command)
            return Sample(**probe.answer(RUN_LIMIT_SECONDS))
        except ProbeFailed as error:
            _log.debug("%s, batches of %d cannot be measured: %s", setting, visit.rows, error)
            if not probe.alive:
                self._give_up(setting.onednn)
            return None

    def _close(self) -> None:
        for onednn, probe in list(self._probes.items()):
            probe.ask({"do": "close"})
            while True:
                try:
                    if not probe.answer(OPEN_SECONDS):
                        break  # otherwise it answers a command from before an error
                except ProbeFailed:
                    if not probe.alive:
                        self._give_up(onednn)
                        break

    def _give_up(self, onednn: bool) -> None:
        self._probes.pop(onednn).kill()


def _needed(processes: int, sessions: int, weights: int) -> int:
    return int(processes * PROCESS_BYTES + sessions * WEIGHT_COPIES * weights)


def _fits(nbytes: int) -> bool:
    left = left_bytes()
    return left is None or nbytes <= left * MEMORY_SHARE


def _check_memory(nbytes: int) -> None:
    if not _fits(nbytes):
        raise NotMeasurable(f"it takes about {nbytes >> 20} MiB, more than is free")

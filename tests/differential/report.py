"""What a run says of a failure: message, history, and a script of what all callers did last."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path

from tests.differential.plan import Operation, Process, Script
from tests.differential.stage import Options, Stage
from tests.differential.worker import Task

WINDOW = 400
"""Operations of each caller that a script begins with."""
_LOG_SHOWN = 4000


def script_of(scene: Stage, error: AssertionError, options: Options) -> tuple[str, Script]:
    """The message, and what may repeat it."""
    failure = scene.failure()
    message = failure["message"] if failure else str(error)
    history = list(failure["history"]) if failure else []
    processes = [_process(scene.task, place) for place in range(options.workers)]
    script = Script(processes, fault=options.fault, chaos=options.deeds, message=message, history=history)
    text = [message, *(failure["trace"].splitlines() if failure else [])]
    if history:
        text += ["the last operations of this caller:", *(f"  {line}" for line in history)]
    return "\n".join(text)[-_LOG_SHOWN:], script


def _process(task: Task, place: int) -> Process:
    seed = task.life(place).read_text() if task.life(place).exists() else ""
    threads = [_last(task, seed, place, thread) for thread in range(task.threads(place))]
    return Process(place, threads, place in task.green)


def _last(task: Task, seed: str, place: int, thread: int) -> list[Operation]:
    index = task.ledger.page(place, thread).index
    return list(islice(task.operations(seed, place, thread), max(0, index + 1 - WINDOW), index + 1))


def write(script: Script, folder: Path) -> Path:
    """Write the script. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"differential-{script.seed}-{time.strftime('%H%M%S')}.json"
    path.write_text(json.dumps(script.to_json(), indent=1) + "\n")
    return path


def read(path: Path) -> Script:
    return Script.of_json(json.loads(path.read_text()))

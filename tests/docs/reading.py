"""Does what a page says, block after block, as a reader would: in one folder, with a broker that already runs."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import pytest
from click.testing import CliRunner

import worker_client
from broker import Broker
from broker.cli import main
from broker.config.file import read
from tests.docs.pages import SHOWN, Block
from tests.servers.running import BIN, Place, running

DOCTOR_FOUND_SOMETHING = 1
"""Its status where this machine has a problem, which is none of the page's."""

_SERVING, _BOOTING = "serving ", "Booting worker"
_ran: set[str] = set()
"""Servers that `onesession run` has started: once each, on the first page; tests/servers run them with every option."""


class Reading:
    """One page. Later blocks can use what earlier blocks define, start and write."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.namespace: dict[str, Any] = {"__name__": "page"}
        self._stack = contextlib.ExitStack()
        self._run: dict[str, Callable[[Block], None]] = {
            "python": self._python,
            "console": self._console,
            "toml": self._toml,
            "ini": self._ini,
            "json": lambda block: json.loads(block.text),
        }

    def __enter__(self) -> Reading:
        environment = dict(os.environ)
        self._stack.callback(lambda: (os.environ.clear(), os.environ.update(environment)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, block: Block) -> None:
        if block.is_directive or block.language in SHOWN:
            return
        if "not run" in block.marks:
            assert len(block.marks["not run"]) > 10, f"{block}: say why it is not run"
            return
        needed = block.marks.get("needs")
        if needed == "tensorflow" or (needed is not None and find_spec(needed) is None):
            return  # another test's, or it cannot be run here
        if block.language not in self._run:
            pytest.fail(
                f"{block}: nobody knows how to run {block.language!r}: mark it `not run`, with the reason"
            )
        if before := block.marks.get("before"):
            self._execute(before, block, 0)
        if "elsewhere" in block.marks:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_RUNTIME_DIR", self._another_runtime())
                self._run[block.language](block)
        else:
            self._run[block.language](block)

    def _another_runtime(self) -> str:
        return self._stack.enter_context(tempfile.TemporaryDirectory(prefix="run", dir=self.place.path))

    # --- Python

    def _python(self, block: Block) -> None:
        if program := block.marks.get("file"):
            self.place.write(program, block.text)
            self._process([os.fspath(BIN / "python"), program], block)
            return
        if name := block.file_name:
            self.place.write(name, block.text)
        if name == "gunicorn.conf.py":
            self._process([os.fspath(BIN / "gunicorn"), "--check-config", "flask_app:app"], block)
            return
        self._execute(block.text, block, block.line - 1)

    def _execute(self, code: str, block: Block, line: int) -> None:
        """Each statement stands in the line of the page in which it was written."""
        exec(compile("\n" * line + code, os.fspath(block.page), "exec"), self.namespace)
        for value in self.namespace.values():
            if isinstance(value, (worker_client.Client, worker_client.Model)):
                self._stack.callback(value._connection.close)
            elif isinstance(value, Broker):
                self._stack.callback(value.stop)

    def _process(self, command: list[str], block: Block) -> None:
        done = subprocess.run(
            command,
            cwd=self.place.path,
            env={**self.place.environment, **os.environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (
            f"{block}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}"
        )

    # --- shell

    def _console(self, block: Block) -> None:
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            if line.startswith("$ "):
                self._command(shlex.split(re.sub(r"\s{2,}# .*", "", line[2:])), block)

    def _command(self, words: list[str], block: Block) -> None:
        if words[0] not in ("onesession", "broker"):
            pytest.fail(
                f"{block}: `{words[0]}` is not run by tests: mark the block `not run`, with the reason"
            )
        if words[1] == "serve":
            self._serve(words[1:])
        elif words[1] == "run":
            self._broker_run(words[1:])
        else:
            self._ask(words[1:], block)

    def _ask(self, words: list[str], block: Block) -> None:
        file = words.pop() if words[-2:-1] == [">"] else None
        words = [word for word in words if word != ">"]
        done = CliRunner().invoke(main, words)
        allowed = (0, DOCTOR_FOUND_SOMETHING) if words[0] == "doctor" else (0,)
        assert done.exit_code in allowed, (
            f"{block}: broker {' '.join(words)}:\n{done.output}\n{done.exception!r}"
        )
        if file:
            self.place.write(file, done.stdout)

    def _serve(self, words: list[str]) -> None:
        """Serves until the end of the page, at an address of the reader's own."""
        if os.environ["XDG_RUNTIME_DIR"] == os.fspath(self.place.runtime):
            os.environ["XDG_RUNTIME_DIR"] = self._another_runtime()
        command = ["python", "-m", "broker", *words]
        before = self._log().count(_SERVING)
        server = self._stack.enter_context(
            running(self.place, command, XDG_RUNTIME_DIR=os.environ["XDG_RUNTIME_DIR"])
        )
        server.wait_for_log(_SERVING, before + 1)

    def _broker_run(self, words: list[str]) -> None:
        """Until one of the server's workers is there."""
        options = words[1 : words.index("--")]
        program = words[words.index("--") + 1]
        with main.commands["run"].make_context("run", [*options, "--", program]):
            if program in _ran:
                return
        _ran.add(program)
        runtime = self._another_runtime()
        before = self._log().count(_BOOTING)
        with running(self.place, ["python", "-m", "broker", *words], XDG_RUNTIME_DIR=runtime) as server:
            server.wait_for_log(_BOOTING, before + 1)
            server.process.terminate()
            assert server.wait_for_end() == 0, server.log()

    def _log(self) -> str:
        """The log of all servers of the place so far."""
        log = self.place.path / "log"
        return log.read_text() if log.exists() else ""

    # --- files

    def _toml(self, block: Block) -> None:
        file = self.place.write(block.file_name or "page.toml", block.text)
        assert read(file).models, f"{block}: no model in it"

    def _ini(self, block: Block) -> None:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read_string(block.text)
        assert parser.sections(), f"{block}: nothing in it"

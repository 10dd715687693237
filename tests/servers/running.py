"""A server as its users start it: a program in a folder of its own, with its log, its HTTP and its end.

Brokers of tests have a runtime directory of their own, so that they meet no other. What a server leaves behind is an
orphan, and so a child of ours (tests/leaks.py): the leak check finds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.brokers import PATIENCE_S, folder, wait_until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
"""Where the servers' programs are."""

BROKER_TITLE = "onesession: broker "
OTHER_SERVERS = os.environ.get("ONESESSION_SERVERS", "")
"""A folder with other versions of the servers, to be tested in place of those installed: `pip install --target`."""
START_S = 60.0
_PORT = re.compile(r"127\.0\.0\.1:([1-9]\d*)")


class Place:
    """A folder with the app's files, in which a server runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.write_text(text)
        file.chmod(0o644)
        return file

    @property
    def runtime(self) -> Path:
        return self.path / "run"

    def sockets(self) -> list[Path]:
        """The sockets of the brokers that are there."""
        return sorted(self.runtime.glob("onesession/*.sock"))

    @property
    def environment(self) -> dict[str, str]:
        environment = {key: text for key, text in os.environ.items() if key != "BROKER_ADDRESS"}
        return {
            **environment,
            "XDG_RUNTIME_DIR": os.fspath(self.runtime),
            "PYTHONPATH": os.pathsep.join([*filter(None, [OTHER_SERVERS]), str(ROOT), str(self.path)]),
            "PATH": f"{BIN}{os.pathsep}{environment['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }


@contextlib.contextmanager
def place(runtime_mode: int = 0o755) -> Iterator[Place]:
    with folder() as path:
        path.chmod(0o755)
        made = Place(path)
        made.runtime.mkdir()
        made.runtime.chmod(runtime_mode)
        yield made
        assert not list(made.runtime.glob("onesession/*")), "brokers left their sockets or locks"


class Server:
    """A running server; `pid` is the process we started. Its port is read from its log."""

    def __init__(
        self, place: Place, command: list[str], folder: Path | None = None, **environment: str
    ) -> None:
        self.place = place
        self._log = place.path / "log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [os.fspath(BIN / command[0]), *command[1:]],
                cwd=folder or place.path,
                env={**place.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._tree: set[psutil.Process] = set()
        self._url = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for_log(self, text: str, times: int = 1) -> None:
        def found() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            return self.log().count(text) >= times

        wait_until(found, f"{text!r} in the log", START_S)

    def wait_for_end(self) -> int:
        return self.process.wait(START_S)

    @property
    def url(self) -> str:
        def port() -> str | None:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            found = _PORT.search(self.log())
            return found[1] if found else None

        if not self._url:
            self._url = f"http://127.0.0.1:{wait_until(port, 'the port in the log', START_S)}"
        return self._url

    def get(self, path: str = "/") -> Any:
        """The answer as JSON. Waits while nobody listens; an error status and a lost connection fail."""
        deadline = time.monotonic() + PATIENCE_S
        url = self.url
        while True:
            try:
                with urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE_S) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{path}: {error.code} {error.read()!r}\n{self.log()}") from None
            except urllib.error.URLError as error:
                refused = isinstance(error.reason, ConnectionRefusedError)
                if not refused or time.monotonic() >= deadline:
                    raise AssertionError(f"{path}: {error}\n{self.log()}") from None
                time.sleep(0.01)
            except ConnectionError as error:  # it was accepted, and not answered
                raise AssertionError(f"{path}: {error}\n{self.log()}") from error

    def ask(self, row: int) -> dict[str, Any]:
        """One request to the app's model `tell`; its answer is checked. Has the worker's `pid`."""
        answer: dict[str, Any] = self.get(f"/tell?row={row}")
        np.testing.assert_array_equal(answer["y"], [[2.0 * row + row] * 4])
        return answer

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        os.kill(pid or self.pid, number)

    def processes(self, what: str, pid: int | None = None) -> list[int]:
        """Process ids in the tree below `pid` (ours, unless told) whose command line contains `what`."""
        try:
            tree = psutil.Process(pid or self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process.pid for process in tree if what in command_line(process)]

    def brokers(self, pid: int | None = None) -> list[int]:
        """The process ids of all brokers below `pid`: with their titles, or on the way to them."""
        return sorted({*self.processes("broker.process.main", pid), *self.processes(BROKER_TITLE, pid)})

    def broker(self, pid: int | None = None) -> int:
        """The process id of the broker below `pid`."""
        found: list[int] = wait_until(lambda: self.brokers(pid), "the broker's process")
        assert len(found) == 1
        return found[0]

    def remember(self) -> None:
        """Remember everything in the process tree as it is now: `wait_until_gone` waits until all of it is gone."""
        self._tree.update(psutil.Process(self.pid).children(recursive=True))

    def wait_until_gone(self) -> None:
        def living() -> list[psutil.Process]:
            return [process for process in self._tree if lives(process)]

        wait_until(lambda: not living(), "the end of every process of the server")

    def stop(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.remember()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            for process in self._tree:
                if self.process.poll() is None and lives(process):
                    process.kill()
            self.process.kill()
            self.process.wait()
        self.wait_until_gone()


def is_broker(process: psutil.Process) -> bool:
    line = command_line(process)
    return "broker.process.main" in line or line.startswith(BROKER_TITLE)


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def lives(process: psutil.Process) -> bool:
    """Not so for the remains of one that has ended. Collects them if it is ours: an orphan whose parent was killed."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        os.waitpid(process.pid, os.WNOHANG)
    except (psutil.NoSuchProcess, ChildProcessError):
        pass
    return False


@contextlib.contextmanager
def running(
    place: Place, command: list[str], folder: Path | None = None, **environment: str
) -> Iterator[Server]:
    """The server, which is stopped and gone after the block. It runs in `folder`, or in its place."""
    server = Server(place, command, folder, **environment)
    try:
        yield server
    finally:
        server.stop()


class Traffic:
    """Threads that ask until the block ends; every answer is checked. `pids` are of the workers that answered."""

    def __init__(self, ask: Callable[[int], dict[str, Any]], threads: int = 4) -> None:
        self._ask = ask
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(threads)]
        self.answers = 0
        self.pids: set[int] = set()
        self.failures: list[BaseException] = []

    def _run(self, index: int) -> None:
        row = 1000 * index
        while not self._enough.is_set():
            row += 1
            try:
                self.pids.add(self._ask(row)["pid"])
                self.answers += 1
            except BaseException as error:
                self.failures.append(error)
                return

    def wait_for(self, more: int) -> None:
        """Wait for this many further answers."""
        wanted = self.answers + more
        wait_until(lambda: self.failures or self.answers >= wanted, f"{more} more answers")
        self.check()

    def check(self) -> None:
        if self.failures:
            raise AssertionError(f"{len(self.failures)} failed, first:") from self.failures[0]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

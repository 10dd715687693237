"""A peer's own environment: a venv with its pinned packages in front of the ones that this process runs with.

TensorFlow, numpy and this project are not installed again: a `.pth` file adds this environment's packages behind the
peer's own, so that every peer runs the very same TensorFlow, and so that pip, which sees them, resolves the peer's
packages against them. What pip finds no common version for is a reason why the peer is left out.

CACHE/onesession/peers/mosec-1f0c2a.../           the venv, by what it was asked for
                                     /installed   what it has, written last: without it the venv is made again
                      mosec-1f0c2a....failed      why the last try ended
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.peers.other_system import OtherSystem
from broker.models.cache_folder import cache_folder

INSTALL_TIMEOUT_S = 600.0
_SAID_LINES = 3
_CANDIDATES = re.compile(r" \(from versions: [^)]*\)")
_MADE_WITH = ("pip", "setuptools")
_RUNTIMES = ("tensorflow", "tensorflow-cpu")


class NotInstalled(Exception):
    """The peer's environment could not be made; the text says why."""


class Environment:
    """The folder of one peer's installation. Peers without requirements run in this process' environment."""

    def __init__(self, peer: OtherSystem, cache: Path | None = None) -> None:
        self.peer = peer
        asked = json.dumps([peer.requirements, peer.dependencies, sys.prefix, sys.version, shared()])
        name = f"{peer.name}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
        self.folder = (cache or cache_folder("peers")) / name
        self._installed = self.folder / "installed"
        self._failed = self.folder.with_suffix(".failed")

    @property
    def own(self) -> bool:
        return bool(self.peer.requirements)

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python") if self.own else sys.executable

    def versions(self) -> dict[str, str]:
        """Distributions that the peer has of its own; empty where it is not installed or needs none."""
        try:
            found: dict[str, str] = json.loads(self._installed.read_text())
        except FileNotFoundError:
            return {}
        return found

    def absent(self) -> str | None:
        """Why the peer cannot be run now, if so."""
        if not self.own:
            return self.peer.missing()
        if self._installed.exists():
            return None
        try:
            return self._failed.read_text()
        except FileNotFoundError:
            return "not installed yet"

    def install(self, timeout_s: float = INSTALL_TIMEOUT_S) -> None:
        """Unless it is there already. Raises NotInstalled."""
        if not self.own:
            if (why := self.peer.missing()) is not None:
                raise NotInstalled(why)
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self.folder.with_suffix(".lock")):
            if not self._installed.exists():
                try:
                    self._make(timeout_s)
                except NotInstalled as error:
                    self._failed.write_text(str(error))
                    raise

    def _make(self, timeout_s: float) -> None:
        limit = time.monotonic() + timeout_s
        self._failed.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(self.folder)], limit)
        self._share()
        no_deps = [] if self.peer.dependencies else ["--no-deps"]
        pip = [self.python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        _run([*pip, *no_deps, *self.peer.requirements, *shared()], limit)
        found = {each.name: each.version for each in metadata.distributions(path=[str(self._packages)])}
        own = {name: version for name, version in sorted(found.items()) if name not in _MADE_WITH}
        self._installed.write_text(json.dumps(own, indent=1))

    def _share(self) -> None:
        """`addsitedir` rather than a plain path: an editable install of this project is a `.pth` file itself."""
        paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(ROOT)]
        lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(paths)]
        (self._packages / "shared.pth").write_text("\n".join(lines) + "\n")

    @property
    def _packages(self) -> Path:
        base = {"base": str(self.folder), "platbase": str(self.folder)}
        return Path(sysconfig.get_path("purelib", "venv", base))


def shared() -> list[str]:
    """The pinned TensorFlow of this environment, which the peer's packages must get on with."""
    for name in _RUNTIMES:
        try:
            return [f"{name}=={metadata.version(name)}"]
        except metadata.PackageNotFoundError:
            continue
    return []


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two runs do not make one environment at the same time."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], limit: float) -> None:
    """Run it in its own process group, which is killed at the limit or when this process ends. Raises NotInstalled."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")},
    )
    try:
        said, _ = process.communicate(timeout=max(0.0, limit - time.monotonic()))
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise NotInstalled(f"took too long to install: {' '.join(command[1:])}") from None
        raise
    if process.returncode:
        raise NotInstalled(_last_words(said))


def _last_words(said: str) -> str:
    """pip says last what went wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return _CANDIDATES.sub("", " ".join((errors or lines or ["it said nothing"])[-_SAID_LINES:]))

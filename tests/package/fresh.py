"""An environment that has nothing but what pip takes from the wheel's own requirements."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from worker_client.wire.version import __version__

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
_HELLO = re.compile(r"<!-- file: hello\.py -->.*?```python\n(.*?)```", re.DOTALL)
_ANSWER = "[0. 1. 2. 3. 4. 5. 6. 7.]"
_WHERE = """
import importlib.util, broker, worker_client
print(broker.__file__)
print(worker_client.__file__)
print(worker_client.__version__)
print(importlib.util.find_spec("click") is None, importlib.util.find_spec("tensorflow") is None)
"""


class Fresh:
    """Its programs run in a folder outside the checkout, and see no variables that lead back to it."""

    def __init__(self, folder: Path, interpreter: str) -> None:
        self.folder = folder.resolve()
        self.bin = self.folder / "venv/bin"
        self.work = self.folder / "work"
        self.work.mkdir()
        kept = ("PYTHON", "BROKER_", "VIRTUAL_ENV", "XDG_")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
        self.environment["XDG_RUNTIME_DIR"] = os.fspath(self.work)
        self._run(interpreter, "-m", "venv", os.fspath(self.folder / "venv"))

    def install(self, requirement: str) -> None:
        """At the pinned versions. The requirements are those of the wheel."""
        pins = os.fspath(ROOT / "constraints.txt")
        self._run(self.bin / "python", "-m", "pip", "install", "--quiet", "--constraint", pins, requirement)
        self._run(self.bin / "python", "-m", "pip", "check")

    def check_a_worker(self) -> None:
        """Without extras, the client can be imported, and the command says what it lacks."""
        *files, version, lacks = self._run(self.bin / "python", "-c", _WHERE).stdout.splitlines()
        assert all(Path(file).is_relative_to(self.folder / "venv") for file in files), files
        assert (version, lacks) == (__version__, "True True"), (version, lacks)
        for command in ("onesession", "broker"):
            said = self._run(self.bin / command, "--version").stdout
            assert said == f"onesession, version {__version__}\n", said
        refused = self._run(self.bin / "onesession", "status", status=1).stderr
        assert "pip install 'onesession[tensorflow]'" in refused, refused

    def check_the_first_example(self) -> None:
        """README's hello.py, as a reader saves and runs it."""
        found = _HELLO.search((ROOT / "README.md").read_text())
        assert found, "README.md has no block for hello.py"
        (self.work / "hello.py").write_text(found[1])
        said = self._run(self.bin / "python", "hello.py").stdout
        assert said.splitlines() == [_ANSWER], said

    def _run(self, *words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words,
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode != status:
            raise SystemExit(
                f"{words}: status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}"
            )
        return done

"""Mistakes in the surroundings of a broker: each is one line with what, where, what was expected and the remedy."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import broker
import worker_client
from broker.cli import main
from broker.config.settings import Settings
from broker.models.errors import ModelLoadError
from broker.models.lifecycle.loading import load
from broker.models.lifecycle.version import Version
from broker.models.spec import ModelSpec
from broker.process.title import title
from tests.brokers import TestBroker, serving
from tests.commands import PATIENCE_S, ROOT
from tests.process.models import SOURCES
from tests.workers import in_child
from worker_client import aio
from worker_client.attachment.retry_policy import BrokerLost
from worker_client.calls.late import how_late
from worker_client.ipc.segment import Segment
from worker_client.wire.address import socket_path
from worker_client.wire.layout import JOINED, STARTED_NS, SUBMITTED_NS, TAKEN_NS

DOUBLE = f"double={SOURCES['double']}"
CAN_MOUNT = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_mounts = pytest.mark.skipif(not CAN_MOUNT, reason="needs a mount namespace of its own")
STRANGER = 54321
ROW = np.ones((1, 4), np.float32)


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output


# -- files -----------------------------------------------------------------------------------------------------------


def told_on_load(source: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load(Version(1, ModelSpec("digits", os.fspath(source))))
    return str(caught.value)


@needs_root
def test_a_model_in_a_folder_that_its_broker_may_not_enter(place: Path) -> None:
    place.chmod(0o755)
    secret = place / "secret"
    model = secret / "digits"
    model.mkdir(parents=True)
    (model / "model.py").write_text("raise AssertionError")
    secret.chmod(0o700)

    def child() -> list[str]:
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        return [told_on_load(model), invoke("tune", f"m={model}")[1], invoke("bench", f"m={model}")[1]]

    for text in in_child(child):
        assert f"cannot be read by uid {STRANGER}: Permission denied" in text
        assert f"(folder {secret} belongs to uid 0, mode 0700)" in text
        assert "Make it readable for the broker's user (chmod, chown)" in text
        assert len(text.strip().splitlines()) == 1


@needs_root
def test_a_model_file_that_its_broker_may_not_read(place: Path) -> None:
    place.chmod(0o755)
    program = place / "digits" / "model.py"
    program.parent.mkdir()
    program.write_text("raise AssertionError")
    program.parent.chmod(0o755)
    program.chmod(0o600)

    def child() -> str:
        os.setuid(STRANGER)
        return told_on_load(program.parent)

    assert f"({program} belongs to uid 0, mode 0600)" in in_child(child)


@needs_mounts
@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("mount -t tmpfs -o ro tmpfs /dev/shm", "/dev/shm is mounted read-only"),
        ("mount -t tmpfs tmpfs /dev && touch /dev/null", "there is no /dev/shm, in which"),
    ],
    ids=["read-only", "missing"],
)
def test_no_shared_memory_to_write_to(place: Path, mount: str, said: str) -> None:
    command = (sys.executable, "-m", "broker", "serve", "--model", DOUBLE, "--name", os.fspath(place / "b"))
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@" 3<&- </dev/null', "sh", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Error: {said}")
    assert "tmpfs" in last  # the remedy
    assert "Traceback" not in done.stderr


def refused(script: str, *words: str) -> str:
    """The only line that the command writes to stderr after the shell's `script`."""
    command = (sys.executable, "-m", "broker", *words)
    done = subprocess.run(
        ["sh", "-c", f"{script}", "sh", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("words", [("--version",), ("doctor",), ("config", "show", "/dev/null")])
def test_output_that_cannot_be_written(words: tuple[str, ...]) -> None:
    told = "Error: the output cannot be written: No space left on device"
    assert refused('exec "$@" > /dev/full', *words) == told


def test_too_few_descriptors_for_a_start(place: Path) -> None:
    few = 'ulimit -n 11; exec "$@" 3<&- </dev/null'
    line = refused(few, "run", "--model", DOUBLE, "--name", os.fspath(place / "b"), "--", "true")
    assert line.startswith("Error: the broker's process cannot be started: ")
    assert "(ulimit -n)" in line


def test_files_may_not_be_as_large_as_a_segment() -> None:
    """RLIMIT_FSIZE holds for shared memory, too."""

    def child() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(worker_client.Overloaded) as caught:
            Segment.create("test", 1 << 20)
        return str(caught.value)

    assert "raise RLIMIT_FSIZE (ulimit -f)" in in_child(child)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_windows_editors(place: Path, encoding: str) -> None:
    """They begin it with a byte order mark."""
    file = place / "broker.toml"
    file.write_text('[models]\nm = "there"\n', encoding=encoding)
    assert invoke("config", "check", os.fspath(file)) == (0, f"{file} is right: m\n")


def test_an_import_that_fails_in_several_lines(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "of_several_lines.py").write_text("raise ValueError('first\\nsecond')\n")
    monkeypatch.syspath_prepend(place)
    with pytest.raises(ModelLoadError) as caught:
        load(Version(1, ModelSpec("m", "of_several_lines:f")))
    assert "raised ValueError: first second. Make `python" in str(caught.value)


# -- configuration, usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[models]\nmean = "m:f"\n\n[models.mean]\nsource = "m:f"\n',
            "sets models.mean twice: as a value in line 2 and as a table in line 4; keep one of them",
        ),
        (
            "slots = 4\nslots = 8\n",
            "sets slots twice: as a value in line 1 and as a value in line 2; keep one",
        ),
        ("poll_seconds = \n", "is not valid TOML: Invalid value (at line 1"),
    ],
)
def test_a_file_that_is_not_toml(place: Path, text: str, said: str) -> None:
    file = place / "broker.toml"
    file.write_text(text)
    status, told = invoke("config", "check", os.fspath(file))
    assert status == 1
    assert told.startswith(f"Error: {file} {said}")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("serve", "--model", "digits"),
        ("serve", "--model", DOUBLE, "--set", "double.max_batch_size=abc"),
        ("serve", "--model", DOUBLE, "--name", "no name"),
        ("serve", "--config", "/nonexistent/broker.toml"),
        ("tune", "m=models/m", "--set", "m.max_batch_size=abc"),
        ("tune", DOUBLE),
        ("bench", DOUBLE, "--shape", "x"),
        ("bench", "m=/nonexistent/model"),
        ("reload", "--name", "/nonexistent/b", "--version", "abc"),
        ("reload", "--name", "/nonexistent/b", "--label", "abc"),
        ("status", "--name", "no name"),
        ("status", "--wait-ready", "soon"),
        ("node", "=x"),
    ],
    ids=" ".join,
)
def test_a_mistake_in_the_use_of_a_command_is_2(words: tuple[str, ...]) -> None:
    status, told = invoke(*words)
    assert status == 2, told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("broker.cli.tune", ("tune", "m=/nonexistent")),
        ("broker.cli.bench", ("bench", DOUBLE)),
        ("broker.cli.status", ("status", "--wait-ready", "5")),
    ],
)
def test_ctrl_c_is_130_in_each_command(
    monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...]
) -> None:
    """Also where it comes in the middle of a block that turns errors into lines."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("ask", "with_settings"):
        monkeypatch.setattr(sys.modules[module], name, interrupted, raising=False)
    assert invoke(*words) == (130, "\n")


def test_ctrl_c_before_the_command_has_begun(place: Path) -> None:
    """While its modules are imported: 130 as well, and no traceback."""
    program = (
        "import os, signal, sys\n"
        "class OnImport:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'broker.cli': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, OnImport())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from broker.command import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "serve"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


def test_a_broker_whose_parent_is_gone_already_ends_in_silence(place: Path) -> None:
    """As after a Ctrl-C in the first moment of `run`: the end of its parent's pipe is seen before it loads anything."""
    program = (
        "import os, sys; from broker.config.settings import Settings; from broker.process.main import serve\n"
        "from broker.models.spec import ModelSpec\n"
        "parent, ours = os.pipe(); os.close(ours)\n"
        "sys.exit(serve(Settings((ModelSpec('m', 'm:f'),), sys.argv[1]), lambda: None, parent))\n"
    )
    words = [sys.executable, "-c", program, os.fspath(place / "b.sock")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, os.listdir(place)) == (0, "", [])


def test_the_estimate_of_a_measurement_names_the_starts(start: Any) -> None:
    words = (
        "--workers",
        "1",
        "--rows",
        "1",
        "--windows",
        "1",
        "--window",
        "0.05",
        "--no-tune",
        "--seed",
        "1",
    )
    status, _, said = start("bench", DOUBLE, *words).end()
    assert status == 0, said
    assert "seed 1; 1 case: at most 0 s of load, and 1 start of workers beside it" in said


# -- calls -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[TestBroker]:
    with serving("double", "gated") as running:
        yield running


def test_a_missed_deadline_names_the_model(running: TestBroker) -> None:
    with worker_client.connect(running.address) as client:
        model = client.model("gated")
        inputs = {"number": np.array([1], np.int64), "x": np.ones(1, np.float32)}
        with pytest.raises(worker_client.DeadlineExceeded) as caught:
            model.predict(inputs, timeout=0.5)
        running.gate.open()
    named = (
        "model 'gated' version 1, signature 'serving_default': no answer within the call's timeout; waited "
    )
    assert str(caught.value).startswith(named)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_call_without_time_names_the_model(running: TestBroker, timeout: float) -> None:
    """An app that passes on what is left of its own deadline may have nothing left."""
    with worker_client.connect(running.address) as client:
        model = client.model("double")
        model.predict(ROW)
        with pytest.raises(worker_client.DeadlineExceeded, match="model 'double' version 1.*timeout"):
            model.predict(ROW, timeout=timeout)


@pytest.mark.parametrize(
    ("taken", "started", "said"),
    [
        (False, False, ", and the broker has not taken it yet"),
        (True, False, ", all of it in the model's queue behind other calls"),
        (True, True, ", and the model has been running it for "),
    ],
)
def test_a_missed_deadline_says_where_the_time_went(taken: bool, started: bool, said: str) -> None:
    words = [0] * 32
    words[SUBMITTED_NS] = 1_000_000_000
    words[TAKEN_NS] = 1_000_000_000 + taken - (not taken)  # or an earlier request's
    words[STARTED_NS] = (1_000_000_000 + started - (not started)) | JOINED
    text = how_late(words, "model 'm'", 3_000_000_000)
    assert text.startswith(f"model 'm': no answer within the call's timeout; waited 2000 ms{said}")


@pytest.mark.parametrize("name", [name for name in worker_client.__all__ if name[0].isupper()])
def test_errors_are_shown_where_they_are_documented(name: str) -> None:
    kind = getattr(worker_client, name)
    if isinstance(kind, type) and issubclass(kind, worker_client.BrokerError):
        assert f"{kind.__module__}.{kind.__qualname__}" == f"worker_client.{name}"
        assert type(pickle.loads(pickle.dumps(kind("why")))) is kind


def test_an_error_of_ours_is_shown_as_the_documented_one(place: Path) -> None:
    with (
        worker_client.connect(place / "nobody") as client,
        pytest.raises(worker_client.BrokerUnavailable) as it,
    ):
        client.model("m").predict(ROW)
    for error in (it.value, BrokerLost("it went away", ran=True)):
        kind = type(error)
        assert f"{kind.__module__}.{kind.__qualname__}" == "worker_client.BrokerUnavailable"
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (worker_client.BrokerUnavailable, str(error))


def test_a_client_of_an_event_loop_stays_closed_after_its_block(running: TestBroker) -> None:
    async def program() -> None:
        async with aio.connect(running.address) as client:
            model = client.model("double")
            np.testing.assert_array_equal(await model.predict(ROW), 2 * ROW)
        for call in (model.predict, client.model("double").predict):
            with pytest.raises(RuntimeError, match="this client is closed"):
                await call(ROW)
        async with client:
            np.testing.assert_array_equal(await model.predict(ROW), 2 * ROW)

    asyncio.run(program())


# -- what operators see ----------------------------------------------------------------------------------------------


def test_the_title_of_a_process() -> None:
    models = tuple(ModelSpec(name, "m:f") for name in ("digits", "mean"))
    assert title("broker", Settings(models, os.fspath(socket_path("default")))) == (
        "onesession: broker default [digits, mean]"
    )
    assert title("broker", Settings((), "/srv/gr\udcfcn/b.sock")) == "onesession: broker /srv/gr?n/b.sock []"
    many = tuple(ModelSpec(f"m{number}", "m:f") for number in range(10))
    assert title("supervisor", Settings(many, "/srv/b.sock")) == (
        "onesession: supervisor /srv/b.sock [m0, m1, m2, m3, m4, m5, m6, m7, and 2 more]"
    )


@pytest.mark.parametrize("package", ["there", "missing"])
def test_processes_are_called_by_what_they_are(
    place: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """With the package setproctitle in full, without it by the kernel's short name."""
    if package == "missing":
        (place / "setproctitle.py").write_text("raise ImportError\n")
        monkeypatch.syspath_prepend(place)
    else:
        pytest.importorskip("setproctitle")
    address = os.fspath(place / "b.sock")
    with broker.Broker(models={"double": SOURCES["double"]}, name=address, supervise=False) as started:
        found = Path(f"/proc/{started.pid}")
        if package == "missing":
            assert (found / "comm").read_text() == "onesession\n"
        else:
            words = (found / "cmdline").read_bytes().rstrip(b"\0").decode()
            assert words == f"onesession: broker {address} [double]"


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@needs_systemd
def test_the_unit_of_the_documentation_is_right(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    unit = tmp_path / "onesession.service"
    text = page.split("```ini\n# /etc/systemd/system/onesession.service\n")[1].split("```")[0]
    unit.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", os.fspath(unit)], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "Unknown key 'Restart" not in line]  # of systemd 254
    assert (done.returncode, said) == (0, [])

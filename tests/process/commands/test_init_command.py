"""`onesession init`: what it writes is right for the programs that read it, and nothing is overwritten."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from broker.cli import deployment, main
from broker.cli.init import _write
from broker.config.file import read
from tests.commands import PATIENCE_S
from tests.docs.pages import DOCS, blocks
from tests.servers.running import BIN, Place, running
from tests.servers.running import place as server_place
from tests.workers import in_child
from worker_client.wire.errors import BrokerError

NAMES = ["broker.toml", "compose.yaml", "gunicorn.conf.py", "onesession.service"]
STRANGER = 54321
NEWER = ("RestartSteps", "RestartMaxDelaySec")
"""What only systemd from 254 on knows, as the unit says."""
MODEL = """
import broker

@broker.signature(inputs={"x": ("float32", [None, 2])}, outputs={"y": ("float32", [None])})
def total(x):
    return x.sum(1)
"""
APP = """
import json
import worker_client

total = worker_client.connect().model("total")


def app(environ, start_response):
    body = json.dumps(total.predict([[1, 2]]).tolist()).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""
EMPTY_APP = "def app(environ, start_response): ..."


def init(*words: str) -> Result:
    return CliRunner().invoke(main, ["init", *words])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, in which the command is used."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def place() -> Iterator[Place]:
    with server_place() as here:
        yield here


def unit_of(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return parser


# -- broker.toml -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [(), ("--model", "digits=models/digits")], ids=["none", "one"])
def test_it_says_what_it_wrote_and_what_is_next(folder: Path, model: tuple[str, ...]) -> None:
    done = init(*model)
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(folder)) == NAMES
    *wrote, last = done.output.splitlines()
    assert sorted(line.partition(":")[0] for line in wrote) == [f"wrote {name}" for name in NAMES]
    if model:
        assert last == "next: onesession serve --config broker.toml"
    else:
        assert last == "next: name your model in broker.toml, then onesession config check"
    checked = CliRunner().invoke(main, ["config", "check"])
    found = "digits" if model else "no model"
    assert (checked.exit_code, checked.output) == (0, f"broker.toml is right: {found}\n")


@pytest.mark.parametrize(
    ("model", "name", "source"),
    [
        ("digits=models/digits", "digits", "../../models/digits"),
        ("models/digits/3", "digits", "../../models/digits/3"),
        ("a.b=/srv/models/x", "a.b", "/srv/models/x"),
        ("m=app.models:mean", "m", "app.models:mean"),
        ("m=~/models/m", "m", "~/models/m"),
        ('m=it\'s "one"', "m", '../../it\'s "one"'),
    ],
)
def test_a_model_is_found_from_the_files_folder(folder: Path, model: str, name: str, source: str) -> None:
    """A relative path counts from where the command is used; in the file, from the file."""
    done = init("deploy/it here", "--model", model)
    assert done.exit_code == 0, done.output
    assert done.output.endswith("next: cd 'deploy/it here' && onesession serve --config broker.toml\n")
    (spec,) = read(folder / "deploy/it here/broker.toml").models
    expected = (
        source if source[0] in "~/" or ":" in source else os.path.normpath(folder / "deploy/it here" / source)
    )
    assert (spec.name, spec.source) == (name, expected)


# -- gunicorn --------------------------------------------------------------------------------------------------------


def test_gunicorn_serves_with_what_was_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, whose workers are answered, also after a reload; and its broker ends with it."""
    monkeypatch.chdir(place.path)
    assert init("--model", "total=mine:total").exit_code == 0
    place.write("mine.py", MODEL)
    place.write("app.py", APP)
    with running(place, ["gunicorn", "--workers", "1", "--bind", "127.0.0.1:0", "app:app"]) as server:
        assert server.get() == [3]
        broker = server.broker()
        server.signal(signal.SIGHUP)
        server.wait_for_log("Booting worker", 2)
        assert server.get() == [3]
        assert server.broker() == broker
        server.process.terminate()
        assert server.wait_for_end() == 0


@pytest.mark.parametrize("model", [(), ("--model", "digits=models/digits")], ids=["none", "one"])
@pytest.mark.parametrize(
    "address", [None, "/tmp/its-own.sock", deployment.ADDRESS], ids=["first", "again", "beside-a-service"]
)
def test_gunicorn_takes_its_file(folder: Path, model: tuple[str, ...], address: str | None) -> None:
    """Without a model too, and again when it finds the address of its own broker; but a service's broker is enough."""
    assert init(*model).exit_code == 0
    (folder / "app.py").write_text(EMPTY_APP)
    environment = {key: text for key, text in os.environ.items() if key != "BROKER_ADDRESS"}
    done = subprocess.run(
        [BIN / "gunicorn", "--print-config", "app:app"],
        env={**environment, **({"BROKER_ADDRESS": address} if address else {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (hook,) = re.findall(r"^on_starting +=(.*)$", done.stdout, re.MULTILINE)
    assert ("_chain" in hook) == (address != deployment.ADDRESS), hook


def test_the_address_of_a_service_is_not_gunicorns() -> None:
    """Whose file would take its own broker for the service's when it is read again."""
    assert os.path.basename(deployment.ADDRESS) not in ("default.sock", "default-2.sock")


# -- systemd ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", ["plain", '50% of it\'s "\\here" $HOME'])
def test_systemd_takes_the_unit(folder: Path, name: str) -> None:
    """Whatever its folder is called."""
    assert init(name).exit_code == 0
    done = subprocess.run(
        ["systemd-analyze", "verify", folder / name / "onesession.service"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    about = [line for line in done.stderr.splitlines() if "onesession.service" in line]
    assert [line for line in about if not any(f"'{key}'" in line for key in NEWER)] == []
    assert done.returncode == 0, done.stderr


def test_the_unit_is_that_of_the_docs(folder: Path) -> None:
    """But for the user, the paths, and the models, which are in broker.toml here."""
    assert init().exit_code == 0
    written = unit_of((folder / "onesession.service").read_text())
    (block,) = [each for each in blocks(DOCS / "operations.md") if "onesession.service\n[Unit]" in each.text]
    documented = unit_of(block.text)
    assert written.sections() == documented.sections()
    for section in written.sections():
        ours, theirs = dict(written[section]), dict(documented[section])
        for key in ("User", "WorkingDirectory", "ExecStart"):
            ours.pop(key, None)
            theirs.pop(key, None)
        assert ours == theirs


def test_the_units_socket_is_in_its_runtime_directory(folder: Path) -> None:
    """With ProtectSystem=strict the broker may write there, to its cache, and to /dev/shm unless that is private."""
    assert init().exit_code == 0
    service = unit_of((folder / "onesession.service").read_text())["Service"]
    assert os.path.dirname(deployment.ADDRESS) == f"/run/{service['RuntimeDirectory']}"
    assert service["ExecStart"].endswith(f"serve --config {folder}/broker.toml --name {deployment.ADDRESS}")
    assert service["Environment"] == f"XDG_CACHE_HOME=/var/cache/{service['CacheDirectory']}"
    assert (service["WorkingDirectory"], service["ProtectHome"]) == (str(folder), "read-only")
    assert not {"PrivateIPC", "TemporaryFileSystem", "MemoryDenyWriteExecute", "PrivateMounts"} & set(service)


# -- containers ------------------------------------------------------------------------------------------------------


def test_the_containers_share_socket_memory_and_user(folder: Path) -> None:
    assert init().exit_code == 0
    written = yaml.safe_load((folder / "compose.yaml").read_text())
    broker, app = written["services"]["broker"], written["services"]["app"]
    assert (broker["ipc"], app["ipc"]) == ("shareable", "service:broker")
    assert broker["user"] == app["user"] == "1000:1000"
    shared = "run:/run/onesession"
    assert shared in broker["volumes"]
    assert shared in app["volumes"]
    assert "uid=1000" in written["volumes"]["run"]["driver_opts"]["o"]
    assert all(re.fullmatch(r"\d+[mg]", each["mem_limit"]) for each in (broker, app))
    assert app["environment"]["BROKER_ADDRESS"] == deployment.ADDRESS
    assert app["depends_on"]["broker"] == {"condition": "service_healthy", "restart": True}
    used = {each.split(":")[0] for each in (*broker["volumes"], *app["volumes"])} - {"."}
    assert used == set(written["volumes"])


@pytest.mark.parametrize(
    ("source", "written", "mounted"),
    [
        ("digits", None, None),
        ("{}/$igits", "{}/$$igits", "{}/$$igits"),
        ("../a: b/digits", "../a: b/digits", "/srv/a: b/digits"),
    ],
)
def test_the_container_sees_the_model(
    folder: Path, source: str, written: str | None, mounted: str | None
) -> None:
    """Also one that is not in the folder, at the path at which the configuration names it."""
    source, written, mounted = (each and each.format(folder.parent) for each in (source, written, mounted))
    assert init("--model", f"m={source}").exit_code == 0
    broker = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["broker"]
    mounts = [each for each in broker["volumes"] if isinstance(each, dict)]
    one = {"type": "bind", "source": written, "target": mounted, "read_only": True}
    assert mounts == ([one] if written else [])


def test_the_commands_of_the_containers_are_ours(folder: Path) -> None:
    """With options that there are, and the address that the app has."""
    assert init("--model", "m=mine:total").exit_code == 0
    broker = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["broker"]
    for words in (broker["command"], broker["healthcheck"]["test"][1:]):
        assert words[0] == "onesession"
        context = main.commands[words[1]].make_context(words[1], words[2:])
        assert context.params["name"] == deployment.ADDRESS


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [["compose.yaml"], ["broker.toml", "onesession.service"]])
def test_no_file_is_overwritten(folder: Path, there: list[str]) -> None:
    """All or nothing: the others are not written either."""
    for name in there:
        (folder / name).write_text("mine")
    done = init()
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert f"{', '.join(there)} exists already" in line
    assert sorted(os.listdir(folder)) == there
    assert {(folder / name).read_text() for name in there} == {"mine"}


def test_a_link_into_nothing_is_a_file_that_is_there(folder: Path) -> None:
    """Written through, it would make a file elsewhere."""
    (folder / "broker.toml").symlink_to(folder / "elsewhere")
    assert init().exit_code == 1
    assert os.listdir(folder) == ["broker.toml"]


def test_what_was_written_before_a_failure_is_removed(folder: Path) -> None:
    """And the folders that were made for it."""
    with pytest.raises(BrokerError, match="nothing was written to deploy/here: deploy/here/no/file"):
        _write(Path("deploy/here"), {"first": "text", "no/file": "text"})
    assert os.listdir(folder) == []


def test_a_directory_that_cannot_be_is_told_in_one_line(folder: Path) -> None:
    (folder / "file").write_text("")
    for directory in ("file", "file/below", "/proc/self/below"):
        done = init(directory)
        assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
        assert f"nothing was written to {directory}: " in done.output
        assert "give a directory that you may write to" in done.output


def test_a_directory_that_may_not_be_written_is_told_in_one_line(place: Place) -> None:
    """Root may write everywhere, and becomes another user for it."""
    place.path.chmod(0o555)

    def child() -> tuple[int, str]:
        if os.geteuid() == 0:
            os.setuid(STRANGER)
        done = init(os.fspath(place.path))
        return done.exit_code, done.output

    status, output = in_child(child)
    (line,) = output.splitlines()
    assert (status, f"{place.path}/broker.toml: Permission denied; give a directory" in line) == (1, True), (
        line
    )
    place.path.chmod(0o755)


@pytest.mark.parametrize(
    "words", [("new\nline",), ("--model", "m=new\nline"), ("--model", "=x"), ("--what",)]
)
def test_what_cannot_be_meant_is_a_mistake_in_use(folder: Path, words: tuple[str, ...]) -> None:
    done = init(*words)
    assert (done.exit_code, "Traceback" in done.output) == (2, False), done.output
    assert os.listdir(folder) == []

"""The configuration file: what it may contain, and the errors for anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from broker import Broker
from broker.cli import main
from broker.config.file import ConfigError, read
from broker.config.toml_lines import line_of, places_of
from broker.models.spec import ModelSpec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.toml"


def test_models_may_be_sources_or_tables(path: Path) -> None:
    """`NAME = SOURCE` is short for a table with a source."""
    path.write_text('[models]\na = "pkg.models:f"\n[models.b]\nsource = "/b"\nmax_delay = 0.5\n')
    assert read(path).models == (ModelSpec("a", "pkg.models:f"), ModelSpec("b", "/b", max_delay=0.5))


def test_relative_paths_count_from_the_file(path: Path) -> None:
    """Wherever the broker is started. Functions, handles and home directories are none."""
    path.write_text(
        '[models]\na = "m/a"\nb = "./odd:name"\nc = "https://tfhub.dev/x/1"\nd = "~/d"\ne = "m:f"\n'
    )
    folder = path.parent
    sources = {spec.name: spec.source for spec in read(path).models}
    assert sources == {
        "a": f"{folder}/m/a",
        "b": f"{folder}/odd:name",
        "c": "https://tfhub.dev/x/1",
        "d": "~/d",
        "e": "m:f",
    }
    path.write_text('[models.f]\nsource = "f"\nwarmup = "../f.npz"\nop_libraries = ["ops.so", "/abs.so"]\n')
    (spec,) = read(path).models
    assert spec.warmup == str(folder.parent / "f.npz")
    assert spec.op_libraries == (f"{folder}/ops.so", "/abs.so")
    path.write_text('[models.f]\nsource = "f"\nwarmup = false\n')
    assert read(path).models[0].warmup is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slot = 4", ["line 1: a broker has no setting 'slot'; did you mean 'slots'?"]),
        ("\n\nqqq = 4", ["line 3: a broker has no setting 'qqq'; there are name, slots, "]),
        ("# a\nmax_slots = 'x'", ["line 2: max_slots must be an integer from 8 to 256, got 'x'"]),
        ("max_slots = 4", ["max_slots must be an integer from 8 to 256, got 4"]),
        ("metrics_host = 3", ["line 1: metrics_host must be the name or address of a host, got 3"]),
        ("metrics_socket = ''", ["line 1: metrics_socket must be the path of a Unix socket, got ''"]),
        ("tune_seconds = true", ["line 1: tune_seconds must be a number from 0 to 3600, got True"]),
        ("slots = {}", ["line 1: slots must be an integer"]),
        ("allow_uid = 3", ["line 1: allow_uid must be a list of numbers such as [1000], got 3"]),
        ("name = 3", ["line 1: name must be the broker's name or the path of its socket, got 3"]),
        ("models = 3", ["line 1: models must be a table of models, got 3; write [models.digits]"]),
        ("[models]\na = 3", ["line 2: model 'a' must be a source or a table with a source, got 3"]),
        ("[models.a]\nx = 1", ["line 1: model 'a' has no source; write source = \"models/a\"", "line 2: "]),
        (
            "[models.a]\nsource = 's'\nmax_batch_sise = 3\ntimeout = -1",
            [
                "line 3: model 'a' has no setting 'max_batch_sise'; did you mean 'max_batch_size'?",
                "line 4: model 'a': timeout must be seconds",
            ],
        ),
        (
            "[models.a]\nsource = 's'\n[models.'b c']\nsource = 't'",
            ["line 3: 'b c' is not a model name"],
        ),
        (
            "[models.a]\nsource='s'\nmax_batch_size = 3\nallowed_batch_sizes = [1, 4]",
            ["line 1: model 'a': the last of allowed_batch_sizes (4) must be max_batch_size (3)"],
        ),
        ("models.a = {source = 's', tags = {x = 3}}", ["line 1: model 'a': tags must be a list"]),
        (
            "[models.a]\nsource = 's'\nintra_op_threads = 4294967296",
            ["line 3: model 'a': intra_op_threads must be at most 2,147,483,647, got 4294967296"],
        ),
        ("models.a = {source = 's', tags = 3}", ["line 1: model 'a': tags must be a list"]),
        (
            "[models.a]\nsource = 's'\nlabels = { 1 = 2 }",
            ["line 3: model 'a': labels must be a mapping of names"],
        ),
        ("[models.a]\nsource = 's'\nversions = 'new'", ["line 3: model 'a': versions must be 'latest', "]),
        ("x = [", ["is not valid TOML: "]),
    ],
)
def test_everything_wrong_is_told_with_its_line(path: Path, text: str, said: list[str]) -> None:
    """One check reports all errors, each with its line."""
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(said)
    for line, expected in zip(lines, said):
        assert line.startswith(str(path))
        assert expected in line


def test_a_broker_in_python(path: Path) -> None:
    """`Broker.from_config` takes the file, and what is said in Python before it."""
    path.write_text('name = "/run/here"\nslots = 3\nmax_slots = 5\n[models]\na = "/a"\n')
    settings = Broker.from_config(path, slots=4).settings
    assert (settings.address, settings.slots, settings.max_slots) == ("/run/here", 4, 5)
    assert settings.models == (ModelSpec("a", "/a"),)
    assert Broker.from_config(path, name="/run/there").address == "/run/there"
    path.write_text("slot = 3")
    with pytest.raises(ConfigError, match="line 1: a broker has no setting 'slot'"):
        Broker.from_config(path)


def test_a_file_that_cannot_be_read(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"broker\.toml cannot be read: No such file"):
        read(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read(path)


def test_lines_of_keys() -> None:
    """Headers, dotted and quoted keys, tables in a line; texts of several lines hold no keys."""
    text = 'a = """\nb = 1\n"""\n[t.\'x.y\'.z]\nc.d = 1\ne = { f = 1, g = 2 }\n[[u]]\n"h" = [\n  1,\n]'
    places = places_of(text)
    assert places == {
        ("a",): 1,
        ("t", "x.y", "z"): 4,
        ("t", "x.y", "z", "c", "d"): 5,
        ("t", "x.y", "z", "e"): 6,
        ("t", "x.y", "z", "e", "f"): 6,
        ("t", "x.y", "z", "e", "g"): 6,
        ("u",): 7,
        ("u", "h"): 8,
    }
    assert line_of(places, ("t", "x.y")) == 4
    assert line_of(places, ("u", "h", "more")) == 8
    assert line_of(places, ("nowhere",)) is None


def test_commands(path: Path) -> None:
    """`onesession config check` says that it is right, or fails; `show` prints every setting."""
    path.write_text('[models]\na = "/a"\n')
    run = CliRunner().invoke
    assert "is right: a" in run(main, ["config", "check", str(path)]).output
    shown = run(main, ["config", "show", str(path)]).output
    assert 'source = "/a"' in shown
    assert 'versions = "latest" # default' in shown
    assert 'log_level = "info" # default' in shown  # as `onesession serve` has it
    path.write_text("slot = 1\n")
    for command, status in (("check", 1), ("show", 2)):  # what `check` looks for is no mistake in its use
        result = run(main, ["config", command, str(path)])
        assert result.exit_code == status
        assert "line 1: a broker has no setting 'slot'" in result.output

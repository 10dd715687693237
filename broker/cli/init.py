"""`onesession init`: writes the files with which an app and its broker are run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from broker.cli import deployment
from broker.cli.options import reported_errors
from broker.config.model_argument import spec_of
from broker.models.spec import ModelSpec
from worker_client.wire.errors import BrokerError, InvalidInput


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("--model", metavar="[NAME=]SOURCE", help=f"The model to put into {deployment.CONFIG}.")
def init(directory: Path, model: str | None) -> None:
    """Write the files for running an app and its broker.

    They are a configuration, and one file each for gunicorn, systemd and containers. No file is overwritten: if one of
    them is there, nothing is written. Example:

        onesession init --model digits=models/digits
    """
    with reported_errors():
        folder = Path(os.path.abspath(directory))
        spec = None if model is None else _from_there(spec_of(model), folder)
        for path in (os.fspath(folder), "" if spec is None else spec.source):
            if not path.isprintable():
                raise InvalidInput(
                    f"{path!r} cannot stand in a text file: give a path of printable characters"
                )
        texts = deployment.files(folder, spec)
        _write(directory, texts)
    for name in texts:
        click.echo(f"wrote {directory / name}: {deployment.ABOUT[name]}")
    click.echo(f"next: {_next(directory, spec)}")


def _from_there(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The spec with a path relative to `folder`, as in a configuration file there."""
    source = spec.source
    if spec.is_function or "://" in source or source.startswith("~") or os.path.isabs(source):
        return spec
    return replace(spec, source=os.path.relpath(os.path.abspath(source), folder))


def _write(directory: Path, texts: dict[str, str]) -> None:
    """Write all files or none. Raises BrokerError."""
    try:
        there = [name for name in texts if os.path.lexists(directory / name)]
        if there:
            raise FileExistsError(", ".join(there))
        with _undone_on_failure() as undo:
            for folder in reversed([each for each in (directory, *directory.parents) if not each.exists()]):
                folder.mkdir()
                undo.callback(folder.rmdir)
            for name, text in texts.items():
                with (directory / name).open("x", encoding="utf-8") as file:
                    undo.callback((directory / name).unlink)
                    file.write(text)
    except FileExistsError as error:
        what = error.filename or error
        raise BrokerError(
            f"nothing was written to {directory}, because no file is overwritten: {what} exists already; "
            "move it away, or "
            "give another directory"
        ) from None
    except OSError as error:
        raise BrokerError(
            f"nothing was written to {directory}: {error.filename or directory}: {error.strerror}; give a "
            "directory "
            "that you may write to"
        ) from None


@contextmanager
def _undone_on_failure() -> Iterator[ExitStack]:
    """Undo the steps of the block if it does not complete."""
    with ExitStack() as undo:
        yield undo
        undo.pop_all()


def _next(directory: Path, spec: ModelSpec | None) -> str:
    there = "" if directory == Path() else f"cd {shlex.quote(os.fspath(directory))} && "
    if spec is None:
        return f"name your model in {directory / deployment.CONFIG}, then {there}onesession config check"
    return f"{there}onesession serve --config {deployment.CONFIG}"

"""`onesession config`: check a configuration file, show it with all defaults, make one from TensorFlow Serving's."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.options import OF_COMMANDS, reported_errors

_FILE = click.Path(dir_okay=False, path_type=Path)


_USUAL = Path("broker.toml")


def _existing(file: Path) -> Path:
    if file == _USUAL and not file.exists():
        raise click.UsageError(f"no FILE was given, and there is no {_USUAL} in this folder")
    return file


@click.group()
def config() -> None:
    """Check, show and import configuration files."""


@config.command()
@click.argument("file", type=_FILE, default=_USUAL)
def check(file: Path) -> None:
    """Report the errors in FILE, with line numbers. Fails if there are any. Loads no model."""
    from broker.config.file import ConfigError, read

    _existing(file)
    try:
        found = read(file)
    except ConfigError as error:  # which is what it looks for, and no mistake in the use of this command
        raise click.ClickException(str(error)) from None
    names = ", ".join(spec.name for spec in found.models) or "no model"
    click.echo(f"{file} is right: {names}")


@config.command()
@click.argument("file", type=_FILE, default=_USUAL)
def show(file: Path) -> None:
    """Print FILE with all defaults filled in."""
    from broker.config.file import read
    from broker.config.show import shown

    with reported_errors():
        click.echo(shown(read(_existing(file)), OF_COMMANDS), nl=False)


@config.command("import-tfs")
@click.argument("models_config", type=_FILE)
@click.option(
    "--batching-parameters",
    type=_FILE,
    metavar="FILE",
    help="TensorFlow Serving's --batching_parameters_file.",
)
def import_tfs(models_config: Path, batching_parameters: Path | None) -> None:
    """Convert TensorFlow Serving's MODELS_CONFIG (--model_config_file) and print the result."""
    try:
        from broker.config import tfs
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("google"):
            raise
        raise click.ClickException(
            "TensorFlow Serving's files are read with protobuf, which is not installed: pip install "
            "'onesession[tensorflow]' (or [tensorflow-cpu])"
        ) from None
    with reported_errors():
        imported = tfs.read(models_config, batching_parameters)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(imported.to_toml(), nl=False)

"""`onesession try`: loads a model, calls it, and prints the lines that an app needs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from broker.bench import inputs as made_up
from broker.bench.arms import Named
from broker.bench.arms.brokered import Brokered
from broker.bench.model_under_test import ModelUnderTest, ServedUnderTest, served
from broker.cli import snippets
from broker.cli.models import shown
from broker.cli.options import reported_errors
from broker.cli.sigterm import ended_by_sigterm
from broker.config.logs import LogLevel
from broker.config.model_argument import spec_of
from broker.config.settings import Tune
from broker.control_plane.query import ask
from broker.models.spec import ModelSpec
from broker.observe.formatting import duration
from worker_client.interpreter.surroundings import import_from_here
from worker_client.system.clock import monotonic_ns
from worker_client.wire.dtypes import name_of
from worker_client.wire.errors import InvalidInput, ModelFailed
from worker_client.wire.signature import Signature, format_shape

_SEED = 1
_DRAIN_SECONDS = 1.0
"""Drain time of the broker: short, because requests can only be running after Ctrl-C."""


@click.command("try")
@click.argument("model", metavar="[NAME=]SOURCE")
@click.option(
    "--signature",
    metavar="NAME",
    help="The signature to call, also if it changes state.  [default: the model's default signature]",
)
@click.option(
    "--input",
    "input_",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Inputs to send: .npz (an array for each input), .npy or .json.  [default: made up from the signature]",
)
@click.option("--tune", is_flag=True, help="Measure the best settings for this machine first.")
def try_model(model: str, signature: str | None, input_: Path | None, tune: bool) -> None:
    """Load a model, call it once, and print the lines for your app.

    Starts a private broker for SOURCE, shows the model's signatures, calls one of them with made-up data, and prints
    what an app in Flask, FastAPI or Django needs to call it. The broker ends with the command. Example:

        onesession try digits=models/digits
    """
    import_from_here()
    with reported_errors(), ended_by_sigterm():
        spec = spec_of(model)
        failed = _tried(spec, signature, input_, Tune.AUTO if tune else Tune.OFF)
        if failed is not None:
            remedy = (
                "" if input_ else "; if that is because the data is made up, give it an example with --input"
            )
            raise ModelFailed(f"{failed}{remedy}")


def _tried(spec: ModelSpec, name: str | None, file: Path | None, tune: Tune) -> ModelFailed | None:
    """Show everything; returns the model's error if the call failed."""
    options = {"tune": tune.value, "drain_seconds": _DRAIN_SECONDS, "log_level": LogLevel.ERROR.value}
    with ExitStack() as stack:
        with Console(stderr=True).status(f"loading {spec.name}"):
            broker = stack.enter_context(served(ModelUnderTest(spec.name, spec, None, name, options)))
        models = ask(broker.address, "models")["models"]
        Console().print(shown(models))
        info = models[spec.name]
        failed = _called(broker, spec.name, _stateful(info, broker.signature, name), file)
    is_default = broker.signature.name == info["default_signature"]
    click.echo()
    click.echo(
        snippets.snippets(snippets.CalledSignature(spec.name, spec.source, broker.signature, is_default)),
        nl=False,
    )
    return failed


def _stateful(info: Mapping[str, Any], signature: Signature, name: str | None) -> str:
    """What the signature changes; empty if it changes nothing, or if the user has selected it by name."""
    if name is not None:
        return ""
    (found,) = [each["stateful"] for each in info["signatures"] if each["name"] == signature.name]
    return str(found)


def _called(broker: ServedUnderTest, model: str, stateful: str, file: Path | None) -> ModelFailed | None:
    """Call it twice, and print the answer. Returns the model's error if there is one."""
    signature = broker.signature
    if stateful:
        remedy = f"to call it, name it: --signature {shlex.quote(signature.name)}"
        click.echo(f"not called: {signature.name} is stateful (it {stateful}); {remedy}")
        return None
    try:
        inputs = _inputs(signature, file)
    except InvalidInput as error:
        if file is not None:
            raise
        click.echo(f"not called: {error}")
        return None
    click.echo(f"calling {signature.name}({_arrays_text(inputs, signature.inputs)})")
    try:
        times, answer = _timed(broker.address, model, signature, inputs)
    except ModelFailed as error:
        return error
    click.echo(f"answer ({_arrays_text(answer, signature.outputs)})")
    click.echo(f"first call {duration(times[0])}, second call {duration(times[1])}")
    return None


def _inputs(signature: Signature, file: Path | None) -> Named:
    """The inputs, of one row if requests have rows. Raises InvalidInput."""
    maker = made_up.made(signature, _SEED, {}) if file is None else made_up.from_file(file, signature)
    return maker(1 if made_up.has_rows(signature) else 0)[0]


def _timed(address: str, model: str, signature: Signature, inputs: Named) -> tuple[list[float], Named]:
    """How long the first and the second call took, in microseconds, and the answer."""
    with Brokered(address, model, signature.name).open() as handle:
        prepared, predict = handle.prepared(inputs), handle.caller().call
        moments, answers = [monotonic_ns()], []
        for _ in range(2):
            answers.append(predict(prepared))
            moments.append(monotonic_ns())
        return [(end - begin) / 1000 for begin, end in pairwise(moments)], handle.named(answers[0])


def _arrays_text(arrays: Named, specs: Any) -> str:
    """`x: float32[1, 64], n: int64[]`"""
    return ", ".join(
        f"{spec.name}: {name_of(spec.dtype)}{format_shape(np.shape(arrays[spec.name]))}" for spec in specs
    )

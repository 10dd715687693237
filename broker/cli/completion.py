"""What a shell completes: names of live brokers, and of the models that one of them serves."""

from __future__ import annotations

import contextlib

import click
from click.shell_completion import CompletionItem

from broker.control_plane import local_brokers
from broker.control_plane.query import ask
from worker_client.wire.errors import BrokerError

_ANSWER_SECONDS = 1.0
"""A user waits at the prompt: a broker that is busy completes nothing."""


class BrokerName(click.ParamType):  # type: ignore[type-arg] # generic in click 8.4 only
    """A name or a socket path: any text. Names of live brokers are completed without a question to these, paths by the
    shell."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        if "/" in incomplete:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name) for name in local_brokers.names() if name.startswith(incomplete)]


def served_models(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Models of the broker that the command would ask."""
    with contextlib.suppress(BrokerError, OSError):
        address = local_brokers.address_of(ctx.params.get("name"))
        models = ask(address, "status", _ANSWER_SECONDS)["status"]["models"]
        return sorted(name for name in models if name.startswith(incomplete))
    return []

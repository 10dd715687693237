"""Finds the broker's own loaders, which a worker otherwise never reaches, for models that run in this process."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from typing import Any

from worker_client.in_process import address
from worker_client.in_process.engine import Engine, Source, known, registered, shared
from worker_client.wire.errors import BrokerError, BrokerUnavailable, InvalidInput

_LOADERS = "broker.integrations.inline"
"""Looked up by name when an app asks for it: a client of a broker imports nothing of that."""
_OBJECTS = re.compile(r"#\d+$")


def of_address(text: str) -> Source:
    """The models of `inline:digits=models/digits,other=package.module:function`. Raises InvalidInput."""
    if _OBJECTS.search(text):
        if (source := known(text)) is None:
            raise InvalidInput(
                f"{text!r} is the address of a client of another process, or one that nobody keeps"
            )
        return source
    models = address.parts(text)
    if not models:
        raise InvalidInput(f"{text!r} names no model; write {address.EXAMPLE}, and a comma between several")
    folder = os.getcwd()
    return shared((text, folder), text, lambda: _engine(text, "from_texts", models, folder))


def of_models(models: Any) -> Source:
    """The models of a dict, as `broker.Broker` takes it. Raises InvalidInput."""
    if not isinstance(models, Mapping) or not models or not all(isinstance(name, str) for name in models):
        raise InvalidInput(f"models must be a dict such as {{'digits': 'models/digits'}}, got {models!r}")
    copied = dict(models)
    return registered(copied, lambda: _engine(f"inline: {', '.join(copied)}", "from_models", copied))


def _engine(path: str, maker: str, *arguments: Any) -> Engine:
    try:
        engine: Engine = getattr(importlib.import_module(_LOADERS), maker)(*arguments)
    except ImportError as error:
        raise BrokerUnavailable(
            f"the models of {path} are loaded by onesession's package 'broker', which cannot be imported here "
            f"({error}): pip install 'onesession[tensorflow]' (or [broker] where no model needs TensorFlow)"
        ) from error
    except InvalidInput:
        raise
    except BrokerError as error:
        raise BrokerUnavailable(f"{path}: {error}") from error
    return engine

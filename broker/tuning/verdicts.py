"""Records whether a model's rows are independent, beside its measurements: an examination takes seconds.

The key changes with the content of the model's files, TensorFlow, the settings, and the way to examine.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from broker.models.errors import ModelLoadError
from broker.models.files.locate import locate
from broker.models.model import LoadedModel
from broker.models.rows import independence
from broker.models.spec import ModelSpec
from broker.tuning import machine
from broker.tuning.content import content_digest
from broker.tuning.records import default_folder, report_unwritable, write_whole

_log = logging.getLogger("onesession.tuning")

MARK = "-rows-"
"""In the names of their files, which lie among those of the tuning records and have no format of their own."""
_SETTINGS = ("tags", "inputs", "outputs", "imports", "op_libraries", "xla", "session_config")


class RememberedVerdicts:
    """The verdicts in one folder, by default that of the tuning records. An unreadable one is ignored."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def find(self, model: LoadedModel, name: str) -> str | None:
        path = self._path(model, name)
        if path is None:
            return None
        try:
            apart = json.loads(path.read_text(encoding="utf-8"))["apart"]
            return apart if isinstance(apart, str) else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("the record %s cannot be read, so its model is examined again: %s", path, error)
            return None

    def save(self, model: LoadedModel, name: str, apart: str) -> None:
        path = self._path(model, name)
        if path is None:
            return
        message = {"apart": apart, "signature": str(model.signatures[name]), "model": model.spec.name}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, json.dumps(message, indent=1))
        except OSError as error:
            report_unwritable("the results of examinations", self.folder, error)

    def _path(self, model: LoadedModel, name: str) -> Path | None:
        """The path of the record; None for a model that is not on disk."""
        content = _content(model.spec)
        if content is None:
            return None
        rest = json.dumps(_circumstances(model, name), sort_keys=True, default=str)
        return self.folder / f"{content[:24]}{MARK}{hashlib.sha256(rest.encode()).hexdigest()[:16]}.json"


def _content(spec: ModelSpec) -> str | None:
    try:
        return content_digest(locate(spec)[0])
    except (ModelLoadError, OSError):
        return None


def _circumstances(model: LoadedModel, name: str) -> list[Any]:
    spec = model.spec
    examples = hashlib.sha256()
    for example in model.examples.get(name, ())[:4]:
        for feed in example:
            examples.update(f"{feed.dtype}{feed.shape}".encode())
            examples.update(repr(feed.tolist()).encode() if feed.dtype.hasobject else feed.tobytes())
    return [
        independence.VERSION,
        machine.tensorflow_version(),
        name,
        str(model.signatures[name]),
        spec.batch_limit,
        examples.hexdigest(),
        *[getattr(spec, setting) for setting in _SETTINGS],
    ]

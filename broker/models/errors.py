"""The errors of loading a model. The broker starts without a model that cannot be loaded, unless it has no other."""

from __future__ import annotations

from collections.abc import Sequence

from worker_client.wire.errors import BrokerError

RAISED_BY_CODE = (Exception, SystemExit)
"""The exceptions that a model's own code may raise during its load: sys.exit() ends the load, not the broker."""


class ModelLoadError(BrokerError):
    """A model could not be loaded. The message, one line, names the model, its source, the cause and
    the remedy."""

    @classmethod
    def of(cls, name: str, source: str, cause: str, remedy: str) -> ModelLoadError:
        one_line = " ".join(cause.split("\n"))  # messages of libraries may have several lines
        return cls(f"model {name!r} from {source!r} cannot be loaded: {one_line}. {remedy}")

    @classmethod
    def joined(cls, errors: Sequence[ModelLoadError]) -> ModelLoadError:
        """One error that combines all `errors`, so that one start shows everything that must be repaired."""
        if len(errors) == 1:
            return errors[0]
        lines = "".join(f"\n  - {error}" for error in errors)
        return cls(f"{len(errors)} models cannot be loaded:{lines}")

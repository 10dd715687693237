"""Why a model cannot be served: the errors of loading. The broker starts without it, unless it has no other."""

from __future__ import annotations

from collections.abc import Sequence

from worker_client.wire.errors import BrokerError

RAISED_BY_CODE = (Exception, SystemExit)
"""What code of a model's own may raise while it is loaded: its sys.exit() ends the load, and not the broker."""


class ModelLoadError(BrokerError):
    """A model could not be loaded. The message, one line, names the model, its source, the cause and
    the remedy."""

    @classmethod
    def of(cls, name: str, source: str, cause: str, remedy: str) -> ModelLoadError:
        one_line = " ".join(cause.split("\n"))  # the words of others may have lines of their own
        return cls(f"model {name!r} from {source!r} cannot be loaded: {one_line}. {remedy}")

    @classmethod
    def joined(cls, errors: Sequence[ModelLoadError]) -> ModelLoadError:
        """One error that tells all of `errors`, so that one start shows everything there is to repair."""
        if len(errors) == 1:
            return errors[0]
        lines = "".join(f"\n  - {error}" for error in errors)
        return cls(f"{len(errors)} models cannot be loaded:{lines}")

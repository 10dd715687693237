"""Decides what sessions may run of a model's graph: only ops that compute.

Any tensor can be fed, including the name of a file: the op with which a SavedModel saves itself would write to a path
of the worker's choice, as the broker's user.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.models.effects.op_effects import EffectKind
from broker.models.effects.signature_effects import Effect, describe
from worker_client.wire.errors import BrokerError

_HARMLESS = (EffectKind.RANDOM,)


def check(model: str, fetches: Sequence[str], effects: Sequence[Effect]) -> None:
    """Raise BrokerError, which names the op, if a session may not run one of the effects."""
    for effect in effects:
        if effect.kind not in _HARMLESS:
            raise BrokerError(
                f"model {model!r}: a session may not run {_shown(fetches)}, whose op {effect.op} "
                f"{effect.node!r} "
                f"{_what(effect)}; call a signature that the model exports, or allow it to all sessions of "
                "the model "
                f"(onesession serve --set {model}.session_effects=true)"
            )


def _what(effect: Effect) -> str:
    return describe([effect]).replace(f" (op {effect.op} {effect.node!r})", "")


def _shown(fetches: Sequence[str]) -> str:
    more = f" and {len(fetches) - 1} more" if len(fetches) > 1 else ""
    return f"{str(fetches[0])[:100]!r}{more}"

"""What sessions may run of a model's graph: what computes.

Any tensor can be fed, the name of a file among them: the op that a SavedModel has to save itself would write where a
worker says, as the broker's user.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.models.effects.op_effects import EffectKind
from broker.models.effects.signature_effects import Effect, describe
from worker_client.wire.errors import BrokerError

_HARMLESS = (EffectKind.RANDOM,)


def check(model: str, fetches: Sequence[str], effects: Sequence[Effect]) -> None:
    """Raises BrokerError that names the op that a session may not run."""
    for effect in effects:
        if effect.kind not in _HARMLESS:
            raise BrokerError(
                f"model {model!r}: a session may not run {_shown(fetches)}, whose op {effect.op} {effect.node!r} "
                f"{_what(effect)}; call a signature that the model exports, or allow it to all sessions of the model "
                f"(broker serve --set {model}.session_effects=true)"
            )


def _what(effect: Effect) -> str:
    return describe([effect]).replace(f" (op {effect.op} {effect.node!r})", "")


def _shown(fetches: Sequence[str]) -> str:
    more = f" and {len(fetches) - 1} more" if len(fetches) > 1 else ""
    return f"{str(fetches[0])[:100]!r}{more}"

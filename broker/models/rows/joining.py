"""Whether requests of a signature are joined and split: decided when it is loaded, before it is measured."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from broker.models.model import LoadedModel, Run, why_not_uncalled
from broker.models.rows import independence
from broker.models.spec import OFF, ON

_log = logging.getLogger("onesession.models")

NOT_EXAMINED = 'tensors that a session names are not examined; with batching = "on" they are joined'


class Verdicts(Protocol):
    """Earlier results for this model, or for a copy of it."""

    def find(self, model: LoadedModel, name: str) -> str | None:
        """Why requests of this signature are kept apart; "" if they are not; None if unknown."""
        ...

    def save(self, model: LoadedModel, name: str, apart: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision. `apart` is the reason why requests are neither joined nor split; "" if they are. `examined`: it is
    the result of an examination, and so the broker checks it again while it serves."""

    apart: str
    examined: bool = False


def decide(model: LoadedModel, name: str, run: Run, warm: bool, verdicts: Verdicts | None) -> Decision:
    """Decide, by running the signature unless that may do harm or the result is known. Without `warm` it may not
    run."""
    known = _without_a_run(model, name)
    if known is not None:
        return known
    found = None if verdicts is None else verdicts.find(model, name)
    if found is None:
        if not warm or why_not_uncalled(model, name):
            found = "it is not warmed up, and so was not examined"
        else:
            found = _examined(model, name, run, verdicts)
    if found:
        _log_kept_apart(model, name, found)
    return Decision(found, examined=True)


def decide_ad_hoc(model: LoadedModel, effects: str, reason: str) -> Decision:
    """Decide for tensors that a session names: a run has these `effects`, and `reason` is another cause that forbids
    joining."""
    reason = reason or (f"it is stateful: it {effects}" if effects else "")
    if reason or model.spec.batching == OFF:
        return Decision(reason or "batching is off")
    return Decision("" if model.spec.batching == ON else NOT_EXAMINED)


def _without_a_run(model: LoadedModel, name: str) -> Decision | None:
    """The decision by the settings and by the model's own declaration; None if they leave it open."""
    spec = model.spec
    if spec.batching == OFF:
        return Decision("batching is off")
    reason = independence.structure(model.signatures[name])
    if not reason and model.effects[name]:
        reason = f"it is stateful: it {model.effects[name]}"
    if reason:
        return Decision(reason)
    if spec.batching == ON or getattr(model, "independent_rows", False):
        return Decision("")
    unexamined: str = getattr(model, "unexamined", "")
    if unexamined:
        _log_kept_apart(model, name, unexamined)
        return Decision(unexamined)
    return None


def _examined(model: LoadedModel, name: str, run: Run, verdicts: Verdicts | None) -> str:
    spec = model.spec
    examples = model.examples.get(name, ())
    try:
        verdict = independence.examine(run, model.signatures[name], spec.batch_limit, examples)
    except Exception as error:  # an error in the examination must not keep the model from being served
        _log.exception("model %r, signature %r cannot be examined", spec.name, name)
        verdict = independence.Verdict(f"its examination failed: {type(error).__name__}", lasting=False)
    if verdicts is not None and verdict.lasting:
        verdicts.save(model, name, verdict.apart)
    return verdict.apart


def _log_kept_apart(model: LoadedModel, name: str, reason: str) -> None:
    _log.info(
        "model %r, signature %r: requests are neither joined nor split: %s", model.spec.name, name, reason
    )

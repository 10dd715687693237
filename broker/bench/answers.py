"""Checks answers: they are compared with the answers of the same model, called alone and in process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worker_client.wire.errors import BrokerError

TOLERANCE = 1e-4
NARROW_TOLERANCE = 2e-2
"""Tolerance of types with fewer bits than float32. A row's last bits depend on its batch and on threads."""


ADVICE = "use --no-check if the answers are random or depend on the rest of the batch"


class WrongAnswer(BrokerError):
    """An arm did not give the model's answer, so that its times mean nothing."""


def check(
    expected: Mapping[str, np.ndarray],
    answer: Mapping[str, np.ndarray],
    tolerance: float,
    what: str,
    advice: str = ADVICE,
) -> None:
    """Numbers may differ by `tolerance` times the largest expected one (or 1); the rest must be equal.

    Raises WrongAnswer, which begins with `what` and ends with `advice`.
    """
    for name, wanted in expected.items():
        got = np.asarray(answer[name])
        if got.dtype != wanted.dtype or got.shape != wanted.shape:
            raise WrongAnswer(
                f"{what}: output {name!r} is {wanted.dtype.name}{list(wanted.shape)} when the model is called "
                f"directly, and came as {got.dtype.name}{list(got.shape)}"
            )
        _check_values(name, wanted, got, tolerance, what, advice)


def _check_values(
    name: str, wanted: np.ndarray, got: np.ndarray, tolerance: float, what: str, advice: str
) -> None:
    if wanted.dtype.kind in "OSUbiu":
        wrong = wanted != got
    else:
        narrow = wanted.dtype.kind == "V" or wanted.dtype.itemsize < np.dtype(np.float32).itemsize
        wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
        wanted, got = wanted.astype(wide), got.astype(wide)
        finite = np.abs(wanted[np.isfinite(wanted)])
        bound = max(tolerance, NARROW_TOLERANCE if narrow else 0) * max(1.0, finite.max(initial=0.0))
        wrong = ~np.isclose(wanted, got, rtol=0, atol=bound, equal_nan=True)
    if np.any(wrong):
        at = tuple(int(i) for i in np.argwhere(wrong)[0]) if np.ndim(wrong) else ()
        raise WrongAnswer(
            f"{what}: output {name!r} at {list(at)} is {wanted[at]} when the model is called directly, and came as "
            f"{got[at]} ({int(np.sum(wrong))} of {wanted.size} values differ by more than the tolerance "
            f"allows; {advice})"
        )

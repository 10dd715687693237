"""Supports signatures whose names share a tensor: TensorFlow refuses to feed a tensor twice, or to fetch a fed one.

Only TF1 can write such a signature: two inputs with the same placeholder, or an output that is an input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from broker.models.model import Run
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature


def aliased(bare: Run | None, signature: Signature, feeds: Sequence[str], fetches: Sequence[str]) -> Run:
    """A Run of the whole signature, made from a Run of its distinct tensors.

    `feeds` and `fetches` name the tensor behind each input and output. `bare` takes the distinct feeds and returns the
    distinct fetches that are not fed, each in order of first mention; None if all fetched tensors are fed. The Run
    raises InvalidInput if inputs with the same tensor differ.
    """
    first = {tensor: feeds.index(tensor) for tensor in feeds}
    twins = [(index, first[tensor]) for index, tensor in enumerate(feeds) if first[tensor] != index]
    computed = [tensor for tensor in dict.fromkeys(fetches) if tensor not in first]

    def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        for one, other in twins:
            if not _same(arrays[one], arrays[other]):
                raise _differing(signature, other, one)
        known = {tensor: arrays[index] for tensor, index in first.items()}
        if bare is not None:
            known.update(zip(computed, bare(*known.values()), strict=True))
        return [known[tensor] for tensor in fetches]

    return run


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal bit by bit, so that a NaN equals itself; strings are compared by content."""
    if one is other:
        return True
    if one.dtype.hasobject:
        return np.array_equal(one, other)
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def _differing(signature: Signature, one: int, other: int) -> InvalidInput:
    names = f"{signature.inputs[one].name!r} and {signature.inputs[other].name!r}"
    return InvalidInput(
        f"the inputs {names} of signature {signature.name!r} are one tensor of the model's graph: "
        "give both the same values"
    )

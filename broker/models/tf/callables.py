"""Makes a Run of a session's tensors: TensorFlow's own callable, called directly in the C layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broker.models.model import Run
from broker.models.tf.aliases import aliased
from broker.models.tf.conversions import fed_quantised, scalar_strings
from broker.models.tf.error_text import clean
from broker.models.tf.graph import GraphSignature
from broker.models.tf.runtime import config_pb2, pywrap_tf_session, tf
from worker_client.wire.errors import ModelFailed

CALLER_THREAD = -1
"""The value of `inter_op_thread_pool` that runs every op on the calling thread."""
POOL = 0
"""TensorFlow's default: the session's inter-op pool."""


def runner_of(
    session: Any, endpoint: GraphSignature, caller_thread: bool, targets: Sequence[str] = ()
) -> Run:
    """The endpoint as a Run: TensorFlow's own callable if every tensor is fed or fetched only once.

    `targets` are operations that also run.
    """
    feeds = tuple(dict.fromkeys(endpoint.feeds))
    fetches = tuple(name for name in dict.fromkeys(endpoint.fetches) if name not in feeds)
    bare = _bare(session, feeds, fetches, targets, caller_thread) if fetches or targets else None
    if bare is not None and feeds == endpoint.feeds and fetches == endpoint.fetches:
        return bare
    return aliased(bare, endpoint.signature, endpoint.feeds, endpoint.fetches)


def _bare(
    session: Any,
    feeds: Sequence[str],
    fetches: Sequence[str],
    targets: Sequence[str],
    caller_thread: bool,
) -> Run:
    options = config_pb2.CallableOptions(feed=feeds, fetch=fetches, target=targets)
    options.run_options.inter_op_thread_pool = CALLER_THREAD if caller_thread else POOL
    made = session._make_callable_from_options(options)  # noqa: SLF001 (no public way gives these options)
    # The same as `made(*arrays)`, without its layer of Python. `made` owns the handle and must live as long.
    run_callable = pywrap_tf_session.TF_SessionRunCallable
    c_session, handle = session._session, made._handle  # noqa: SLF001

    def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        try:
            return run_callable(c_session, handle, arrays, None)  # type: ignore[no-any-return]
        except Exception as error:
            raise _failed(made, error) from None

    by_name = session.graph.get_tensor_by_name
    run_for_arrays = scalar_strings(run, [by_name(fetch) for fetch in fetches])
    return fed_quantised(run_for_arrays, [by_name(feed).dtype for feed in feeds])


def _failed(made: Any, error: Exception) -> ModelFailed:
    del made  # named here so that the callable's owner lives as long as the function that uses its handle
    return ModelFailed(f"{type(error).__name__}: {text_of(error)}")


def text_of(error: Exception) -> str:
    return clean(error.message if isinstance(error, tf.errors.OpError) else str(error))

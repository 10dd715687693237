"""`client.session("m")` in place of a `tf.compat.v1.Session`: the graph's tensors by name, run by the broker.

fetches, feed_dict --names--> endpoint (requested from the broker once, then known by number) --> predict --> same form
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from worker_client.attachment.metadata import SignatureInfo
from worker_client.attachment.model_cache import Models
from worker_client.calls.fetches import WrongType, flatten, graph_name
from worker_client.model import Model
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import TensorSpec

if TYPE_CHECKING:
    from worker_client.connection import Connection

_REMEMBERED = 1024
_WRONG_FEED = "Cannot interpret feed_dict key as Tensor"
Names = tuple[str, ...]


class Session:
    """Runs any tensors of a served model's graph, as `tf.compat.v1.Session.run` does. Thread-safe, usable after fork.

    Tensors and operations are named as in the graph, "logits:0" and "init"; objects with such a name are accepted as
    well. At the first run of a set of feeds and fetches the broker makes a callable for it, which later runs refer to
    by number. A session can be copied and pickled like a model, and so can its callables if their fetches can. Unknown
    names raise InvalidInput with TensorFlow's message. A worker cannot feed or change variables for itself alone,
    because all workers share them.
    """

    def __init__(
        self, connection: Connection, model: str, timeout: float | None, priority: str, retries: int
    ) -> None:
        self._connection = connection
        self._model = model
        self._settings = timeout, priority, retries
        self._endpoints: dict[tuple[Names, Names], FeedsAndFetches] = {}

    def __reduce__(self) -> tuple[type[Session], tuple[Any, ...]]:
        return type(self), (self._connection, self._model, *self._settings)

    def __repr__(self) -> str:
        return f"<Session of model {self._model!r} at {self._connection.path}>"

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: None = None,
        run_metadata: None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """The values of `fetches`, in the same form as `fetches`: ndarrays, numpy scalars, None for operations.

        Raises InvalidInput (a ValueError; also a TypeError where TensorFlow raises one), and the errors of
        `Model.predict`.
        """
        _check_unsupported(options=options, run_metadata=run_metadata)
        names, build = flatten(fetches)
        feeds = _flat_feeds(feed_dict or {})
        endpoint = self.endpoint(tuple(feeds), names)
        return build(endpoint.run(list(feeds.values()), timeout))

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function that takes the values of `feed_list` by position and returns the values of `fetches`."""
        _check_unsupported(accept_options=accept_options or None)
        return _Callable(self, fetches, tuple([_feed_name(key) for key in feed_list or ()]))

    def close(self) -> None:
        """Does nothing: the session belongs to the broker."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def endpoint(self, feeds: Names, fetches: Names) -> FeedsAndFetches:
        """The endpoint that runs this set of feeds and fetches."""
        key = feeds, fetches
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            if len(self._endpoints) >= _REMEMBERED:
                self._endpoints.clear()
            endpoint = FeedsAndFetches(self._connection, self._model, *self._settings, feeds, fetches)
            self._endpoints[key] = endpoint
        return endpoint


class FeedsAndFetches(Model):
    """A set of feeds and fetches: a signature that was not exported with the model."""

    def __init__(
        self,
        connection: Connection,
        model: str,
        timeout: float | None,
        priority: str,
        retries: int,
        feeds: Names,
        fetches: Names,
    ) -> None:
        super().__init__(connection, model, None, None, timeout, priority, retries)
        self._feeds = feeds
        self._fetches = fetches

    @property
    def options(self) -> tuple[Any, ...]:
        return self.name, self._given_timeout, self.priority, self.retries, self._feeds, self._fetches

    def run(self, values: Sequence[Any], timeout: float | None) -> list[Any]:
        """The values of the fetches; None for each operation."""
        arrays = [_as_fed(self.name, spec, value) for spec, value in zip(self.signature.inputs, values)]
        outputs = self.predict(dict(zip(self._feeds, arrays)), timeout=timeout)
        return [_as_fetched(outputs.get(name)) for name in self._fetches]

    def models_changed(self, before: Models, now: Models) -> None:
        """Bind again only if the version has changed, because binding asks the broker."""
        old, new = before.get(self.name), now.get(self.name)
        if old is None or new is None or old.version != new.version:
            self.unbind()

    def _signature_info(self, deadline_ns: int) -> tuple[int, SignatureInfo]:
        version = self._info(deadline_ns).called(None).version
        try:
            return version, self._connection.ad_hoc(self.name, self._feeds, self._fetches, deadline_ns)
        except InvalidInput as error:
            if str(error).startswith(_WRONG_FEED):
                raise WrongType(str(error)) from None
            raise


class _Callable:
    def __init__(self, session: Session, fetches: Any, feeds: Names) -> None:
        self._value = session, fetches, feeds
        names, self._build = flatten(fetches)
        self._endpoint = session.endpoint(feeds, names)

    def __reduce__(self) -> tuple[type[_Callable], tuple[Any, ...]]:
        return type(self), self._value

    def __call__(self, *values: Any, timeout: float | None = None) -> Any:
        wanted = len(self._endpoint.signature.inputs)
        if len(values) != wanted:
            raise InvalidInput(
                f"the callable takes {wanted} values, one for each of its feed_list, got {len(values)}"
            )
        return self._build(self._endpoint.run(values, timeout))


def _flat_feeds(feed_dict: Mapping[Any, Any]) -> dict[str, Any]:
    """{name: value}. A key may be a tuple of tensors; its value is then a sequence of the same length."""
    feeds: dict[str, Any] = {}
    for key, value in feed_dict.items():
        keys, values = (key, value) if isinstance(key, tuple) else ((key,), (value,))
        if len(keys) != len(values):
            raise InvalidInput(f"the feed {key!r} expects {len(keys)} values, got {len(values)}")
        for each, its in zip(keys, values):
            feeds[_feed_name(each)] = its
    return feeds


def _feed_name(key: Any) -> str:
    name = graph_name(key)
    if name is None:
        raise WrongType(f"{_WRONG_FEED}: Can not convert a {type(key).__name__} into a Tensor.")
    return name


def _as_fed(model: str, spec: TensorSpec, value: Any) -> np.ndarray:
    """Convert `value` to the tensor's own dtype, as TensorFlow converts feeds."""
    if type(value) is np.ndarray and value.dtype == spec.dtype:
        return value
    try:
        return np.asarray(value, dtype=spec.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongType(
            f"model {model!r}: tensor {spec.name!r} expects {spec}; the {type(value).__name__} given cannot be fed: "
            f"{error}"
        ) from None


def _as_fetched(value: np.ndarray | None) -> Any:
    return value[()] if value is not None and value.ndim == 0 else value


def _check_unsupported(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise InvalidInput(f"{name} is supported only by TensorFlow, not by the broker; leave it out")

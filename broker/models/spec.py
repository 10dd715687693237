"""Which model to serve and how: what a user writes on the command line, in the configuration or in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from broker.models import spec_values as given
from broker.models.unknown_name import check_names
from broker.models.version_policy import LATEST, WHAT_A_POLICY_IS, Policy
from worker_client.wire.errors import InvalidInput

DEFAULT_MAX_BATCH_SIZE = 64
DEFAULT_MAX_QUEUE_ROWS = 4096
DEFAULT_MAX_QUEUE_BYTES = 256 << 20
MAX_DELAY_SECONDS = 10.0
AUTO, ON, OFF = "auto", "on", "off"
DEFAULT_TAGS = ("serve",)

_INT32, _INT64 = (1 << 31) - 1, (1 << 63) - 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to serve.

    `source` is the path of a SavedModel directory, of a directory of numbered versions, of a Keras file (.keras, .h5)
    or of a frozen graph (.pb), a handle of TensorFlow Hub that is in its cache, or `module:function` for a Python
    callable (write a relative path with a colon in it as `./odd:name`). Raises InvalidInput, which names the field and
    what it takes.

    How it is opened: `tags` select the MetaGraph inside a SavedModel. `inputs` and `outputs` map names to tensors of
    the graph (`{"x": "input:0"}` or `["x=input:0"]`), for a frozen graph and a session, which have no signature.
    `imports` are Python modules that it needs, `op_libraries` shared libraries with ops for TensorFlow. `warmup` is an
    .npz file with an example for each input; False runs nothing before the first call, neither to warm up nor to
    measure.

    How it is batched: `max_batch_size` bounds the rows of one run; a larger request is split over several. None
    leaves it to the broker, which takes what it measured to pay, else 64. `max_delay` in seconds is how long a request
    may wait for others to join it: 0 for what waits anyway, "auto" to learn from the traffic what pays.
    `allowed_batch_sizes` are the only sizes run; batches are padded up to the next with copies of their first row.
    `pad_variable_length` joins requests whose other free dimensions differ, padded at their end with `pad_value`.
    `batching` "auto" joins and splits requests where the broker has found that the model's rows are independent; "on"
    does so unexamined, "off" runs every request by itself. True and False stand for "on" and "off".

    Where it is run: `inline` "auto" lets the broker run it on the thread that takes all requests while its runs are
    short, and on threads of its own otherwise; False keeps it off that thread always, so that it delays no other model.

    How it is run: `intra_op_threads` of one run, `max_concurrency` runs side by side, on the `caller_thread` or in
    TensorFlow's pool, which has `inter_op_threads`. None leaves each to the broker. `xla` compiles what XLA can take.
    `gpu_memory_growth` takes memory of a GPU as it is needed, `gpu_memory_fraction` so much of it at most; both hold
    for the process, so all models must agree. `session_config` is a ConfigProto (a table or its text format) merged
    over everything else.

    What sessions may: `client.session` runs what computes; with `session_effects` also what saves, restores, assigns,
    writes tables, moves on queues, reads files or calls Python, for every worker that may run sessions.

    Which versions: of a directory of numbered versions `versions` are served: "latest", "latest:2" for the latest two,
    "all", or their numbers. `labels` are names for versions, `{"stable": 1, "canary": 2}`, which are served as well. A
    new version is loaded before the one that it replaces is unloaded; with `unload_first` after it, for models that
    fill the memory: calls wait meanwhile.

    How much waits: requests past `max_queue_rows` or `max_queue_bytes` are held back until there is room, or fail with
    Overloaded at their deadline. `timeout` in seconds is the default deadline of calls whose client sets none.

    How long a run may take: past `max_run_seconds` its calls get ModelFailed and the run is ended, with the broker's
    process if nothing less ends it, which is then replaced. None takes a hundred times what the largest batch took when
    it was measured, and at least 60 s; 0 sets no limit.
    """

    name: str
    source: str
    max_batch_size: int | None = None
    batching: str | bool = AUTO
    max_delay: float | str = 0.0
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length: bool = False
    pad_value: float = 0.0
    intra_op_threads: int | None = None
    max_concurrency: int | None = None
    caller_thread: bool | None = None
    inline: str | Literal[False] = AUTO
    max_queue_rows: int = DEFAULT_MAX_QUEUE_ROWS
    max_queue_bytes: int = DEFAULT_MAX_QUEUE_BYTES
    timeout: float | None = None
    max_run_seconds: float | None = None
    tags: tuple[str, ...] = DEFAULT_TAGS
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    op_libraries: tuple[str, ...] = ()
    warmup: str | Literal[False] | None = None
    inter_op_threads: int | None = None
    xla: bool = False
    gpu_memory_growth: bool = True
    gpu_memory_fraction: float | None = None
    session_config: str | Mapping[str, Any] | None = None
    versions: str | int | tuple[int, ...] = LATEST
    labels: Mapping[str, int] = field(default_factory=dict)
    unload_first: bool = False
    session_effects: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "source", _source(self.name, self.source))
        for setting in ("max_batch_size", "intra_op_threads", "inter_op_threads", "max_concurrency"):
            if getattr(self, setting) is not None:
                _check_count(self.name, setting, getattr(self, setting))
        for setting in ("max_queue_rows", "max_queue_bytes"):
            _check_count(self.name, setting, getattr(self, setting), _INT64)
        for setting in ("pad_variable_length", "xla", "gpu_memory_growth", "session_effects"):
            if not isinstance(getattr(self, setting), bool):
                raise _wrong(self.name, setting, getattr(self, setting), "True or False")
        object.__setattr__(self, "batching", _batching(self.name, self.batching))
        if self.caller_thread is not None and not isinstance(self.caller_thread, bool):
            raise _wrong(self.name, "caller_thread", self.caller_thread, "True, False or None")
        if self.inline is not False and self.inline != AUTO:
            raise _wrong(self.name, "inline", self.inline, '"auto" or False')
        if self.max_delay != AUTO:
            _check_seconds(self.name, "max_delay", self.max_delay, 0, MAX_DELAY_SECONDS, f"or {AUTO!r}")
        _check_seconds_or_none(self.name, "timeout", self.timeout, 1e-6, 1e9)
        _check_seconds_or_none(self.name, "max_run_seconds", self.max_run_seconds, 0, 1e6)
        if isinstance(self.pad_value, bool) or not isinstance(self.pad_value, (int, float)):
            raise _wrong(self.name, "pad_value", self.pad_value, "a number")
        object.__setattr__(self, "allowed_batch_sizes", self._allowed_batch_sizes())
        object.__setattr__(self, "tags", _tags(self.name, self.tags))
        self._check_how_it_is_opened()
        self._check_versions()

    def _check_versions(self) -> None:
        try:
            object.__setattr__(self, "versions", Policy.of(self.versions).to_value())
        except ValueError:
            raise _wrong(self.name, "versions", self.versions, WHAT_A_POLICY_IS) from None
        if not isinstance(self.unload_first, bool):
            raise _wrong(self.name, "unload_first", self.unload_first, "True or False")
        labels: Any = self.labels
        if not isinstance(labels, Mapping) or not all(is_label(*item) for item in labels.items()):
            raise _wrong(
                self.name, "labels", labels, "numbers of versions by name, such as {'stable': 1, 'canary': 2}"
            )
        object.__setattr__(self, "labels", dict(labels))

    def _check_how_it_is_opened(self) -> None:
        for setting in ("inputs", "outputs"):
            tensors = given.tensor_names(getattr(self, setting))
            if tensors is None:
                raise _wrong(
                    self.name, setting, getattr(self, setting), "tensors by name, such as ['x=input:0']"
                )
            object.__setattr__(self, setting, tensors)
        for setting, example in (("imports", "tensorflow_text"), ("op_libraries", "./my_ops.so")):
            listed = given.texts(getattr(self, setting))
            if listed is None:
                raise _wrong(self.name, setting, getattr(self, setting), f"a list such as [{example!r}]")
            object.__setattr__(self, setting, listed)
        warmup: Any = self.warmup
        if warmup is not None and warmup is not False:
            if not isinstance(warmup, (str, os.PathLike)):
                raise _wrong(self.name, "warmup", warmup, "the path of an .npz file, or False for no warm-up")
            object.__setattr__(self, "warmup", os.fspath(warmup))
        fraction: Any = self.gpu_memory_fraction
        if fraction is not None and (
            isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction <= 1
        ):
            raise _wrong(self.name, "gpu_memory_fraction", fraction, "a number above 0 and at most 1")
        config: Any = self.session_config
        if config is not None and not isinstance(config, (str, Mapping)):
            raise _wrong(self.name, "session_config", config, "a ConfigProto as a table or in text format")

    def _allowed_batch_sizes(self) -> tuple[int, ...]:
        sizes: Any = self.allowed_batch_sizes
        if not isinstance(sizes, Iterable) or isinstance(sizes, (str, Mapping)):
            raise _wrong(
                self.name, "allowed_batch_sizes", sizes, "a list of whole numbers such as [1, 8, 32]"
            )
        taken = tuple(sizes)
        for size in taken:
            _check_count(self.name, "each of allowed_batch_sizes", size)
        if list(taken) != sorted(set(taken)):
            raise _wrong(self.name, "allowed_batch_sizes", list(taken), "in ascending order, each once")
        if taken and self.max_batch_size not in (None, taken[-1]):
            raise InvalidInput(
                f"model {self.name!r}: the last of allowed_batch_sizes ({taken[-1]}) must be max_batch_size "
                f"({self.max_batch_size}); leave max_batch_size out, or add it to the list"
            )
        return taken

    @property
    def batch_limit(self) -> int:
        """Rows of one run, where no measurement says less."""
        if self.allowed_batch_sizes:
            return self.allowed_batch_sizes[-1]
        return self.max_batch_size or DEFAULT_MAX_BATCH_SIZE

    @property
    def is_function(self) -> bool:
        """True if `source` reads as `module:function`, whatever lies on disk."""
        return _FUNCTION.fullmatch(self.source) is not None

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """The model in `name=source`, as `--model` takes it: `digits=models/digits`."""
        name, separator, source = text.partition("=")
        if not separator or not name or not source:
            raise InvalidInput(
                f"model {text!r} is not of the form NAME=SOURCE; write --model digits=models/digits for a "
                "SavedModel directory, or --model digits=package.module:function for a Python callable"
            )
        return cls(name, source)

    @classmethod
    def coerce(cls, name: str, value: Any) -> ModelSpec:
        """The model of `{name: value}`; value is a path, a source, a ModelSpec, or a dict of its fields."""
        if isinstance(value, ModelSpec):
            return replace(value, name=name)
        if isinstance(value, (str, os.PathLike)):
            return cls(name, os.fspath(value))
        if isinstance(value, Mapping):
            return _from_mapping(name, value)
        raise InvalidInput(
            f"model {name!r}: expected a path, 'module:function', a dict with a 'source' or a ModelSpec, "
            f"got {type(value).__name__} {value!r}"
        )

    @classmethod
    def coerce_all(cls, models: Any) -> list[ModelSpec]:
        """The models of `Broker(models=...)`, a dict or ModelSpecs, in their order. Raises InvalidInput."""
        if isinstance(models, Mapping):
            return [cls.coerce(name, value) for name, value in models.items()]
        specs: list[Any] = list(models) if isinstance(models, Iterable) else [models]
        if not all(isinstance(spec, ModelSpec) for spec in specs):
            raise InvalidInput(
                f"models must be a dict of names and sources, got {models!r}; write "
                'models={"digits": "models/digits"}'
            )
        check_distinct(specs)
        return specs


def check_distinct(specs: Iterable[ModelSpec]) -> None:
    """Raises InvalidInput if two models share a name."""
    seen: dict[str, ModelSpec] = {}
    for spec in specs:
        other = seen.setdefault(spec.name, spec)
        if other is not spec:
            raise InvalidInput(
                f"two models are called {spec.name!r} ({other.source!r} and {spec.source!r}); "
                "give each a name of its own"
            )


def check_one_gpu_policy(specs: Iterable[ModelSpec]) -> None:
    """Raises InvalidInput if models want different things of what TensorFlow has once in a process: a GPU's memory."""
    first: ModelSpec | None = None
    for spec in specs:
        if spec.is_function:
            continue
        first = first or spec
        for setting in ("gpu_memory_growth", "gpu_memory_fraction"):
            one, other = getattr(first, setting), getattr(spec, setting)
            if one != other:
                raise InvalidInput(
                    f"{setting} holds for the whole process: models {first.name!r} and {spec.name!r} cannot have "
                    f"{one!r} and {other!r}; set it for all of them, as in --set '*.gpu_memory_fraction=0.5'"
                )


def _from_mapping(name: str, value: Mapping[str, Any]) -> ModelSpec:
    known = [field.name for field in fields(ModelSpec) if field.name != "name"]
    check_names(f"model {name!r}", value, known)
    if "source" not in value:
        raise InvalidInput(
            f"model {name!r} has no 'source'; give the path of a SavedModel directory or 'module:function'"
        )
    return ModelSpec(name, **value)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name!r} is no model name; use letters, digits, '_', '-' and '.', not starting with '-' or '.'"
        )


def is_label(label: Any, number: Any) -> bool:
    """A label that is all digits would pass for a version."""
    if not isinstance(label, str) or _NAME.fullmatch(label) is None or label.isdecimal():
        return False
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _source(name: str, source: Any) -> str:
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str) or not source.strip():
        raise _wrong(name, "source", source, "the path of a model or 'module:function'")
    return source


def _check_count(name: str, setting: str, value: Any, most: int = _INT32) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, setting, value, "a whole number of at least 1")
    if value > most:
        raise _wrong(name, setting, value, f"at most {most:,}")


def _check_seconds(name: str, setting: str, value: Any, least: float, most: float, other: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise _wrong(name, setting, value, f"seconds from {least:g} to {most:g} {other}")


def _batching(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return ON if value else OFF
    if value not in (AUTO, ON, OFF):
        raise _wrong(name, "batching", value, '"auto", "on" or "off"')
    return str(value)


def _check_seconds_or_none(name: str, setting: str, value: Any, least: float, most: float) -> None:
    if value is not None:
        _check_seconds(name, setting, value, least, most, "or None")


def _tags(name: str, tags: Any) -> tuple[str, ...]:
    if not isinstance(tags, Iterable) or isinstance(tags, (str, Mapping)):
        raise _wrong(name, "tags", tags, "a list of tags such as ('serve',)")
    taken = tuple(tags)
    if not all(isinstance(tag, str) for tag in taken):
        raise _wrong(name, "tags", tags, "a list of tags such as ('serve',)")
    return taken


def _wrong(name: str, setting: str, value: Any, expected: str) -> InvalidInput:
    return InvalidInput(f"model {name!r}: {setting} must be {expected}, got {value!r}")

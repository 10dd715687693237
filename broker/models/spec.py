"""The settings of one model, as a user writes them on the command line, in the configuration or in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from broker.models import setting_field as takes
from broker.models import spec_values as given
from broker.models.setting_field import setting
from broker.models.unknown_name import check_names
from broker.models.version_policy import LATEST, WHAT_A_POLICY_IS, Policy
from worker_client.wire.errors import InvalidInput

DEFAULT_MAX_BATCH_SIZE = 64
DEFAULT_MAX_QUEUE_ROWS = 4096
DEFAULT_MAX_QUEUE_BYTES = 256 << 20
MAX_DELAY_SECONDS = 10.0
AUTO, ON, OFF = "auto", "on", "off"
DEFAULT_TAGS = ("serve",)

_INT64 = (1 << 63) - 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_label(label: Any, number: Any) -> bool:
    """Whether it is a valid label: one of digits only would look like a version."""
    if not isinstance(label, str) or _NAME.fullmatch(label) is None or label.isdecimal():
        return False
    return takes.is_whole(number) and number >= 0


def _labels(value: Any) -> dict[str, int] | None:
    right = isinstance(value, Mapping) and all(is_label(*item) for item in value.items())
    return dict(value) if right else None


def _sizes(name: str, value: Any, of: Any) -> tuple[int, ...]:
    sizes: tuple[int, ...] = takes.listed("a list of integers such as [1, 8, 32]", takes.count())(
        name, value, of
    )
    if list(sizes) != sorted(set(sizes)):
        raise takes.wrong(name, "in ascending order, each once", list(sizes))
    if sizes and of.max_batch_size not in (None, sizes[-1]):
        raise InvalidInput(
            f"the last of {name} ({sizes[-1]}) must be max_batch_size ({of.max_batch_size}); leave "
            "max_batch_size "
            "out, or add it to the list"
        )
    return sizes


_TENSORS = takes.form("a mapping of names to tensors, such as ['x=input:0']", given.tensor_names)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to serve.

    `source` is the path of a SavedModel directory, of a directory of numbered versions, of a Keras file (.keras, .h5),
    of a frozen graph (.pb) or of a LiteRT file (.tflite); or a TensorFlow Hub handle that is in its cache; or
    `module:function` for a Python callable (write a relative path that contains a colon as `./odd:name`). Raises
    InvalidInput, which names the field and the values that it takes.

    How it is opened: `tags` select the MetaGraph inside a SavedModel. `inputs` and `outputs` map names to tensors of
    the graph (`{"x": "input:0"}` or `["x=input:0"]`), for a frozen graph and a session, which have no signature.
    `imports` lists Python modules that the model needs, `op_libraries` shared libraries with TensorFlow ops. `warmup`
    is an .npz file with an example for each input; with False, nothing runs before the first call, neither to warm up
    nor to measure.

    How it is batched: `max_batch_size` bounds the rows of one run; a larger request is split over several runs.
    With None the broker uses the best size that it measured, else 64. `max_delay` in seconds is how long a request may
    wait for others to join it: with 0 it is joined only with requests that wait already, "auto" learns from the traffic
    what pays. `allowed_batch_sizes` are the only sizes that run; batches are padded up to the next one with copies of
    their first row. `pad_variable_length` joins requests whose other free dimensions differ, padded at the end with
    `pad_value`. `batching` "auto" joins and splits requests if the broker found that the model's rows are independent;
    "on" does so without that test, "off" runs every request by itself. True and False stand for "on" and "off".

    Where it runs: with `inline` "auto" the model runs on the thread that takes all requests while its runs are short,
    and on threads of its own otherwise; with False it never runs on that thread, so that it delays no other model.

    How it runs: one run uses `intra_op_threads`, and up to `max_concurrency` runs go on at the same time, on the
    calling thread if `caller_thread` is true, else in TensorFlow's pool of `inter_op_threads`. None leaves the choice
    to the broker. `xla` compiles what XLA can compile. With `gpu_memory_growth` GPU memory is taken as it is needed;
    `gpu_memory_fraction` limits its share. Both apply to the whole process, so all models must agree. `session_config`
    is a ConfigProto (a table or its text format) that overrides all other settings.

    What sessions may run: `client.session` runs ops that only compute. With `session_effects` it also runs ops that
    save, restore, assign, write tables, advance queues, read files or call Python, for every worker that may run
    sessions.

    Which versions: `versions` selects which of a directory of numbered versions are served: "latest", "latest:2" for
    the latest two, "all", or a list of numbers. `labels` are names for versions, `{"stable": 1, "canary": 2}`; labelled
    versions are served too. A new version is loaded before the one that it replaces is unloaded; `unload_first`
    reverses that order, for models of which two do not fit into memory. Calls wait meanwhile.

    How much may wait: requests beyond `max_queue_rows` or `max_queue_bytes` are held back until there is room, and
    fail with Overloaded at their deadline. `timeout` in seconds is the default timeout of calls whose client sets none.

    How long a run may take: a run that exceeds `max_run_seconds` is ended and its calls get ModelFailed. If nothing
    less ends it, the broker's process is ended and replaced. None means a hundred times what the largest batch took
    when it was measured, and at least 60 s; 0 sets no limit.
    """

    name: str
    source: str = field(
        metadata={"check": takes.form("the path of a model or 'module:function'", given.path)}
    )
    max_batch_size: int | None = setting(None, takes.count())
    batching: str | bool = setting(AUTO, takes.form('"auto", "on" or "off"', given.batching))
    max_delay: float | str = setting(0.0, takes.seconds(0, MAX_DELAY_SECONDS, AUTO))
    allowed_batch_sizes: tuple[int, ...] = setting((), _sizes)
    pad_variable_length: bool = setting(False, takes.FLAG)
    pad_value: float = setting(0.0, takes.only("a number", takes.is_number))
    intra_op_threads: int | None = setting(None, takes.count())
    max_concurrency: int | None = setting(None, takes.count())
    caller_thread: bool | None = setting(
        None, takes.only("True, False or None", lambda value: isinstance(value, bool))
    )
    inline: str | Literal[False] = setting(
        AUTO, takes.only('"auto" or False', lambda value: value is False or value == AUTO)
    )
    max_queue_rows: int = setting(DEFAULT_MAX_QUEUE_ROWS, takes.count(_INT64))
    max_queue_bytes: int = setting(DEFAULT_MAX_QUEUE_BYTES, takes.count(_INT64))
    timeout: float | None = setting(None, takes.seconds(1e-6, 1e9))
    max_run_seconds: float | None = setting(None, takes.seconds(0, 1e6))
    tags: tuple[str, ...] = setting(
        DEFAULT_TAGS,
        takes.form(
            "a list of tags such as ('serve',)",
            lambda tags: None if isinstance(tags, str) else given.texts(tags),
        ),
    )
    inputs: tuple[str, ...] = setting((), _TENSORS)
    outputs: tuple[str, ...] = setting((), _TENSORS)
    imports: tuple[str, ...] = setting((), takes.form("a list such as ['tensorflow_text']", given.texts))
    op_libraries: tuple[str, ...] = setting((), takes.form("a list such as ['./my_ops.so']", given.texts))
    warmup: str | Literal[False] | None = setting(
        None,
        takes.form(
            "the path of an .npz file, or False for no warm-up",
            lambda value: value is not False and given.path(value),
        ),
    )
    inter_op_threads: int | None = setting(None, takes.count())
    xla: bool = setting(False, takes.FLAG)
    gpu_memory_growth: bool = setting(True, takes.FLAG)
    gpu_memory_fraction: float | None = setting(
        None,
        takes.only("a number above 0 and at most 1", lambda value: takes.is_number(value) and 0 < value <= 1),
    )
    session_config: str | Mapping[str, Any] | None = setting(
        None,
        takes.only(
            "a ConfigProto as a table or in text format", lambda value: isinstance(value, (str, Mapping))
        ),
    )
    versions: str | int | tuple[int, ...] = setting(
        LATEST, takes.form(WHAT_A_POLICY_IS, lambda value: Policy.of(value).to_value())
    )
    labels: Mapping[str, int] = setting(
        dict, takes.form("a mapping of names to version numbers, such as {'stable': 1, 'canary': 2}", _labels)
    )
    unload_first: bool = setting(False, takes.FLAG)
    session_effects: bool = setting(False, takes.FLAG)

    def __post_init__(self) -> None:
        _check_name(self.name)
        takes.check_settings(self, f"model {self.name!r}: ")

    @property
    def batch_limit(self) -> int:
        """Maximum rows of one run, unless a measurement gives fewer."""
        if self.allowed_batch_sizes:
            return self.allowed_batch_sizes[-1]
        return self.max_batch_size or DEFAULT_MAX_BATCH_SIZE

    @property
    def is_function(self) -> bool:
        """True if `source` reads as `module:function`, whatever exists on disk."""
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
            f"got {type(value).__name__} {value!r}{_instead(name, value)}"
        )

    @classmethod
    def coerce_all(cls, models: Any) -> list[ModelSpec]:
        """The models of `Broker(models=...)`, a dict or ModelSpecs, in their order. Raises InvalidInput."""
        if isinstance(models, Mapping):
            return [cls.coerce(name, value) for name, value in models.items()]
        specs: list[Any] = list(models) if isinstance(models, Iterable) else [models]
        if not all(isinstance(spec, ModelSpec) for spec in specs):
            raise InvalidInput(
                f"models must be a dict of name: source, got {models!r}; write "
                'models={"digits": "models/digits"}'
            )
        check_distinct(specs)
        return specs


def _instead(name: str, value: Any) -> str:
    """What to write instead if a broker in a separate process got a function of this process."""
    path = getattr(value, "__qualname__", "")
    source = f"{getattr(value, '__module__', None)}:{path}"
    return f"; write models={{{name!r}: {source!r}}}" if path and _FUNCTION.fullmatch(source) else ""


def check_distinct(specs: Iterable[ModelSpec]) -> None:
    """Raises InvalidInput if two models share a name."""
    seen: dict[str, ModelSpec] = {}
    for spec in specs:
        other = seen.setdefault(spec.name, spec)
        if other is not spec:
            raise InvalidInput(
                f"two models are called {spec.name!r} ({other.source!r} and {spec.source!r}); "
                "give each its own name"
            )


def check_one_gpu_policy(specs: Iterable[ModelSpec]) -> None:
    """Raises InvalidInput if models disagree about GPU memory, for which TensorFlow has one policy per process."""
    first: ModelSpec | None = None
    for spec in specs:
        if spec.is_function:
            continue
        first = first or spec
        for name in ("gpu_memory_growth", "gpu_memory_fraction"):
            one, other = getattr(first, name), getattr(spec, name)
            if one != other:
                raise InvalidInput(
                    f"{name} holds for the whole process: models {first.name!r} and {spec.name!r} cannot "
                    "have "
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
            f"{name!r} is not a model name; use letters, digits, '_', '-' and '.', and do not start with "
            "'-' or '.'"
        )

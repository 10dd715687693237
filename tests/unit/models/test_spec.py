"""The forms in which a user may specify a model, and the errors for other forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.models.spec import ModelSpec, check_distinct
from worker_client.wire.errors import InvalidInput


def test_the_command_line_form():
    """NAME=SOURCE gives a model with every setting at its default."""
    spec = ModelSpec.parse("digits=models/digits")
    assert spec == ModelSpec("digits", "models/digits")
    assert (spec.batch_limit, spec.batching, spec.max_delay, spec.tags) == (64, "auto", 0.0, ("serve",))


def test_a_source_may_hold_an_equals_sign():
    """Only the first = divides."""
    assert ModelSpec.parse("a=runs/lr=0.1/export").source == "runs/lr=0.1/export"


@pytest.mark.parametrize("text", ["digits", "=models/digits", "digits=", ""])
def test_what_is_not_of_that_form(text):
    """The error shows both forms."""
    with pytest.raises(
        InvalidInput, match=r"--model digits=models/digits for .* --model digits=package\.module:function"
    ):
        ModelSpec.parse(text)


@pytest.mark.parametrize(
    "value",
    [
        "models/digits",
        Path("models/digits"),
        ModelSpec("other", "models/digits"),
        {"source": "models/digits"},
        {"source": Path("models/digits")},
    ],
)
def test_the_python_forms(value):
    """A path, a dict and a ModelSpec mean the same; the key names the model."""
    assert ModelSpec.coerce("digits", value) == ModelSpec("digits", "models/digits")


def test_a_dict_carries_settings():
    """Each field of a ModelSpec is a setting; lists from TOML and JSON become tuples."""
    spec = ModelSpec.coerce(
        "m", {"source": "p", "allowed_batch_sizes": [2, 8], "batching": False, "tags": ["serve", "gpu"]}
    )
    assert spec == ModelSpec("m", "p", None, False, allowed_batch_sizes=(2, 8), tags=("serve", "gpu"))
    assert spec.batch_limit == 8


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "model 'm': expected a path, .* got int 7"),
        ({}, "model 'm' has no 'source'"),
        (
            {"source": "p", "batchsize": 1},
            r"model 'm' has no setting 'batchsize'; did you mean 'max_batch_size'\?",
        ),
        ({"source": ""}, "source must be the path of a model or 'module:function', got ''"),
        ({"source": 3}, "source must be .* got 3"),
        ({"source": "p", "max_delay": -1}, "max_delay must be seconds from 0 to 10 or 'auto', got -1"),
        (
            {"source": "p", "max_delay": "long"},
            "max_delay must be seconds from 0 to 10 or 'auto', got 'long'",
        ),
        ({"source": "p", "allowed_batch_sizes": 8}, "allowed_batch_sizes must be a list of integers"),
        ({"source": "p", "allowed_batch_sizes": [0]}, "each of allowed_batch_sizes must be an integer"),
        ({"source": "p", "allowed_batch_sizes": [8, 2]}, "allowed_batch_sizes must be in ascending order"),
        (
            {"source": "p", "allowed_batch_sizes": [2, 8], "max_batch_size": 16},
            r"the last of allowed_batch_sizes \(8\) must be max_batch_size \(16\); leave max_batch_size out",
        ),
        ({"source": "p", "pad_value": "0"}, "pad_value must be a number, got '0'"),
        ({"source": "p", "pad_variable_length": 1}, "pad_variable_length must be True or False, got 1"),
        ({"source": "p", "inline": True}, 'inline must be "auto" or False, got True'),
        ({"source": "p", "inline": 0}, 'inline must be "auto" or False, got 0'),
        ({"source": "p", "caller_thread": "no"}, "caller_thread must be True, False or None, got 'no'"),
        ({"source": "p", "max_queue_rows": 0}, "max_queue_rows must be an integer >= 1"),
        ({"source": "p", "timeout": 0}, "timeout must be seconds from 1e-06 to 1e[+]09 or None, got 0"),
        ({"source": "p", "max_batch_size": 0}, "max_batch_size must be an integer >= 1, got 0"),
        (
            {"source": "p", "max_batch_size": True},
            "max_batch_size must be an integer >= 1, got True",
        ),
        ({"source": "p", "max_batch_size": "8"}, "max_batch_size must be .* got '8'"),
        ({"source": "p", "batching": "no"}, 'batching must be "auto", "on" or "off", got \'no\''),
        (
            {"source": "p", "intra_op_threads": 0},
            "intra_op_threads must be an integer >= 1, got 0",
        ),
        (
            {"source": "p", "inputs": 3},
            "inputs must be a mapping of names to tensors, such as .'x=input:0'., got 3",
        ),
        ({"source": "p", "outputs": ["y=a", "y=b"]}, "outputs must be a mapping of names to tensors"),
        ({"source": "p", "outputs": {"y": 1}}, "outputs must be a mapping of names to tensors"),
        ({"source": "p", "imports": [1]}, "imports must be a list such as .'tensorflow_text'., got .1."),
        ({"source": "p", "op_libraries": ""}, "op_libraries must be a list such as"),
        ({"source": "p", "warmup": 3}, "warmup must be the path of an .npz file, or False for no .* got 3"),
        ({"source": "p", "warmup": True}, "warmup must be the path of an .npz file, or False .* got True"),
        ({"source": "p", "warmup": 0}, "warmup must be the path of an .npz file, or False for no .* got 0"),
        ({"source": "p", "inter_op_threads": 0}, "inter_op_threads must be an integer >= 1"),
        ({"source": "p", "xla": "on"}, "xla must be True or False, got 'on'"),
        ({"source": "p", "gpu_memory_fraction": 2}, "gpu_memory_fraction must be a number above 0 and at"),
        ({"source": "p", "session_config": 3}, "session_config must be a ConfigProto as a table or in text"),
        ({"source": "p", "tags": "serve"}, "tags must be a list of tags such as"),
        ({"source": "p", "tags": [1]}, "tags must be a list of tags such as"),
        ({"source": "p", "tags": None}, "tags must be a list of tags such as"),
    ],
)
def test_a_wrong_value_is_told(value, message):
    """The error names the model, the setting, what it takes and what came."""
    with pytest.raises(InvalidInput, match=message):
        ModelSpec.coerce("m", value)


@pytest.mark.parametrize(
    "given",
    [{"x": "in/x", "y": "y:1"}, ["x=in/x", "y=y:1"], ["in/x:0", "y:1"], ("in/x", "y:1")],
    ids=["mapping", "texts", "tensors", "operations"],
)
def test_names_of_tensors(given):
    """However they are written, they come to one form; a tensor without a name is called like its operation."""
    assert ModelSpec("m", "p", inputs=given).inputs == ("x=in/x:0", "y=y:1")


def test_one_text_is_a_list_of_one():
    """As `--set` on the command line gives it."""
    spec = ModelSpec("m", "p", outputs="softmax", imports="tensorflow_text", op_libraries="my_ops.so")
    assert (spec.outputs, spec.imports) == (("softmax=softmax:0",), ("tensorflow_text",))
    assert spec.op_libraries == ("my_ops.so",)


@pytest.mark.parametrize("name", ["", "a b", "-m", ".m", "a/b", "é", 3, None])
def test_a_name_that_is_none(name):
    """Names appear in paths, metrics and messages: they are plain."""
    with pytest.raises(InvalidInput, match="is not a model name; use letters, digits"):
        ModelSpec(name, "p")


@pytest.mark.parametrize(
    ("source", "is_function"),
    [
        ("app.models:digits", True),
        ("models:digits", True),
        ("a.b:C.method", True),
        ("./models:digits", False),
        ("/models/a:b", False),
        ("models/digits", False),
        ("models.digits", False),
        ("a:1", False),
    ],
)
def test_what_is_read_as_a_function(source, is_function):
    """`module:function` is Python whatever lies on disk; a slash makes it a path."""
    assert ModelSpec("m", source).is_function is is_function


def test_models_need_names_of_their_own():
    """Two models of one name are refused, with both sources."""
    specs = [ModelSpec("m", "a"), ModelSpec("n", "b"), ModelSpec("m", "c")]
    with pytest.raises(InvalidInput, match="two models are called 'm' \\('a' and 'c'\\)"):
        check_distinct(specs)
    with pytest.raises(InvalidInput, match="two models are called 'm'"):
        ModelSpec.coerce_all(specs)
    assert ModelSpec.coerce_all({"m": "a", "n": "b"}) == specs[:2]

"""The lines for an app are Python, and what they answer is JSON, whatever a signature's names and dtypes are."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import numpy as np
import pytest

from broker.cli.snippets import CalledSignature, snippets
from worker_client.wire.default import Default
from worker_client.wire.dtypes import SUPPORTED, dtype_named
from worker_client.wire.signature import Signature, TensorSpec


def spec(name: str, dtype: str = "float32", shape: Any = (None,), **others: Any) -> TensorSpec:
    return TensorSpec(name, dtype_named(dtype), shape, **others)


def lines(signature: Signature, name: str = "m", *, is_default: bool = True) -> str:
    text = snippets(CalledSignature(name, "models/m", signature, is_default))
    compile(text, "app.py", "exec")
    return text


def answers(text: str, answer: dict[str, np.ndarray]) -> list[Any]:
    """What the views make of an answer, as it comes out of JSON."""
    found = re.findall(r"^( *)(?:return )?(\{\n(?:(?!\1\}).*\n)*\1\})$", text, re.MULTILINE)
    dicts = [code for _, code in found if "answer[" in code]
    return [json.loads(json.dumps(eval(code, {"answer": answer, "np": np}))) for code in dicts]


@pytest.mark.parametrize("dtype", SUPPORTED)
@pytest.mark.parametrize("shape", [(), (2,), (2, 1)], ids=str)
def test_every_dtype_comes_out_as_json(dtype: str, shape: tuple[int, ...]) -> None:
    text = lines(Signature("s", (), (spec("y", dtype, shape),)))
    value: Any = {"string": "é".encode(), "bool": True}.get(dtype, 1)
    array = np.empty(shape, dtype_named(dtype))
    array[...] = value
    expected = {"string": "é", "bool": True, "complex64": "(1+0j)", "complex128": "(1+0j)"}.get(dtype, 1)
    assert answers(text, {"y": array}) == 3 * [{"y": np.full(shape, expected, object).tolist()}]


@pytest.mark.parametrize("name", ['say "x"', "back\\slash", "new\nline", "input:0", "größe", "class", "{x}"])
def test_any_name_is_one(name: str) -> None:
    """Of an input, an output or a signature."""
    text = lines(Signature(name, (spec(name),), (spec(name),)), is_default=False)
    assert answers(text, {name: np.ones(2)}) == 3 * [{name: [1, 1]}]
    texts = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    assert texts.count(name) == 3 * 3  # signature, {...: answer[...]}
    assert f"signature={json.dumps(name, ensure_ascii=not name.isprintable())}" in text


def test_inputs_with_defaults_are_left_out() -> None:
    default = Default.of(np.array(0.5, np.float32))
    signature = Signature("s", (spec("x"), spec("rate", shape=(), default=default)), (spec("y"),))
    text = lines(signature)
    assert text.count('# "x": float32') == 3
    assert '# "rate"' not in text
    assert text.count('# may be sent as well: "rate", float32[] = 0.5') == 3


def test_complex_inputs_are_sent_as_texts() -> None:
    text = lines(Signature("s", (spec("z", "complex64"),), (spec("y"),)))
    assert text.count('# "z": complex64[?], as texts: "1+2j"\n') == 3


def test_the_start_is_quoted_for_a_shell() -> None:
    subject = CalledSignature("m", "my models/m", Signature("s", (), (spec("y"),)), True)
    assert "# onesession run --model 'm=my models/m' -- gunicorn --workers 4 app:app\n" in snippets(subject)

"""The lines that an app needs to call one signature of a model, for Flask, FastAPI and Django.

Requests and answers are JSON: an object with a list for each input, and one with a list for each output. The object is
passed to `predict` unchanged: it makes arrays of the right dtype (a complex one of texts: "1+2j"), and refuses
inputs that are missing or unknown and conversions that would change a value.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broker.observe.calling import literal, needed, optional, selected
from worker_client.wire.dtypes import STRING, name_of
from worker_client.wire.signature import Signature, TensorSpec

_NAMED_ALIKE = ("bool", "int", "uint", "float16", "float32", "float64")
"""Prefixes of dtypes whose `tolist()` gives Python numbers; dtypes of fewer than eight bits are excepted."""


@dataclass(frozen=True, slots=True)
class CalledSignature:
    """The signature to call: `signature` of the model `name`, which is served from `source`."""

    name: str
    source: str
    signature: Signature
    is_default: bool

    @property
    def serve_option(self) -> str:
        """For `onesession run` and `serve`, quoted for a shell."""
        return f"--model {shlex.quote(f'{self.name}={self.source}')}"


def snippets(subject: CalledSignature) -> str:
    """All three, each under a line `# --- FRAMEWORK` and the command that starts it."""
    parts = (
        ("Flask: app.py", "gunicorn --workers 4 app:app", _flask(subject)),
        ("FastAPI: app.py", "uvicorn --workers 4 app:app", _fastapi(subject)),
        ("Django: views.py", "gunicorn --workers 4 mysite.wsgi", _django(subject)),
    )
    return "\n\n".join(
        f"# --- {title}, started with:\n# onesession run {subject.serve_option} -- {server}\n{code}"
        for title, server, code in parts
    )


def _flask(subject: CalledSignature) -> str:
    method = "post" if needed(subject.signature) else "get"
    return f"""\
{_imports(subject.signature)}import worker_client
from flask import Flask, request

app = Flask(__name__)
model = worker_client.connect().model({_selected(subject)})


@app.errorhandler(worker_client.InvalidInput)
def wrong_input(error):
    return {{"error": str(error)}}, 400


@app.{method}("/predict")
def predict():
{_body(subject.signature, "model.predict", "request.json")}
"""


def _fastapi(subject: CalledSignature) -> str:
    sent = bool(needed(subject.signature))
    method, argument = ("post", ", sent: dict[str, Any]") if sent else ("get", "")
    typing = "from typing import Any\n" if sent else ""
    return f"""\
from contextlib import asynccontextmanager
{typing}
{_imports(subject.signature)}import worker_client.aio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with worker_client.aio.connect() as client:
        app.state.model = client.model({_selected(subject)})
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(worker_client.InvalidInput)
async def wrong_input(request: Request, error: worker_client.InvalidInput):
    return JSONResponse({{"error": str(error)}}, 400)


@app.{method}("/predict")
async def predict(request: Request{argument}):
{_body(subject.signature, "await request.app.state.model.predict")}
"""


def _django(subject: CalledSignature) -> str:
    sent = bool(needed(subject.signature))
    decorators = "@csrf_exempt\n@require_POST\n" if sent else ""
    imports = (
        "from django.views.decorators.csrf import csrf_exempt\n"
        "from django.views.decorators.http import require_POST\n"
        if sent
        else ""
    )
    return f"""\
{"import json" + chr(10) * 2 if sent else ""}{_imports(subject.signature)}import worker_client
from django.http import HttpRequest, JsonResponse
{imports}
model = worker_client.connect().model({_selected(subject)})


{decorators}def predict(request: HttpRequest) -> JsonResponse:  # urls.py: path("predict", views.predict)
{_body(subject.signature, "model.predict", "json.loads(request.body)", wrapped=True)}
"""


def _selected(subject: CalledSignature) -> str:
    return selected(subject.name, subject.signature, subject.is_default)


def _imports(signature: Signature) -> str:
    numpy = any(spec.dtype == STRING and not _is_list(spec) for spec in signature.outputs)
    return "import numpy as np\n" if numpy else ""


def _body(signature: Signature, predict: str, request: str = "", wrapped: bool = False) -> str:
    """The body of the view. `request` is the expression for the received JSON, "" if `sent` is an argument. With
    `wrapped`, the view makes its own responses, also for a wrong request."""
    sent = needed(signature)
    lines = [*map(_comment, sent), *optional(signature)]
    call = [f"answer = {predict}({'sent' if sent else '{}'})"]
    answer = ["{", *_indented(_outputs(signature)), "}"]
    if request and sent:
        call.insert(0, f"sent = {request}")
    if wrapped:
        call = [
            "try:",
            *_indented(call),
            "except ValueError as error:  # not JSON, or not what the model takes",
        ]
        call.append('    return JsonResponse({"error": str(error)}, status=400)')
        answer = ["JsonResponse(", *_indented(answer), ")"]
    return "\n".join(_indented([*lines, *call, f"return {answer[0]}", *answer[1:]]))


def _comment(spec: TensorSpec) -> str:
    texts = ', as texts: "1+2j"' if spec.dtype.kind == "c" else ""
    return f"# {literal(spec.name)}: {spec}{texts}"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _outputs(signature: Signature) -> Iterator[str]:
    for spec in signature.outputs:
        yield f"{literal(spec.name)}: {_as_json(spec)},  # {spec}"


def _as_json(spec: TensorSpec) -> str:
    """The expression for lists that JSON can represent."""
    array = f"answer[{literal(spec.name)}]"
    if spec.dtype == STRING:  # UTF-8 bytes; others raise UnicodeDecodeError
        if _is_list(spec):
            return f"[text.decode() for text in {array}]"
        return f"np.vectorize(bytes.decode, otypes=[object])({array}).tolist()"
    if spec.dtype.kind == "c":
        return f"{array}.astype(str).tolist()"
    name = name_of(spec.dtype)
    if name.startswith(_NAMED_ALIKE) and spec.dtype.isbuiltin:
        return f"{array}.tolist()"
    wider = "int32" if "int" in name else "float32"
    return f'{array}.astype("{wider}").tolist()'


def _is_list(spec: TensorSpec) -> bool:
    return spec.shape is not None and len(spec.shape) == 1

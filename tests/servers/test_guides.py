"""The models of the guides for other libraries, under gunicorn: the answers are the libraries' own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.brokers import wait_until
from tests.docs.pages import DOCS, blocks
from tests.servers.running import Place, Server, place, running

APP = """
import os
import numpy as np
import worker_client
from flask import Flask, request

app = Flask(__name__)
client = worker_client.connect()


@app.get("/predict")
def predict():
    model = client.model(request.args["model"])
    spec = model.signature.inputs[0]
    rows = request.args["rows"].split(";")
    x = [row if spec.dtype == object else [float(n) for n in row.split(",")] for row in rows]
    answer = model.predict(np.array(x, spec.dtype)).tolist()
    return {"pid": os.getpid(), "answer": [y.decode() if isinstance(y, bytes) else y for y in answer]}
"""

OWN = """
import importlib, json, sys
import numpy as np
module, name, rows = sys.argv[1:]
function = getattr(importlib.import_module(module), name)()
rows = rows.split(";")
text = name == "entities"
x = [row.encode() if text else [float(n) for n in row.split(",")] for row in rows]
answer = function(np.array(x, object if text else "float32"))
answer = answer[0] if isinstance(answer, tuple) else answer
print(json.dumps(answer if isinstance(answer, list) else answer.tolist()))
"""

LIBRARIES = [
    ("sklearn", "scikit-learn", "sklearn_models", "iris", "5.1,3.5,1.4,0.2;6.7,3.0,5.2,2.3"),
    ("xgboost", "scikit-learn", "xgboost_models", "risk", "0,0,0.1,0,0,0,0,0,0,0;1,1,0,0,0,0,0,0,0,-1"),
    ("onnxruntime", "onnxruntime", "onnx_models", "net", "1,2,3,4;0.5,0,0,-1"),
    ("torch", "pytorch", "torch_models", "scores", "1,2,3,4,5,6,7,8;0,0,0,0,0,0,0,1"),
    ("spacy", "spacy", "spacy_models", "entities", "From Paris to Lima;nowhere"),
]


def write_model(made: Place, page: str, module: str) -> None:
    """The program of the page, and what its hidden block makes."""
    (block,) = [
        block for block in blocks(DOCS / "guides" / f"{page}.md") if block.file_name == f"{module}.py"
    ]
    if before := block.marks.get("before"):
        subprocess.run([sys.executable, "-c", before], cwd=made.path, check=True)
    made.write(f"{module}.py", block.text)


def own_answer(made: Place, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", OWN, *arguments],
        cwd=made.path,
        env=made.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("library", LIBRARIES, ids=[library for library, *_ in LIBRARIES])
def test_a_library_under_gunicorn(library: tuple[str, ...]) -> None:
    """Both workers give the answers that the library gives without a broker."""
    name, page, module, function, rows = library
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    with place() as made:
        write_model(made, page, module)
        made.write("app.py", APP)
        wanted = own_answer(made, module, function, rows)
        program = ["gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "app:app"]
        command = ["python", "-m", "broker", "run", "--model", f"m={module}:{function}", "--", *program]
        with running(made, command) as server:
            server.wait_for_log("Booting worker", 2)
            query, pids = urlencode({"model": "m", "rows": rows}), set()

            def both_answered() -> bool:
                answer = server.get(f"/predict?{query}")
                pids.add(answer["pid"])
                assert near(answer["answer"], wanted), (answer["answer"], wanted)
                return len(pids) == 2

            wait_until(both_answered, "answers of both workers")
            stop(server)


def near(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(near, got, wanted))
    return bool(got == wanted if isinstance(wanted, str) else got == pytest.approx(wanted, rel=1e-5))


def stop(server: Server) -> None:
    server.process.terminate()
    assert server.wait_for_end() == 0, server.log()

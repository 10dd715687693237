"""macOS and Windows, as far as they can be had on Linux: an interpreter that lacks what they lack, made by
tests/other_systems.py. Importing works, the doubles work, and what needs Linux says so in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODEL = """
import broker

@broker.signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def double(x):
    return 2 * x
"""
DOUBLES = """
import asyncio
import numpy as np
import worker_client
from worker_client import testing

ROW = np.ones((1, 4))

def check(client, factor):
    model = client.model("m")
    assert (model.predict(ROW) == factor).all() and model.inputs[0].name == "x"
    assert (model.submit(ROW).result(30) == factor).all()
    assert all((answer == factor).all() for answer in model.map([ROW, ROW]))
    assert (model.predict(np.ones((5, 4)), batch_size=2) == factor).all()
    with model.request(rows=2) as request:
        request["x"][...] = 1
        assert (request.run()["y"] == factor).all()
    try:
        model.predict(np.ones((1, 5)))
    except worker_client.InvalidInput as error:
        assert "expects shape [?, 4], got [1, 5]" in str(error)
    asyncio.run(loop(client.address, factor))
    client.close()
    assert (model.predict(ROW) == factor).all()
    client.close()

async def loop(address, factor):
    async with worker_client.aio.connect(address) as client:
        model = client.model("m")
        assert (await model.predict(ROW) == factor).all()
        assert [float(answer[0, 0]) async for answer in model.map([ROW, ROW])] == [factor, factor]
        async with model.request() as request:
            request["x"][...] = 1
            assert ((await request.run())["y"] == factor).all()

sides = {"inputs": {"x": ("float32", [None, 4])}, "outputs": {"y": ("float32", [None, 4])}}
check(testing.fake({"m": {**sides, "answer": [3, 3, 3, 3]}}), 3)
check(worker_client.connect("inline:m=other_models:double"), 2)
import other_models
check(testing.inline({"m": other_models.double}), 2)
late = testing.fake({"m": {**sides, "answer": [3, 3, 3, 3], "delay": 60}})
try:
    late.model("m").predict(ROW, timeout=0.05)
except worker_client.DeadlineExceeded:
    print("all right")
"""
IN_A_LINE = """
def told(call):
    try:
        call()
    except BaseException as error:
        print(type(error).__name__, error)

import worker_client, broker
told(lambda: worker_client.connect())
told(lambda: worker_client.aio.connect())
told(lambda: worker_client.node)
told(lambda: broker.Broker)
from broker import command
told(lambda: command.main())
"""


def run(system: str, program: str, folder: Path) -> str:
    (folder / "other_models.py").write_text(MODEL)
    program = f"from tests.other_systems import be\nbe({system!r})\n{program}"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_the_doubles_work(system: str, tmp_path: Path) -> None:
    """Fakes and Python models in all ways to call, futures and event loops included."""
    assert run(system, DOUBLES, tmp_path) == "all right\n"


@pytest.mark.parametrize(("system", "name"), [("darwin", "macOS"), ("win32", "Windows")])
def test_what_needs_linux_says_so_in_a_line(system: str, name: str, tmp_path: Path) -> None:
    """`connect`, node brokers, brokers and commands name the system and what works there."""
    lines = run(system, IN_A_LINE, tmp_path).splitlines()
    assert len(lines) == 5
    for line in lines:
        assert (
            f"needs Linux (memfd and /dev/shm), and this is {name}: to develop and test here use models"
            in line
        )
    assert [line.split()[0] for line in lines] == ["BrokerUnavailable"] * 4 + ["SystemExit"]

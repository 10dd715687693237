"""Progress bars of `predict(verbose=)` and `map(progress=True)`: on a terminal, in a file, with tqdm and with rich."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.brokers import TestBroker
from worker_client import Client, InvalidInput, ModelFailed, aio

ROOT = Path(__file__).parents[3]
MODELS = ("double", "picky")
ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)
PROGRAM = """
import sys
for name in {absent!r}:
    sys.modules[name] = None
import numpy as np, worker_client
model = worker_client.connect({address!r}).model({model!r})
rows = np.ones((10, 4), np.float32)
{call}
print("answered")
"""


def on_terminal(
    broker: TestBroker, call: str, absent: tuple[str, ...] = (), model: str = "double"
) -> tuple[str, str]:
    """What a program writes to its output, and to a terminal that is its standard error."""
    program = PROGRAM.format(absent=absent, address=broker.address, model=model, call=call)
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, np.array([24, 80, 0, 0], np.uint16).tobytes())
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=writer
        )
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(reader, 1 << 16):
                shown += piece
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(reader)
    return out.decode(), shown.decode()


PLAIN = ("tqdm", "tqdm.auto", "rich", "rich.progress")


def test_a_line_on_a_terminal(broker: TestBroker) -> None:
    """Without tqdm and rich: one line, written over, that ends with what was done and a line's end."""
    call = "answer = model.predict(rows, batch_size=4, verbose=1); assert (answer == 2).all() and len(answer) == 10"
    out, shown = on_terminal(broker, call, PLAIN)
    assert out == "answered\n"
    assert re.fullmatch(r"(\rdouble: \d/3 batches, \d+\.\d s)+\r\n", shown)
    assert "\rdouble: 3/3 batches" in shown


def test_rich_where_it_is(broker: TestBroker) -> None:
    """Its bar, with all batches counted, and the cursor shown again."""
    out, shown = on_terminal(broker, "list(model.map([rows, rows], progress=True))", ("tqdm", "tqdm.auto"))
    assert out == "answered\n"
    assert "100%" in shown
    assert shown.rstrip().endswith("\x1b[?25h")


def test_tqdm_where_it_is(broker: TestBroker) -> None:
    """Its bar, before rich's."""
    pytest.importorskip("tqdm")
    out, shown = on_terminal(broker, "list(model.map([rows, rows], progress=True))")
    assert out == "answered\n"
    assert re.search(r"double: 100%\|.*\| 2/2 \[", shown)


@pytest.mark.parametrize(
    ("batches", "last"),
    [("[rows] * 3", "3/3 batches"), ("(rows for _ in range(3))", "3 batches")],
)
def test_totals_are_those_that_are_known(broker: TestBroker, batches: str, last: str) -> None:
    """A list knows how many it holds, a generator does not; `map_unordered` and event loops count as `map` does."""
    loop = (
        "import asyncio\nasync def main():\n"
        f"    async with worker_client.aio.connect({broker.address!r}) as client:\n"
        f"        return [1 async for _ in client.model('double').map({batches}, progress=True)]\n"
        "assert asyncio.run(main()) == [1, 1, 1]"
    )
    for call in (
        f"assert len(list(model.map({batches}, progress=True))) == 3",
        f"assert len(list(model.map_unordered({batches}, progress=True))) == 3",
        loop,
    ):
        out, shown = on_terminal(broker, call, PLAIN)
        assert out == "answered\n"
        assert f"\rdouble: {last}, " in shown
        assert shown.endswith("\r\n")


@pytest.mark.parametrize("absent", [PLAIN, ("tqdm", "tqdm.auto")])
def test_a_failure_leaves_no_broken_line(broker: TestBroker, absent: tuple[str, ...]) -> None:
    """What comes after an error, or after a loop that was left, begins on a line of its own."""
    failing = (
        "try: list(model.map([rows, rows * 13, rows], progress=True))\n"
        "except worker_client.ModelFailed: print('failed', file=sys.stderr)"
    )
    left = "for _ in model.map([rows, rows, rows], progress=True): break\nprint('failed', file=sys.stderr)"
    for call, model in ((failing, "picky"), (left, "double")):
        out, shown = on_terminal(broker, call, absent, model)
        assert out == "answered\n"
        *_, before, last = shown.replace("\x1b[?25h", "").rstrip("\r\n").split("\n")
        assert last == "failed"
        assert model in before


@pytest.fixture
def no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes into files as well."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


def test_a_file_gets_nothing(client: Client, no_tqdm: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Logs of a server hold no bars, but the line that verbose=2 asks for."""
    model = client.model("double")
    for verbose in (None, 0, 1, "auto", True, False):
        np.testing.assert_array_equal(model.predict(ROWS, batch_size=4, verbose=verbose), 2 * ROWS)
        np.testing.assert_array_equal(model.predict(ROWS, verbose=verbose), 2 * ROWS)
    assert len(list(model.map([ROWS], progress=True))) == 1
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(model.predict(ROWS, batch_size=4, verbose=2), 2 * ROWS)
    assert re.fullmatch(r"double: 3/3 batches, \d+\.\d s\n", capfd.readouterr().err)


def test_one_request_is_shown_too(client: Client, no_tqdm: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a batch size there is one, whose form of answer is as ever, here and in event loops."""
    np.testing.assert_array_equal(client.model("double").predict(ROWS, verbose=2), 2 * ROWS)
    assert list(client.model("double").predict({"x": ROWS}, verbose=2)) == ["y"]

    async def program() -> Any:
        async with aio.connect(client.address) as of_loop:
            return await of_loop.model("double").predict(ROWS, verbose=2)

    np.testing.assert_array_equal(asyncio.run(program()), 2 * ROWS)
    assert re.fullmatch(r"(double: 1/1 batches, \d+\.\d s\n){3}", capfd.readouterr().err)


@pytest.mark.parametrize("verbose", [3, -1, "yes", 1.5, [1]])
def test_other_values_are_refused(client: Client, verbose: Any) -> None:
    """InvalidInput says which there are."""
    with pytest.raises(InvalidInput, match='verbose must be 0, 1, 2 or "auto", got '):
        client.model("double").predict(ROWS, batch_size=4, verbose=verbose)


def test_a_failure_ends_the_summary(client: Client, no_tqdm: None, capfd: pytest.CaptureFixture[str]) -> None:
    """It says how far the call came."""
    with pytest.raises(ModelFailed):
        client.model("picky").predict(ROWS + np.float32(13) - ROWS, batch_size=4, verbose=2)
    assert re.fullmatch(r"picky: 0/3 batches, \d+\.\d s\n", capfd.readouterr().err)


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"], ids=["closed", "full"])
@pytest.mark.parametrize("absent", [PLAIN, ()], ids=["plain", "as installed"])
def test_a_call_outlives_its_progress(broker: TestBroker, stderr: str, absent: tuple[str, ...]) -> None:
    """Standard error may be closed, or take nothing: the answers come all the same."""
    call = (
        "for verbose in (1, 2, 'auto'): assert len(model.predict(rows, batch_size=4, verbose=verbose)) == 10\n"
        "assert len(list(model.map([rows, rows], progress=True))) == 2"
    )
    program = PROGRAM.format(absent=absent, address=broker.address, model="double", call=call)
    command = ["sh", "-c", f'exec "$0" -c "$1" {stderr}', sys.executable, program]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=False)
    assert (done.stdout, done.returncode) == (b"answered\n", 0)

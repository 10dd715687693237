"""Every code block of the documentation does what it says (tests/docs/pages.py: how it is marked)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import Broker
from tests.docs.pages import DOCS, ROOT, Block, blocks, pages
from tests.docs.reading import Reading
from tests.servers.running import BIN, Place, place

# What the pages call models/digits is a folder with a Python model: no block is about what is inside it.
DIGITS = '''
import numpy as np
import broker

@broker.signature(inputs={"x": ("float32", [None, 64])}, outputs={"y": ("float32", [None, 10])})
def digits(x):
    """The last ten pixels, whose brightest is the digit."""
    return x[:, -10:]
'''

PAGES = [page for page in pages() if any(not block.is_directive for block in blocks(page))]
WITH_SESSION = [block for page in PAGES for block in blocks(page) if block.marks.get("needs") == "tensorflow"]


@pytest.fixture(scope="module")
def desk() -> Iterator[Place]:
    """A project's folder, with a broker at the default address."""
    with place() as made, pytest.MonkeyPatch.context() as patch:
        patch.delenv("BROKER_ADDRESS", raising=False)
        patch.setenv("XDG_RUNTIME_DIR", os.fspath(made.runtime))
        patch.setenv("XDG_CACHE_HOME", os.fspath(made.path))
        patch.setenv("PYTHONPATH", made.environment["PYTHONPATH"])
        patch.setenv("GUNICORN_CMD_ARGS", "--bind 127.0.0.1:0")
        patch.chdir(made.path)
        patch.syspath_prepend(made.path)
        (made.path / "models" / "digits").mkdir(parents=True)
        made.write("models/digits/model.py", DIGITS)
        for example in ("flask_app.py", "example_model.py"):
            shutil.copy(DOCS / "examples" / example, made.path)
        with Broker(models={"digits": "models/digits", "mean": "example_model:mean"}, supervise=False):
            yield made


@pytest.mark.parametrize("page", PAGES, ids=[os.fspath(page.relative_to(ROOT)) for page in PAGES])
def test_the_blocks_of_a_page_run(desk: Place, page: Path) -> None:
    """The blocks of a page run in order, each after those above it."""
    with Reading(desk) as reading:
        for block in blocks(page):
            reading.run(block)


@pytest.mark.tensorflow
@pytest.mark.parametrize("block", WITH_SESSION, ids=str)
def test_blocks_beside_a_session_run(block: Block) -> None:
    """The blocks that need a session run in a process with TensorFlow and a session."""
    with place() as made:
        done = subprocess.run(
            [BIN / "python", ROOT / "tests" / "docs" / "with_session.py"],
            input=block.text,
            cwd=made.path,
            env=made.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{block}:\n{done.stderr}"


def test_blocks_are_found() -> None:
    """The pattern of a block finds as many as there are fences, so none escapes."""
    for page in pages():
        fences = sum(line.lstrip().startswith("```") for line in page.read_text().splitlines())
        assert 2 * len(blocks(page)) == fences, page

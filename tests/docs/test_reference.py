"""Pages made from the code, and tables about it, agree with the code."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.docs.pages import DOCS, ROOT
from worker_client.wire import errors

_VARIABLE = re.compile(r'"(BROKER_[A-Z_]+)"')


def test_generated_pages_are_up_to_date() -> None:
    """Settings, commands and figures are what docs/site/reference.py makes of the code and the results."""
    done = subprocess.run(
        [sys.executable, "docs/site/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_variable_of_the_environment_is_told() -> None:
    """The page lists every variable of ours that the code reads or sets."""
    sources = [*(ROOT / "broker").rglob("*.py"), *(ROOT / "worker_client").rglob("*.py")]
    used = {name for source in sources for name in _VARIABLE.findall(source.read_text())}
    told = set(re.findall(r"`(BROKER_[A-Z_]+)`", (DOCS / "configuration.md").read_text()))
    assert used == told


def test_every_error_has_its_symptom() -> None:
    """Every error that a caller can get is on the page of symptoms."""
    page = (DOCS / "troubleshooting.md").read_text()
    public = {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    for name in public - {"BrokerError", "StaleSignature", "ConnectionClosed", "Any"}:
        assert f"`{name}`" in page, name

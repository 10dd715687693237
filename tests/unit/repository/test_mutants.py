"""What `make mutants` breaks, and asks, is there; and so is what docs/mutants.md names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutants.modules import MODULES
from tests.mutants.promises import PROMISES, Promise

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "mutants.md").read_text()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.without)
def test_a_promise_is_in_the_code(promise: Promise) -> None:
    """Once, and its tests are there. If the code has changed, tests/mutants/promises.py says what to break now."""
    assert (ROOT / promise.path).read_text().count(promise.old) == 1
    assert promise.old != promise.new
    assert all(there(test) for test in promise.tests.split())


@pytest.mark.parametrize("module", MODULES)
def test_a_module_and_its_tests_are_there(module: str) -> None:
    """Also after they were moved or renamed."""
    assert (ROOT / module).is_file()
    assert all(there(test) for test in MODULES[module].split())


def test_the_page_names_what_is_there() -> None:
    """Modules and tests."""
    named = re.findall(r"`((?:tests|broker|worker_client)/[\w/.:]+)`", PAGE)
    assert len(named) > 10
    assert [name for name in named if not there(name)] == []


def there(name: str) -> bool:
    path, _, function = name.partition("::")
    return (ROOT / path).exists() and (not function or f"def {function}(" in (ROOT / path).read_text())

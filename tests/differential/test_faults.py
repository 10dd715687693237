"""A run finds each fault that was put back into the product, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.faults import ALL
from tests.differential.run import Failed, Limits, exported, run
from tests.differential.stage import Options

SECONDS = 120
"""Within which it must be found; most are within a few."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def models() -> Iterator[Path]:
    with exported() as folder:
        yield folder


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_fault_is_found(name: str, models: Path, seed: int, tmp_path: Path) -> None:
    """A run with a fault fails: an answer differs, a wrong error is raised, or a log reports an answer to another
    request."""
    fault = ALL[name]
    options = Options(4, name, fault.kinds, fault.ways, deeds=fault.deeds, green=False)
    with pytest.raises(Failed) as found:
        run(models, Limits(SECONDS, shrink_seconds=0), seed, options, tmp_path)
    print(f"{name}: {found.value}")

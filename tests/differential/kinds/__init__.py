"""The kinds of models, and how all of them are served.

kind.py        what a kind is: export, make, answer, check; tags, by which an answer is known
rows.py        rows that are independent; texts.py strings; shapes.py answers of other shapes
dependent.py   rows that depend on each other; state.py a counter, versions; python.py functions
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.differential.kinds import dependent, python, rows, shapes, state, texts
from tests.differential.kinds.kind import Kind

EMBEDDING = texts.Embedding()
ALL: tuple[Kind, ...] = (
    *(
        rows.Rows(),
        rows.LongRows(),
        rows.PaddedRows(),
        rows.ZeroRows(),
        rows.HeavyRows(),
        rows.HeavyZeroRows(),
    ),
    *(rows.Mixed(), rows.Picky(), rows.Classic()),
    *(EMBEDDING, texts.Upper(), texts.Spelled(), texts.Split()),
    *(shapes.Filtered(), shapes.Total(), shapes.Widest(), shapes.Scalars()),
    *(shapes.Ragged(), shapes.Sparse(), shapes.Sizes()),
    *(dependent.Ranking(), dependent.LongRanking(), dependent.RunningSums(), dependent.Normalised()),
    *(state.Counter(), state.Versioned()),
    *(python.PythonRows(), python.PythonText()),
)
KINDS = {kind.name: kind for kind in ALL}
NUMBER_OF = {kind.name: number for number, kind in enumerate(ALL)}

BANK = "bank.npy"
_PYTHON = {"python_rows": "rows", "python_text": "backwards"}
_SETTINGS: dict[str, dict[str, Any]] = {
    "padded": {"allowed_batch_sizes": [1, 4, 16, 64], "pad_variable_length": True},
    "versioned": {"versions": 1},
}


def exported() -> dict[str, list[Kind]]:
    """SavedModels by name, each with the kinds that are its signatures; TensorFlow 1's is `rows.export_classic`."""
    models: dict[str, list[Kind]] = {}
    for kind in ALL:
        if kind.model not in (*_PYTHON, "classic", "versioned"):
            models.setdefault(kind.model, []).append(kind)
    return models


def served(folder: Path) -> dict[str, Any]:
    """What a broker is told to serve of the models in this folder."""
    models = sorted({kind.model for kind in ALL} - _PYTHON.keys())
    found = {name: {"source": str(folder / name), **_SETTINGS.get(name, {})} for name in models}
    found |= {
        name: {"source": f"tests.differential.kinds.python:{function}"} for name, function in _PYTHON.items()
    }
    return found

"""Mutants of the modules in `modules.py`, made by cosmic-ray and drawn by a seed."""

from __future__ import annotations

import random
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec

from tests.mutants.modules import MODULES
from tests.mutants.trial import tried

# The operators that change what a program does. What the others make is mostly equivalent, such as `int & None` in an
# annotation.
_COMPARISONS = {"Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"} | {
    f"{one}_{other}"
    for one, others in {"Lt": "LtE GtE", "LtE": "Lt Gt", "Gt": "GtE LtE", "GtE": "Gt Lt"}.items()
    for other in others.split()
}
_BINARY = {"Add_Sub", "Sub_Add", "Mul_FloorDiv", "FloorDiv_Mul", "Mod_Mul", "BitAnd_BitOr", "LShift_RShift"}
_OTHERS = """
ReplaceUnaryOperator_Delete_Not ReplaceUnaryOperator_USub_UAdd AddNot ReplaceAndWithOr ReplaceOrWithAnd
ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceBreakWithContinue ReplaceContinueWithBreak ZeroIterationForLoop
NumberReplacer ExceptionReplacer
"""
_OPERATORS = [
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in sorted(_COMPARISONS)),
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in sorted(_BINARY)),
    *(f"core/{name}" for name in _OTHERS.split()),
]


def draw(copy: Path, seed: int, count: int, only: str) -> list[MutationSpec]:
    """So many mutants, as evenly as possible of all modules, in an order that the seed decides."""
    rng = random.Random(seed)
    modules = [module for module in MODULES if only in module]
    rng.shuffle(modules)
    drawn: list[MutationSpec] = []
    for number, module in enumerate(modules[:count]):
        all_of_it = _mutants_of(copy, module)
        drawn += rng.sample(all_of_it, min(len(range(number, count, len(modules))), len(all_of_it)))
    rng.shuffle(drawn)
    return drawn


def described(mutant: MutationSpec, copy: Path) -> str:
    """Where it is and what it changes."""
    file = copy / mutant.module_path
    old, new = (file.read_text().splitlines(), _mutated(mutant, file).splitlines())
    line = next(number for number, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1])
    return f"{mutant.module_path}:{line + 1}: {old[line].strip()}  ->  {new[line].strip()}"


def verdict(mutant: MutationSpec, copy: Path, seconds: float) -> str:
    module = str(mutant.module_path)
    return tried(copy, module, _mutated(mutant, copy / module), MODULES[module], seconds)


def _mutated(mutant: MutationSpec, file: Path) -> str:
    operator = get_operator(mutant.operator_name)()
    return str(mutate_code(file.read_text(), operator, mutant.occurrence))


def _mutants_of(copy: Path, module: str) -> list[MutationSpec]:
    tree = get_ast_from_path(copy / module)
    found: list[MutationSpec] = []
    for name in _OPERATORS:
        operator = get_operator(name)()
        places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        found += [MutationSpec(module, name, number, *place) for number, place in enumerate(places)]
    return found

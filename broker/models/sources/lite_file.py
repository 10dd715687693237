"""What a LiteRT file says of itself before an interpreter sees it: whether it is whole, and what a run does besides
computing. The interpreter reads where a damaged file points to, and would end the broker."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

_CALLS = ("IF", "WHILE", "CALL", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE", "STABLEHLO_REDUCE")
"""Operations that run other subgraphs. Which ones is not looked up: they are taken to run all of them."""
_WRITES = {"ASSIGN_VARIABLE": "writes a variable", "HASHTABLE_IMPORT": "fills a table"}
_DRAWS = ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL")
_SHARED = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
_FLEX = "custom Flex"
"""The beginning of what TensorFlow runs for the interpreter (SELECT_TF_OPS), in builds of it for apps."""
_SIZED_BY_VALUES = ("WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "RANGE", "FILL")
"""Operations whose outputs have as many elements as the values of their inputs say, and so perhaps none."""
_SIZED_BY_INPUTS = (
    "RESHAPE",
    "SLICE",
    "STRIDED_SLICE",
    "TILE",
    "BROADCAST_TO",
    "SPLIT_V",
    "ONE_HOT",
    "BATCH_TO_SPACE_ND",
)
"""The same, where an input behind the first, which has the sizes, is computed."""
_PURE_CUSTOM = (
    "TFLite_Detection_PostProcess",
    "Convolution2DTransposeBias",
    "MaxPoolingWithArgmax2D",
    "MaxUnpooling2D",
)

Damaged = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, KeyError)
"""What reading the tables of a damaged file raises."""


class LiteFile:
    """Raises one of `Damaged`."""

    def __init__(self, content: bytes, schema: Any) -> None:
        self._names = {
            code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")
        }
        model = schema.Model.GetRootAsModel(content, 0)
        _check_buffers(model, len(content))
        self._codes = [model.OperatorCodes(number) for number in range(model.OperatorCodesLength())]
        graphs = [model.Subgraphs(number) for number in range(model.SubgraphsLength())]
        if not graphs:
            raise ValueError("it has no graph")
        self._operations = [list(self._operations_of(graph, model.BuffersLength())) for graph in graphs]
        self._keeps = [any(tensor.IsVariable() for tensor in _tensors(graph)) for graph in graphs]
        self._computed = [_computed(graph) for graph in graphs]
        self._sized_by_values = [
            self._is_sized_by_values(*each) for each in zip(graphs, self._operations, self._computed)
        ]
        self.signatures = {
            _text(signature.SignatureKey()): signature.SubgraphIndex()
            for signature in map(model.SignatureDefs, range(model.SignatureDefsLength()))
        }
        """Which subgraph each is."""
        custom = {name for names in self._operations for name in names if name.startswith(_FLEX)}
        self.tensorflow_ops = sorted(name[len(_FLEX) :] for name in custom)

    def effects(self, subgraph: int) -> str:
        """What a run of this subgraph does besides computing, "" if nothing."""
        for number in self._reached(subgraph):
            if self._keeps[number]:
                return "keeps state between runs (a variable tensor)"
            for name in self._operations[number]:
                if effect := _effect(name):
                    return effect
        return ""

    def shares_state(self, subgraph: int) -> bool:
        """Whether its answer depends on what another signature writes."""
        return any(name in _SHARED for number in self._reached(subgraph) for name in self._operations[number])

    def perhaps_empty(self, subgraph: int) -> Mapping[int, Collection[int]]:
        """The tensors that a run of this subgraph computes, by subgraph, if the values of its inputs may leave some of
        them without elements; otherwise nothing."""
        reached = self._reached(subgraph)
        return (
            {n: self._computed[n] for n in reached} if any(self._sized_by_values[n] for n in reached) else {}
        )

    def _is_sized_by_values(self, graph: Any, names: Sequence[str], computed: Collection[int]) -> bool:
        for number, name in enumerate(names):
            operator = graph.Operators(number)
            sizes = [operator.Inputs(n) for n in range(1, operator.InputsLength())]
            if name in _SIZED_BY_VALUES or (name in _SIZED_BY_INPUTS and any(n in computed for n in sizes)):
                return True
        return False

    def _reached(self, subgraph: int) -> Sequence[int]:
        calls = any(name in _CALLS for name in self._operations[subgraph])
        return range(len(self._operations)) if calls else [subgraph]

    def _operations_of(self, graph: Any, buffers: int) -> Iterator[str]:
        """The name of each; of a custom one, "custom " and its own."""
        tensors = list(_tensors(graph))
        for tensor in tensors:
            _within(tensor.Buffer(), buffers)
            [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            for number in range(operator.InputsLength()):
                _within(operator.Inputs(number), len(tensors), -1)  # -1: an input that is left out
            for number in range(operator.OutputsLength()):
                _within(operator.Outputs(number), len(tensors))
            code = self._codes[operator.OpcodeIndex()]
            custom = _text(code.CustomCode())
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            yield f"custom {custom}" if custom else self._names[builtin]


def _effect(name: str) -> str:
    if name in _DRAWS:
        return f"draws random numbers ({name})"
    if name.startswith("custom ") and name[len("custom ") :] not in _PURE_CUSTOM:
        return f"runs the {name[: len('custom')]} op {name[len('custom ') :]!r}, of which nothing is known"
    return f"{_WRITES[name]} ({name})" if name in _WRITES else ""


def _check_buffers(model: Any, size: int) -> None:
    for buffer in map(model.Buffers, range(model.BuffersLength())):
        if buffer.DataLength():
            buffer.DataAsNumpy()  # raises if it ends behind the file's end
        if buffer.Offset() > 1 and buffer.Offset() + buffer.Size() > size:
            raise ValueError("a buffer ends behind the end of the file")


def _computed(graph: Any) -> Collection[int]:
    """The tensors that operations write; all others are inputs or constants."""
    operators = [graph.Operators(number) for number in range(graph.OperatorsLength())]
    return {each.Outputs(number) for each in operators for number in range(each.OutputsLength())}


def _tensors(graph: Any) -> Iterator[Any]:
    return map(graph.Tensors, range(graph.TensorsLength()))


def _within(number: int, size: int, least: int = 0) -> None:
    if not least <= number < size:
        raise IndexError(number)


def _text(value: bytes | None) -> str:
    return (value or b"").decode()

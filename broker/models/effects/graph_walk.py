"""Walks a GraphDef: its nodes, and the nodes of the functions that they call, at any depth.

A signature of TensorFlow 2 is one node that calls a function, which calls others (tf.cond, tf.while_loop, jit_compile):
the relevant ops are rarely in the graph itself. This module is pure: it reads messages and does not import TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple


class FoundNode(NamedTuple):
    """A NodeDef, and the FunctionDef that contains it; None for a node of the graph itself."""

    node: Any
    function: Any | None

    def __str__(self) -> str:
        where = "" if self.function is None else f" in function {self.function.signature.name!r}"
        return f"op {self.node.op} {self.node.name!r}{where}"


What = Callable[[FoundNode], str]
"""A function that describes a node; an empty text if there is nothing to describe."""


class GraphWalk:
    def __init__(self, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}
        self._functions = {function.signature.name: function for function in graph_def.library.function}

    def marked(self, what: What) -> dict[str, str]:
        """The graph's own nodes that run a node for which `what` gives a text, with the first such text."""
        known: dict[str, str] = {}
        found = {name: self._first(FoundNode(node, None), what, known) for name, node in self._nodes.items()}
        return {name: text for name, text in found.items() if text}

    def _first(self, found: FoundNode, what: What, known: dict[str, str]) -> str:
        text = what(found)
        if text:
            return text
        for name in self._called_by(found.node):
            if name not in known:
                known[name] = ""  # in case it calls itself
                texts = (self._first(inner, what, known) for inner in self._live(name))
                known[name] = next((text for text in texts if text), "")
            if known[name]:
                return known[name]
        return ""

    def _live(self, name: str) -> Iterator[FoundNode]:
        """The nodes of a function that its results or its side effects need."""
        function = self._functions[name]
        nodes = {node.name: node for node in function.node_def}
        wanted = [*function.ret.values(), *function.control_ret.values()]
        for node in _behind(nodes, wanted):
            yield FoundNode(node, function)

    def _called_by(self, node: Any) -> Iterator[str]:
        if node.op in self._functions:
            yield node.op
        for value in node.attr.values():
            for function in (value.func, *value.list.func):
                if function.name in self._functions:
                    yield function.name


def _behind(nodes: dict[str, Any], wanted: Iterable[str]) -> Iterator[Any]:
    """The nodes from which these inputs (`name`, `name:0`, `name:output:0`, `^name`) are computed, including their
    own."""
    todo, seen = list(wanted), set()
    while todo:
        name = todo.pop().removeprefix("^").partition(":")[0]
        if name in seen or name not in nodes:  # an argument of the function
            continue
        seen.add(name)
        yield nodes[name]
        todo += nodes[name].input


# --- properties of nodes ---

_PYTHON = ("EagerPyFunc", "PyFunc", "PyFuncStateless")
_COMPILING = ("XlaCallModule", "XlaLaunch", "_XlaCompile")
_MUST_COMPILE = "_XlaMustCompile"


def calls_python(found: FoundNode) -> str:
    """tf.py_function, tf.numpy_function: the graph only has a number for a function of the process that created it."""
    return f"it calls Python, which is not saved with a graph ({found})" if found.node.op in _PYTHON else ""


def compiles(found: FoundNode) -> str:
    """tf.function(jit_compile=True), jax2tf: XLA compiles code for each new shape, while the first such request
    waits."""
    node, function = found
    marked = node.attr[_MUST_COMPILE].b if _MUST_COMPILE in node.attr else False
    if function is not None and _MUST_COMPILE in function.attr:
        marked = marked or function.attr[_MUST_COMPILE].b
    return f"XLA compiles it ({found})" if marked or node.op in _COMPILING else ""

"""Finds the effects of a run of a signature besides computing, by the ops that it reaches, including ops in functions.

    fetches, targets --inputs, control inputs--> ops of the graph, up to the tensors that are fed
                                                   \\--function attributes--> all ops of the function, and so on

All ops of a function count, because TensorFlow runs a function's stateful ops even if no output needs them. Of the
graph itself, only reached ops count, without branches of conditionals that a constant rules out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.models.effects.op_effects import EffectKind, kind_in_session, kind_of
from broker.models.tf.graph import GraphSignature
from broker.models.tf.runtime import c_api_util, function_pb2, op_def_registry, pywrap_tf_session, tf

Targets = tuple[str, ...]
"""For each argument of a function, the name of the variable, table or queue that it refers to; "" for others."""

_PASSED_ON = ("Identity", "RefIdentity", "Enter", "RefEnter", "Switch", "RefSwitch")
_MOST = 3


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect. `op` is the type of its op, `node` the op's name; `target` names what it changes, if that has a
    name."""

    kind: EffectKind
    op: str
    node: str
    target: str = ""


def effects_of(graph: Any, endpoint: GraphSignature, targets: Sequence[str] = ()) -> tuple[Effect, ...]:
    """Each effect that a run of this endpoint, which also runs the operations `targets`, may have; none if it only
    computes."""
    return EffectFinder(graph).find(endpoint.feeds, [*endpoint.fetches, *targets])


def session_effects_of(
    graph: Any, endpoint: GraphSignature, targets: Sequence[str] = ()
) -> tuple[Effect, ...]:
    """As `effects_of`, and also the files that the run reads, because a session may feed the name of any file."""
    return EffectFinder(graph, kind_in_session).find(endpoint.feeds, [*endpoint.fetches, *targets])


def described(graph: Any, endpoints: Mapping[str, GraphSignature]) -> dict[str, str]:
    """The text of `describe` for each signature."""
    finder = EffectFinder(graph)
    return {name: describe(finder.find(each.feeds, each.fetches)) for name, each in endpoints.items()}


def describe(effects: Iterable[Effect]) -> str:
    """A text about what a run does, which follows a subject: "writes variable 'n'; draws random numbers (op
    RandomUniform 'u')"."""
    of_kind: dict[EffectKind, list[Effect]] = {}
    for effect in effects:
        of_kind.setdefault(effect.kind, []).append(effect)
    return "; ".join(_effects_text(kind, found) for kind, found in of_kind.items())


_WRITES = {
    EffectKind.VARIABLES: ("writes", "variable"),
    EffectKind.TABLES: ("writes", "table"),
    EffectKind.QUEUES: ("moves on", "queue"),
}
_DOES = {
    EffectKind.FILES: "writes files",
    EffectKind.RANDOM: "draws random numbers",
    EffectKind.PYTHON: "calls Python",
    EffectKind.READS: "reads files",
    EffectKind.OTHER: "runs what may have effects",
}


def _effects_text(kind: EffectKind, effects: Sequence[Effect]) -> str:
    first = effects[0]
    where = f"(op {first.op} {first.node!r})"
    if kind in _DOES:
        return f"{_DOES[kind]} {where}"
    verb, noun = _WRITES[kind]
    names = list(dict.fromkeys(effect.target for effect in effects if effect.target))
    if not names:
        return f"{verb} a {noun} {where}"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{verb} {noun}{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:_MOST]))}{more}"


class EffectFinder:
    """Finds effects in one graph. It caches the results for functions, which signatures share."""

    def __init__(self, graph: Any, kind: Callable[[str, bool], EffectKind | None] = kind_of) -> None:
        self._graph = graph
        self._kind_of = kind
        self._known: dict[tuple[str, Targets], tuple[Effect, ...]] = {}

    def find(self, feeds: Iterable[str], fetches: Iterable[str]) -> tuple[Effect, ...]:
        """The effects of a run that feeds and fetches these tensors and operations, all by name."""
        fed = set(feeds)
        wanted = [self._graph.as_graph_element(fetch) for fetch in fetches]
        starts = [each.op if isinstance(each, tf.Tensor) else each for each in wanted if each.name not in fed]
        reached = _reached(starts, fed)
        found = {op: effects for op in reached if (effects := self._of_operation(op, fed))}
        if found:
            dead = _ruled_out(reached, fed)
            found = {op: effects for op, effects in found.items() if op not in dead}
        return tuple(dict.fromkeys(effect for effects in found.values() for effect in effects))

    def all_of(self, graph: Any) -> tuple[Effect, ...]:
        """The effects of all operations of a function's graph."""
        found = [effect for op in graph.get_operations() for effect in self._of_operation(op, set())]
        return tuple(dict.fromkeys(found))

    def _of_operation(self, op: Any, fed: set[str]) -> list[Effect]:
        if op.type == "Const":  # its attributes may be large
            return []
        targets = tuple([_name_behind(tensor) for tensor in op.inputs])
        found = self._of_op(op.type, op.name, targets, op.get_attr)
        for name in _functions_of(op, fed):
            found += self._in_function(name, targets)
        return found

    def _of_op(self, op: str, node: str, targets: Targets, attribute: Any) -> list[Effect]:
        if self._graph._get_function(op) is not None:  # noqa: SLF001 (a call, as TensorFlow 1 writes it)
            return list(self._in_function(op, targets))
        kind = self._kind_of(op, _is_declared(op))
        if kind is None or (op.startswith("CudnnRNN") and not attribute("dropout")):
            return []
        return [Effect(kind, op, node, next(iter(targets), "") if kind in _WRITES else "")]

    def _in_function(self, name: str, arguments: Targets) -> tuple[Effect, ...]:
        """The effects of the function when it is called with these as its last arguments."""
        function = self._graph._get_function(name)  # noqa: SLF001 (no public way to the library of a graph)
        if function is None:
            return (Effect(EffectKind.OTHER, name, name),)
        definition = _definition_of(function)
        count = len(definition.signature.input_arg)
        targets = (("",) * count + arguments)[-count:] if count else ()
        key = name, targets
        if key not in self._known:
            self._known[key] = ()  # during the search: a function that calls itself adds nothing
            self._known[key] = tuple(dict.fromkeys(self._of_body(definition, targets)))
        return self._known[key]

    def _of_body(self, definition: Any, targets: Targets) -> Iterator[Effect]:
        names = dict(zip((argument.name for argument in definition.signature.input_arg), targets))
        nodes = {node.name: node for node in definition.node_def}
        for node in definition.node_def:
            if node.op == "Const":
                continue
            inputs = tuple([_name_in_body(each, names, nodes) for each in node.input if each[0] != "^"])
            yield from self._of_op(node.op, node.name, inputs, lambda name, node=node: node.attr[name].f)
            for value in node.attr.values():
                for called in [value.func, *value.list.func]:
                    if called.name:
                        yield from self._in_function(called.name, inputs)


# --- the graph ---


def _reached(starts: Iterable[Any], fed: set[str]) -> dict[Any, None]:
    """The operations that a run executes, in the order in which they are found."""
    todo = list(dict.fromkeys(starts))
    found = dict.fromkeys(todo)
    while todo:
        op = todo.pop()
        before = [tensor.op for tensor in op.inputs if tensor.name not in fed]
        for each in [*before, *op.control_inputs]:
            if each not in found:
                found[each] = None
                todo.append(each)
    return found


def _definition_of(function: Any) -> Any:
    """The function's FunctionDef. The property `definition` would register it with the eager runtime, under a name that
    another model's function may have."""
    found = function_pb2.FunctionDef()
    with c_api_util.tf_buffer() as buffer, function._c_func.get() as c_function:  # noqa: SLF001 (as Graph does)
        pywrap_tf_session.TF_FunctionToFunctionDef(c_function, buffer)
        found.ParseFromString(pywrap_tf_session.TF_GetBuffer(buffer))
    return found


def _is_declared(op: str) -> bool:
    """Whether the registry lists the op as stateful or as taking references, or does not know it."""
    definition = op_def_registry.get(op)
    if definition is None:
        return True
    return bool(definition.is_stateful) or any(argument.is_ref for argument in definition.input_arg)


def _functions_of(op: Any, fed: set[str]) -> list[str]:
    """The names of the functions among its attributes, without the branch of an If that is never taken."""
    if op.type in ("If", "StatelessIf") and (value := _constant(op.inputs[0], fed)) is not None:
        return [str(op.get_attr("then_branch" if value else "else_branch").name)]
    definition = op_def_registry.get(op.type)
    if definition is None:
        return []
    found: list[str] = []
    for attribute in definition.attr:
        if attribute.type == "func":
            found.append(op.get_attr(attribute.name).name)
        elif attribute.type == "list(func)":
            found += [function.name for function in op.get_attr(attribute.name)]
    return [name for name in found if name]


def _name_behind(tensor: Any) -> str:
    """The name of the variable, table or queue to which this handle refers; "" for any other tensor."""
    while tensor.op.type in _PASSED_ON:
        tensor = tensor.op.inputs[0]
    op = tensor.op
    if not _is_handle(tensor) or op.type == "Placeholder":
        return ""
    shared = op.get_attr("shared_name") if op.type == "VarHandleOp" else b""
    return (shared.decode() if isinstance(shared, bytes) else shared) or str(op.name)


def _is_handle(tensor: Any) -> bool:
    return tensor.dtype == tf.resource or bool(tensor.dtype._is_ref_dtype)  # noqa: SLF001 (as TensorFlow's own)


def _name_in_body(source: str, arguments: Mapping[str, str], nodes: Mapping[str, Any]) -> str:
    """As `_name_behind`, for an input of a node in a function's body."""
    for _ in nodes:
        name = source.partition(":")[0]
        if name in arguments:
            return arguments[name]
        node = nodes.get(name)
        if node is None or not node.input or node.op not in _PASSED_ON:
            return name if node is not None and node.op.endswith(("HandleOp", "TableV2", "QueueV2")) else ""
        source = node.input[0]
    return ""


# --- branches that are never taken ---


def _ruled_out(reached: Mapping[Any, None], fed: set[str]) -> set[Any]:
    """The operations of branches of TensorFlow 1's conditionals that a constant, often `training`, rules out.

    A Switch with a constant predicate gives no value on one side. An operation with an input that has no value gives
    none either, except a Merge, which passes on its other input.
    """
    never: set[str] = set()
    todo: list[Any] = []
    for op in reached:
        if op.type in ("Switch", "RefSwitch") and (value := _constant(op.inputs[1], fed)) is not None:
            todo += _never_made(op.outputs[int(not value)], never, fed)
    dead: set[Any] = set()
    while todo:
        op = todo.pop()
        if op in reached and op not in dead and _is_dead(op, never, dead):
            dead.add(op)
            for tensor in op.outputs:
                todo += _never_made(tensor, never, fed)
            todo += op._control_outputs  # noqa: SLF001 (the counterpart of control_inputs)
    return dead


def _never_made(tensor: Any, never: set[str], fed: set[str]) -> list[Any]:
    """Note that this tensor never has a value, and return its consumers."""
    if tensor.name in fed:
        return []
    never.add(tensor.name)
    return list(tensor.consumers())


def _is_dead(op: Any, never: set[str], dead: set[Any]) -> bool:
    if op.type in ("Merge", "RefMerge"):
        return all(tensor.name in never for tensor in op.inputs)
    return any(tensor.name in never for tensor in op.inputs) or any(
        each in dead for each in op.control_inputs
    )


def _constant(tensor: Any, fed: set[str]) -> bool | None:
    """The value of a predicate that is the same in every run; None if it varies."""
    inverted = False
    while tensor.name not in fed:
        op = tensor.op
        if op.type == "Const":
            return bool(tf.make_ndarray(op.get_attr("value"))) is not inverted
        if op.type not in ("Identity", "LogicalNot", "PlaceholderWithDefault", "Switch"):
            return None
        inverted ^= op.type == "LogicalNot"
        tensor = op.inputs[0]
    return None

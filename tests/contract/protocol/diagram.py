"""The table of states as a Mermaid diagram, for docs/protocol.md.

`python -m tests.contract.protocol.diagram` writes it there anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from worker_client.wire.states import TABLE, Side, State, Step, side_of

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"
_FENCE = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)
_SHORT = {Step.TAKE: "take", Step.READ: "read", Step.FILL: "write", Step.WRITE: "write", Step.FETCH: "read"}


def diagram() -> str:
    """Every step from one state to another, with the side that takes it; those that stay are named in the state."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> free"]
    lines += [f'    state "{state.value}{_stays(state)}" as {_name(state)}' for state in State]
    for (state, step), after in TABLE.items():
        if after is not state:
            lines.append(f"    {_name(state)} --> {_name(after)}: {side_of(step).value} {_verb(step)}")
    return "\n".join([*lines, "```", ""])


def _name(state: State) -> str:
    return state.name.lower()


def _verb(step: Step) -> str:
    return _SHORT.get(step, step.value)


def _stays(state: State) -> str:
    """Who may do what in this state."""
    found: dict[Side, list[str]] = {}
    for step in Step:
        if TABLE.get((state, step)) is state:
            found.setdefault(side_of(step), []).append(_verb(step))
    return "".join(f" ({side.value} may {' and '.join(verbs)})" for side, verbs in found.items())


def in_page() -> str:
    """The diagram as the page has it."""
    found = _FENCE.search(PAGE.read_text())
    assert found, f"{PAGE} has no diagram"
    return found[0]


if __name__ == "__main__":
    PAGE.write_text(_FENCE.sub(lambda _: diagram(), PAGE.read_text(), count=1))

"""Help of long commands is in groups, and no option is forgotten."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from broker.cli import main
from broker.cli.option_groups import GroupedCommand


@pytest.mark.parametrize("name", ["serve", "run", "bench"])
def test_each_option_is_in_one_group(name: str) -> None:
    """A new one has to be put somewhere; only --help stands apart. No group names what is not there."""
    command = main.commands[name]
    assert isinstance(command, GroupedCommand)
    grouped = [each for names in command.groups.values() for each in names]
    assert len(set(grouped)) == len(grouped)
    options = {each.name for each in command.params if isinstance(each, click.Option) and not each.hidden}
    only_of_serve = {"idle_seconds", "supervise"} if name == "run" else set()
    assert set(grouped) == options | only_of_serve


@pytest.mark.parametrize("name", ["serve", "run", "bench"])
def test_help_has_each_option_once_under_its_title(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    command = main.commands[name]
    assert isinstance(command, GroupedCommand)
    lines = result.output.splitlines()
    titles = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == [*command.groups, "Other options"]
    assert "Options" not in titles
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            found = [
                line
                for line in lines
                if line.startswith(("  -", "  --")) and option.opts[-1] in line.split("  ")[1]
            ]
            assert len([line for line in found if option.opts[-1] in line.replace(",", " ").split()]) == 1

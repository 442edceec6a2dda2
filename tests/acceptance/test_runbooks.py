"""Runbooks are read when something is wrong: every command and option they name must exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from lineitem.cli.main import cli

RUNBOOKS = sorted((Path(__file__).parents[2] / "docs" / "runbooks").glob("*.md"))
_COMMAND = re.compile(r"`(lineitem [a-z][^`\n]*)`")


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_the_commands_of_a_runbook_exist(page: Path) -> None:
    """By name, with the options they are shown with."""
    named = _COMMAND.findall(page.read_text())
    assert named or page.stem == "index"
    for text in named:
        words = shlex.split(text, comments=True)[1:]
        command: click.Command = cli
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, text
            command = found
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, text

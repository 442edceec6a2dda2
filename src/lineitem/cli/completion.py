"""``lineitem completion``: the script that makes a shell complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lineitem.cli.output import any_folder


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@any_folder
def completion(shell: str) -> None:
    """Print a shell's completion script: `lineitem completion bash > FILE`, then `. FILE` in ~/.bashrc."""
    from lineitem.cli.main import cli

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "lineitem", "_LINEITEM_COMPLETE").source())

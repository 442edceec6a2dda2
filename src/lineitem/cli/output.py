"""How commands answer: one JSON document on stdout for programs, tables for people, messages on stderr."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from lineitem.app import App

_PIPE_COLUMNS = 200
"""Width of tables that no terminal shows: wide enough not to fold a line item."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Scope:
    """The options every command of a ledger takes."""

    data_dir: Path | None
    namespace: str
    as_json: bool

    @contextmanager
    def app(self, schema_registry: str | None = None, schema_registry_config: Path | None = None) -> Iterator[App]:
        """The ledger, opened. A registry named here counts instead of the environment's."""
        from lineitem.app import App
        from lineitem.kit.config import Config
        from lineitem.kit.db import explained

        # What psycopg has to say about a lost connection comes as an exception too, and that one we explain.
        logging.getLogger("psycopg").addHandler(logging.NullHandler())
        config = Config.read(self.data_dir)
        config = replace(
            config,
            schema_registry=schema_registry or config.schema_registry,
            schema_registry_config=schema_registry_config or config.schema_registry_config,
        )
        with explained(), App(config) as app:
            yield app


def ledger_command(function: F) -> F:
    """Add ``--data-dir``, ``--namespace`` and ``--json``; the command gets them as its ``scope``."""

    @click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="Folder of the embedded ledger and of raw segments.  [default: ./.lineitem]",
    )
    @click.option("--namespace", default="default", show_default=True, help="Tenant partition; isolates everything.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else.")
    @functools.wraps(function)
    def wrapper(*args: Any, data_dir: Path | None, namespace: str, as_json: bool, **kwargs: Any) -> Any:
        return function(*args, scope=Scope(data_dir, namespace, as_json), **kwargs)

    return wrapper  # type: ignore[return-value]


def any_folder(function: F) -> F:
    """For a command without a ledger: let ``--data-dir`` and ``--namespace`` stand before it as before any other."""
    for name in ("--data-dir", "--namespace"):
        function = click.option(name, hidden=True, expose_value=False)(function)
    return function


def print_json(document: object) -> None:
    """One JSON document, readable."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_json_lines(documents: Iterable[object]) -> None:
    """JSON Lines: one document a line."""
    for document in documents:
        sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")


def say(text: str) -> None:
    """A message for people, on stderr."""
    click.echo(text, err=True)


def console(*, stderr: bool = False) -> Console:
    """A rich console; plain where the output is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(stderr=stderr, highlight=False, width=width)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; columns in ``right`` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*[Text("" if cell is None else str(cell)) for cell in row])
    console().print(made)


def fields(pairs: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {value}")


@contextmanager
def progress_bar(label: str, total: int | None, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, silent where ``quiet`` or stderr is no terminal.

    Call it with what is done, and with what there is to do where that was not known before.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done, total=total: bar.update(task, completed=done, total=total)


def write_file(path: Path, content: bytes) -> None:
    """Write a file people named. Raises EnvironmentProblem saying what stands in the way."""
    from lineitem.core.errors import EnvironmentProblem

    try:
        path.write_bytes(content)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot be written: {error.strerror}", where=str(path), do="Name another file."
        ) from error

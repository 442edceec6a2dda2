"""``lineitem fx``: load and show exchange rates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lineitem.cli.lifecycle import acting
from lineitem.cli.output import Scope, ledger_command, print_json, table


@click.group()
def fx() -> None:
    """Exchange rates by day and source, for invoices in one currency."""


@fx.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--correct", is_flag=True, help="Also take rates that differ from known ones; both are kept, the newer counts."
)
@acting
@ledger_command
def load(file: Path, correct: bool, actor: str | None, scope: Scope) -> None:
    """Load a CSV file with the columns date, base, quote, rate, source. Loading it again does nothing."""
    with scope.app() as app:
        done = app.load_rates(scope.namespace, file, correct, actor)
    if scope.as_json:
        print_json(asdict(done))
    elif done.added:
        corrected = f" ({done.corrected} corrected)" if done.corrected else ""
        click.echo(f"Loaded {done.added} rates{corrected} in batch {done.batch}; {done.known} were known.")
    else:
        click.echo(f"Nothing to do: all {done.known} rates are known.")


@fx.command()
@click.option("--date", "day", metavar="YYYY-MM-DD", help="The rates that count on this day.  [default: the newest]")
@click.option("--source", help="Only this source's.")
@click.option(
    "--all", "every", is_flag=True, help="Every rate kept (with --date: of that day), corrected ones included."
)
@ledger_command
def show(day: str | None, source: str | None, every: bool, scope: Scope) -> None:
    """Show the rate of each pair: of a day, or the latest before it."""
    from lineitem.catalog.rate_file import parse_day
    from lineitem.core.errors import UsageError

    on = None if day is None else parse_day(day)
    if day is not None and on is None:
        raise UsageError(f"{day!r} is not a date", do="Write it as YYYY-MM-DD, for example 2026-10-31.")
    with scope.app() as app:
        found = app.rates(scope.namespace, on, source, every)
    if scope.as_json:
        print_json({"rates": found})
        return
    columns = ["date", "base", "quote", "rate", "source", "batch"]
    table("Exchange rates", columns, [[one[name] for name in columns] for one in found], right=["rate"])

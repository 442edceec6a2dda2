"""``lineitem catalog shadow`` and ``simulate``: what drafts of a catalog would have charged for past usage."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineitem.cli.output import Scope, ledger_command, print_json, progress_bar, say, table

if TYPE_CHECKING:
    from lineitem.ledger.shadow_rows import Comparison, Difference, Total, Trial

F = TypeVar("F", bound=Callable[..., Any])


def _usage_options(function: F) -> F:
    """Add what says which usage is rated and how; the command gets it as ``wanted``, two months, accounts, a flag."""

    @click.option("--since", help="The first service month, e.g. 2026-10.  [default: the last full month with usage]")
    @click.option("--until", help="The last service month, included.  [default: the latest with usage]")
    @click.option("--account", "accounts", multiple=True, help="Only this account's usage. Can be given several times.")
    @click.option(
        "--as-dated", is_flag=True, help="Let prices count from their effective_from on, instead of all the time."
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any, since: str | None, until: str | None, accounts: tuple[str, ...], as_dated: bool, **kwargs: Any
    ) -> Any:
        from lineitem.core.period import Month
        from lineitem.ledger.shadow import Wanted

        months = [None if text is None else Month.parse(text) for text in (since, until)]
        return function(*args, wanted=Wanted(months[0], months[1], accounts, as_dated), **kwargs)

    return wrapper  # type: ignore[return-value]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_usage_options
@click.option("--top", default=20, show_default=True, type=click.IntRange(1), help="Rows shown; --json has all.")
@ledger_command
def shadow(file: Path, wanted: Any, top: int, scope: Scope) -> None:
    """Rate past usage with a draft and show what would change, by account and price.

    The draft is not published and nothing is written. Every accepted event of the months is priced again from the raw
    segments. Pricebook versions that are new in FILE count for the whole time, whatever their effective_from, unless
    --as-dated is given. Says too why FILE could not be published as it is.
    """
    found = _compare([file], wanted, scope)
    (trial,) = found.trials
    if scope.as_json:
        print_json(found.document() | trial.document() | {"rows": [row.document() for row in trial.rows]})
        return
    columns = ["account", "price", "currency", "live", "draft", "delta", "%", "events", "notes"]
    rows = [_row(row) for row in trial.rows[:top]]
    table(_title(found), columns, rows, right=["live", "draft", "delta", "%", "events"])
    if len(trial.rows) > top:
        click.echo(f"The {top} largest changes of {len(trial.rows)}; --top shows more, --json all.\n")
    _totals(found)
    _refusals(trial)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@_usage_options
@ledger_command
def simulate(files: tuple[Path, ...], wanted: Any, scope: Scope) -> None:
    """Rate past usage with several drafts, side by side. As `shadow` does, reading the usage only once."""
    found = _compare(files, wanted, scope)
    if scope.as_json:
        print_json(found.document() | {"drafts": [trial.document() for trial in found.trials]})
        return
    _totals(found)
    for trial in found.trials:
        _refusals(trial)


def _compare(files: Sequence[Path], wanted: Any, scope: Scope) -> Comparison:
    from lineitem.catalog.load import load_catalog
    from lineitem.kit.process import tune_for_batches
    from lineitem.ledger.shadow import Candidate

    drafts = [Candidate(str(file), load_catalog(file)) for file in files]
    tune_for_batches()
    with scope.app() as app, progress_bar("Rating", None, quiet=scope.as_json) as show:
        found = app.shadow(scope.namespace, drafts, wanted, show)
    if found.chosen and not scope.as_json:
        say(f"Service months {found.since} to {found.until}; --since and --until choose others.")
    return found


def _title(found: Comparison) -> str:
    return f"{found.trials[0].draft}, usage of {found.since} to {found.until}"


def _row(row: Difference) -> list[object]:
    document = row.document()
    counts = {
        "priced zero": row.zero_priced,
        "unpriced": row.unpriced,
        "not billable": row.not_billable,
        "dead letters": row.dead_lettered,
        "new": max(row.draft_events - row.events, 0),
    }
    notes = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    values = [document[name] for name in ("account", "price", "currency", "live", "draft", "delta", "delta_percent")]
    return [*values, f"{row.events:,}", notes]


def _totals(found: Comparison) -> None:
    """One column for each draft: its sums per currency and what needs a look."""
    names = [trial.draft for trial in found.trials]
    every = {total.currency: total.document()["live"] for trial in found.trials for total in trial.totals()}
    rows: list[list[object]] = []
    for currency in sorted(every):
        sums = [_total_of(trial, currency) for trial in found.trials]
        rows.append([f"total {currency}", every[currency], *(one["draft"] for one in sums)])
        rows.append(["  delta", "", *(one["delta"] for one in sums)])
        rows.append(["  delta %", "", *(one["delta_percent"] for one in sums)])
        rows.append(["  largest delta", "", *(one["max_delta"] for one in sums)])
        rows.append(["  accounts changed", "", *(one["accounts_changed"] for one in sums)])
    rows.append(["events", f"{found.events:,}", *(f"{trial.events:,}" for trial in found.trials)])
    rows.append(["  priced zero", "", *(f"{trial.zero_priced:,}" for trial in found.trials)])
    for name, title in (("unpriced", "unpriced"), ("not_billable", "not billable"), ("dead_lettered", "dead letters")):
        rows.append([f"  {title}", "", *(f"{trial.losses[name]:,}" for trial in found.trials)])
    table(f"Totals, {found.since} to {found.until}", ["", "live", *names], rows, right=["live", *names])
    for name, why in found.not_compared.items():
        click.echo(f"Not compared, neither above nor in the totals: {name} ({why}).\n")
    for why in sorted(set(found.in_part.values())):
        some = ", ".join(name for name, reason in found.in_part.items() if reason == why)
        click.echo(f"Compared in part: {some} ({why}).\n")


def _total_of(trial: Trial, currency: str) -> dict[str, Any]:
    from lineitem.ledger.shadow_rows import Total as Sums

    found: Total = next((total for total in trial.totals() if total.currency == currency), Sums(currency))
    return found.document()


def _refusals(trial: Trial) -> None:
    if trial.refusals:
        click.echo(f"{trial.draft} cannot be published as it is:")
        click.echo("\n".join(f"  {problem}" for problem in trial.refusals))
    else:
        click.echo(f"{trial.draft} can be published as it is.")

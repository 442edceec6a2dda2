"""``lineitem canary``: bill some accounts by new prices, watch the difference, let more in, stop, or give it to everybody."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineitem.cli.lifecycle import acting, instant_option_us
from lineitem.cli.output import Scope, ledger_command, print_json, say, table

if TYPE_CHECKING:
    from lineitem.app import App
    from lineitem.ledger.canary import Checked, Choice, Done

F = TypeVar("F", bound=Callable[..., Any])
_ROWS_SHOWN = 20
_NAME = click.argument("name")


@click.group()
def canary() -> None:
    """Bill some accounts by new prices, and see what the others would have charged."""


def _choosing(function: F) -> F:
    """Add the ways to say who is in; the command gets them as ``choice``."""

    @click.option("--percent", help="A share of the accounts, by a stable hash of their id.")
    @click.option("--cohort", help="Accounts whose tag `cohort` has this value; TAG=VALUE for another tag.")
    @click.option("--accounts", help="These accounts, with commas between.")
    @click.option("--flag", help="Accounts for which this feature flag is true; with --flags-file.")
    @click.option("--flags-file", type=click.Path(path_type=Path), help="A flagd file of feature flags (JSON).")
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        percent: str | None,
        cohort: str | None,
        accounts: str | None,
        flag: str | None,
        flags_file: Path | None,
        **kwargs: Any,
    ) -> Any:
        choice = _choice(percent, cohort, accounts, flag, flags_file)
        return function(*args, choice=choice, **kwargs)

    return wrapper  # type: ignore[return-value]


def _choice(
    percent: str | None, cohort: str | None, accounts: str | None, flag: str | None, flags_file: Path | None
) -> Choice:
    from lineitem.catalog.canary import percentage
    from lineitem.core.errors import UsageError
    from lineitem.ledger.canary import Choice

    if sum(one is not None for one in (percent, cohort, accounts, flag)) != 1:
        raise UsageError("say who is in it", do="One of --percent, --cohort, --accounts, --flag with --flags-file.")
    if (flag is None) != (flags_file is None):
        raise UsageError("--flag and --flags-file belong together", do="Give both.")
    if percent is not None:
        return Choice(percent=percentage(percent))
    if accounts is not None:
        return Choice(accounts=tuple(name.strip() for name in accounts.split(",") if name.strip()))
    if flag is not None and flags_file is not None:
        from lineitem.app import flag_of

        return Choice(flag=flag, evaluate=flag_of(flags_file, flag))
    return Choice(cohort=cohort or "")


@canary.command()
@click.argument("file", type=click.Path(path_type=Path))
@_choosing
@click.option("--name", help="What to call it.  [default: the pricebook and the number of the new version]")
@click.option("--salt", default="", help="Mixed into the hash: another one, another choice.  [default: the name]")
@click.option("--bound-percent", help="Stop it when all members together pay this much more or less, in percent.")
@click.option("--account-bound-percent", help="Stop it when one member pays this much more or less, in percent.")
@click.option("--from", "since", metavar="INSTANT", help="When it may begin.  [default: the version's effective_from]")
@acting
@ledger_command
def start(
    file: Path,
    choice: Any,
    name: str | None,
    salt: str,
    bound_percent: str | None,
    account_bound_percent: str | None,
    since: str | None,
    actor: str | None,
    scope: Scope,
) -> None:
    """Bill some accounts by the new pricebook version of a catalog FILE.

    It begins with a service period: the first month that starts at or after --from. A month in which an account has usage
    already stays with the prices it was rated by, and the account joins with the next one.
    """
    from dataclasses import replace

    from lineitem.catalog.canary import Bounds
    from lineitem.catalog.load import load_catalog
    from lineitem.core.errors import UsageError

    found = load_catalog(file)
    if salt and choice.percent is None:
        raise UsageError("--salt goes with --percent", do="Leave it out.")
    bounds = Bounds(_bound(bound_percent, "--bound-percent"), _bound(account_bound_percent, "--account-bound-percent"))
    from_us = None if since is None else instant_option_us(since)
    with scope.app() as app:
        done = app.canary_start(scope.namespace, found, replace(choice, salt=salt), bounds, name, from_us, actor)
    change = done.change
    text = f"Canary {change.canary}: {change.chosen}, prices of {change.pricebook} version {change.version}, from "
    _say(scope, done, f"{text}{_month(change.from_month)} on")


@canary.command()
@_NAME
@_choosing
@acting
@ledger_command
def ramp(name: str, choice: Any, actor: str | None, scope: Scope) -> None:
    """Change who is in a canary. A higher percentage keeps those who are.

    Accounts without usage since the canary began come in or go at once, others with their next service period.
    """
    with scope.app() as app:
        done = app.canary_ramp(scope.namespace, name, choice, actor)
    _say(scope, done, f"Canary {name}: {done.change.chosen}")


@canary.command()
@_NAME
@click.option("--reason", required=True, help="Why; kept with the name and the time.")
@acting
@ledger_command
def stop(name: str, reason: str, actor: str | None, scope: Scope) -> None:
    """Let nobody else in; members go back to their pricebook with their next service period."""
    with scope.app() as app:
        done = app.canary_stop(scope.namespace, name, reason, actor)
    _say(scope, done, f"Canary {name} stopped: {reason}")


@canary.command()
@_NAME
@click.option("--from", "since", metavar="INSTANT", help="The start of a month.  [default: after the last usage]")
@acting
@ledger_command
def finish(name: str, since: str | None, actor: str | None, scope: Scope) -> None:
    """Give everybody the canary's prices, as the next version of the pricebook, from the start of a month on."""
    from_us = None if since is None else instant_option_us(since)
    with scope.app() as app:
        done = app.canary_finish(scope.namespace, name, from_us, actor)
    text = f"Canary {name} finished: its prices are for everybody from {_month(done.change.from_month)} on"
    _say(scope, done, text)


@canary.command()
@ledger_command
def check(scope: Scope) -> int:
    """Work out what running canaries' members would have paid otherwise, store it, and stop what passes its bounds.

    `ingest` and `bill` do this too. Ends with 1 when a canary has stopped itself and none follows on its pricebook yet.
    """
    with scope.app() as app:
        found = app.canary_check(scope.namespace)
    if scope.as_json:
        print_json({"canaries": [one.document() for one in found]})
    else:
        for one in found:
            _show_rows(f"Canary {one.canary}", one.document())
        if not found:
            click.echo("No canary is running.")
    tell_stopped(found)
    return 1 if any(one.stopped for one in found) else 0


def check_canaries(app: App, namespace: str) -> None:
    """Check running canaries after a command's own work, which stands whatever comes of this."""
    from lineitem.core.errors import LineitemError

    try:
        checked = app.canary_check(namespace)
    except LineitemError as error:
        say(f"lineitem: canaries were not checked: {error}")
        return
    tell_stopped([one for one in checked if one.fresh])


def tell_stopped(found: Sequence[Checked]) -> None:
    """Say on stderr which canaries a check has stopped, and why."""
    for one in found:
        if one.stopped:
            say(f"lineitem: canary {one.canary} stopped itself: {'; '.join(one.breaches)}")


@canary.command()
@click.argument("name", required=False)
@ledger_command
def status(name: str | None, scope: Scope) -> None:
    """Show canaries, or one: who is in it, what members paid and what they would have otherwise, and its steps."""
    with scope.app() as app:
        found: list[dict[str, Any]] = app.canary_status(scope.namespace, name)
    if scope.as_json:
        print_json({"canaries": found})
        return
    for one in found:
        accounts = one["accounts"]
        click.echo(
            f"{one['canary']}, {one['state']}: {one['chosen']}, pricebook {one['pricebook']}, from {one['from']} on; "
            f"{accounts['canary']:,} accounts in it, {accounts['stable']:,} not"
        )
        steps = [
            (step["act"], step["chosen"], step["by"], step["at"], step["held_back"], step["reason"])
            for step in one["steps"]
        ]
        table("", ["step", "members", "by", "at", "with their next month", "reason"], steps)
        _show_rows("Last check", one)
    if not found:
        click.echo("There is no canary.")


def _show_rows(title: str, one: dict[str, Any]) -> None:
    columns = ["account", "period", "price", "currency", "amount", "other", "delta", "delta_percent"]
    rows = sorted(one["rows"], key=lambda row: row["account"])[:_ROWS_SHOWN]
    sums = [{"account": "total", "period": "", "price": "", **total} for total in one["totals"]]
    table(title, columns, [[row[name] for name in columns] for row in (*rows, *sums)], right=columns[4:])
    if len(one["rows"]) > _ROWS_SHOWN:
        click.echo(f"{_ROWS_SHOWN} of {len(one['rows']):,} rows; --json has all.\n")


def _bound(text: str | None, option: str) -> Any:
    from lineitem.catalog.canary import percentage

    return None if text is None else percentage(text, option)


def _month(index: int) -> str:
    from lineitem.core.period import Month

    return str(Month.from_index(index))


def _say(scope: Scope, done: Done, text: str) -> None:
    number = None if done.draft is None else done.draft.number
    change = done.change
    if scope.as_json:
        print_json(
            {
                "namespace": scope.namespace,
                "canary": change.canary,
                "act": change.act.value,
                "pricebook": change.pricebook,
                "candidate_version": change.version,
                "from": _month(change.from_month),
                "chosen": change.chosen,
                "revision": done.revision,
                "draft": number,
            }
        )
    elif number is None:
        click.echo(f"{text} (revision {done.revision}).")
    else:
        click.echo(f"Draft {number}: {text}. It needs approval: lineitem catalog approve {number}")

"""``lineitem gaps``: numbers of a producer that never arrived: list, show, waive, open again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lineitem.cli.lifecycle import acting
from lineitem.cli.output import Scope, fields, ledger_command, print_json, table
from lineitem.core.limits import SEQUENCE_MAX

F = TypeVar("F", bound=Callable[..., Any])
_NUMBER = click.IntRange(0, SEQUENCE_MAX)
_STATES = click.Choice(["missing", "set_aside", "waived", "sequence_reused", "all"])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.group()
def gaps() -> None:
    """Gaps: events that a producer numbered and that never arrived."""


@gaps.command("list")
@click.option("--source", metavar="SOURCE", help="Only this producer.")
@click.option("--older-than", metavar="AGE", help="Only what was noticed so long ago, e.g. 90s, 5m, 2h, 1d.")
@click.option("--state", type=_STATES, default="missing", show_default=True, help="Only numbers in this state.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="At most so many.")
@ledger_command
def list_(source: str | None, older_than: str | None, state: str, limit: int, scope: Scope) -> None:
    """List gaps, those noticed first at the top. A gap closes by itself when its events arrive, by whatever way.

    Numbers are `missing`, `waived` (lost for good, somebody said), `set_aside` (they arrived, as dead letters) or
    `sequence_reused` (two different events have them).
    """
    from lineitem.ingest.producers import STATES
    from lineitem.ledger.gaps import listed, summary

    older_than_us = None if older_than is None else _seconds(older_than) * 1_000_000
    with scope.app() as app:
        now_us = app.clock.now_us()
        states = STATES if state == "all" else (state,)
        found = listed(
            app.control, scope.namespace, now_us, states=states, source=source, older_than_us=older_than_us, limit=limit
        )
        counts = summary(app.control, scope.namespace, source)
    if scope.as_json:
        print_json({"gaps": found, "summary": counts})
        return
    if found:
        _show_runs("", found)
    elif not counts["producers"]:
        click.echo("No event had a sequence so far: producers set the CloudEvents attribute `sequence`.")
    else:
        what = "No gaps" if state == "missing" else f"No numbers are {state}" if state != "all" else "Nothing to tell"
        click.echo(what + (f" older than {older_than}." if older_than else "."))
    if len(found) == limit:
        click.echo(f"The first {limit}: there may be more, --limit shows them.")
    if counts["producers"]:
        click.echo(_all_counts(counts))


def _all_counts(counts: dict[str, Any]) -> str:
    """``2 producers: 3 missing (2 gaps), 1 set_aside``."""
    parts = []
    for state in ("missing", "waived", "set_aside", "sequence_reused"):
        one = counts[state]
        if one["count"]:
            gaps_ = "" if state != "missing" else " (1 gap)" if one["runs"] == 1 else f" ({one['runs']} gaps)"
            parts.append(f"{one['count']} {state}{gaps_}")
    if counts["sequence_unreadable"]:
        parts.append(f"{counts['sequence_unreadable']} sequence_unreadable")
    many = "1 producer" if counts["producers"] == 1 else f"{counts['producers']} producers"
    return f"{many}: {', '.join(parts) or 'no number is missing'}."


def _show_runs(title: str, found: list[dict[str, Any]]) -> None:
    from lineitem.core.period import age_text

    columns = ["source", "from", "to", "count", "state", "noticed", "age"]
    rows = [
        [*(one[name] for name in columns[:-1]), "" if one["noticed"] is None else age_text(one["age_seconds"])]
        for one in found
    ]
    table(title, columns, rows, right=["from", "to", "count", "age"])


@gaps.command()
@click.argument("source", metavar="SOURCE")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="At most so many runs."
)
@ledger_command
def show(source: str, limit: int, scope: Scope) -> None:
    """Show one producer: how far it was seen, its gaps and other oddities, and who waived what and why."""
    from lineitem.ledger.gaps import shown

    with scope.app() as app:
        found = shown(app.control, scope.namespace, source, app.clock.now_us(), limit)
    if scope.as_json:
        print_json(found)
        return
    runs, history = found.pop("runs"), found.pop("history")
    fields({name: value["count"] if isinstance(value, dict) else value for name, value in found.items()})
    if runs:
        _show_runs("Runs of numbers", runs)
    if history:
        rows = [
            [one["at"], one["act"], _runs_text(one["runs"]), one["by"], one["reason"], one["place"]] for one in history
        ]
        table("What was said", ["when", "what", "numbers", "by", "why", "where"], rows)


def _runs_text(runs: list[dict[str, str]]) -> str:
    shown_ = [one["from"] if one["from"] == one["to"] else f"{one['from']}-{one['to']}" for one in runs[:10]]
    return ", ".join(shown_) + (f" and {len(runs) - 10} more" if len(runs) > 10 else "")


def _act(function: F) -> F:
    """What both acts take."""
    for add in (
        acting,
        click.option("--reason", required=True, help="Why; stays in the audit trail."),
        click.argument("last", type=_NUMBER, metavar="TO"),
        click.argument("first", type=_NUMBER, metavar="FROM"),
        click.argument("source", metavar="SOURCE"),
    ):  # fmt: skip
        function = add(function)
    return function


@gaps.command()
@_act
@ledger_command
def waive(source: str, first: int, last: int, reason: str, actor: str | None, scope: Scope) -> None:
    """Say that what is missing FROM one number TO another is lost for good: it is listed as a gap no more.

    Only numbers that are missing now are waived. An event that arrives after all is billed as any other.
    """
    with scope.app() as app:
        done = app.waive_gap(scope.namespace, source, first, last, actor, reason)
    _tell(scope, "waived", source, done, reason)


@gaps.command()
@_act
@ledger_command
def reopen(source: str, first: int, last: int, reason: str, actor: str | None, scope: Scope) -> None:
    """Take back what was waived FROM one number TO another: what is still missing is a gap again."""
    with scope.app() as app:
        done = app.reopen_gap(scope.namespace, source, first, last, actor, reason)
    _tell(scope, "reopened", source, done, reason)


def _tell(scope: Scope, what: str, source: str, runs: list[tuple[int, int]], reason: str) -> None:
    count = sum(last - first + 1 for first, last in runs)
    shown_ = [{"from": str(first), "to": str(last)} for first, last in runs]
    if scope.as_json:
        print_json({"source": source, what: count, "runs": shown_, "reason": reason})
    else:
        click.echo(f"{what.capitalize()} {count} of {source}: {_runs_text(shown_)}.")


def _seconds(age: str) -> int:
    """``5m`` in seconds. Raises UsageError."""
    from lineitem.core.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,9})([smhd])", age, re.ASCII)
    if found is None:
        raise UsageError(f"{age!r} is no age", do="Write a number and s, m, h or d, e.g. --older-than 5m.")
    return int(found[1]) * _UNITS[found[2]]

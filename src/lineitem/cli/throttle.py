"""``lineitem throttle``: pause or limit accounts, event types and sources while usage comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lineitem.cli.dlq import per_second_option, retrying
from lineitem.cli.lifecycle import acting
from lineitem.cli.output import Scope, ledger_command, print_json, progress_bar, say, table

if TYPE_CHECKING:
    from lineitem.app import App
    from lineitem.ledger.throttling import Target

_REASON = click.option("--reason", required=True, help="Why; it stays in the audit trail.")


@click.group()
def throttle() -> None:
    """Pause or limit accounts, event types and sources while usage comes in. Nothing is lost, the rest goes on."""


@throttle.command("set")
@click.option("--account", metavar="ID", help="Events of this account wait; those of others go on.")
@click.option("--type", "type_", metavar="TYPE", help="Events of this type wait.")
@click.option(
    "--source",
    metavar="NAME",
    help="This source is not read, or no faster: the name behind `ingest --source`, or kafka:TOPIC, kafka:TOPIC/PARTITION.",
)
@click.option("--each-account", is_flag=True, help="Every account that has no limit of its own, for itself.")
@click.option("--pause", is_flag=True, help="Nothing goes on.")
@click.option("--rate", metavar="N/s", help="So many events a second go on, e.g. 200/s.")
@click.option("--until", metavar="INSTANT", help="When it ends by itself, e.g. 2026-11-01T00:00:00Z.")
@_REASON
@acting
@ledger_command
def set_(
    account: str | None,
    type_: str | None,
    source: str | None,
    each_account: bool,
    pause: bool,
    rate: str | None,
    until: str | None,
    reason: str,
    actor: str | None,
    scope: Scope,
) -> None:
    """Pause or limit an account, an event type or a source. What counted for it before is replaced.

    Running workers and `ingest` heed it within a second or two. A source is simply not read further. Events of an account or
    type wait as dead letters `paused` or `throttled` and are billed by themselves, once and at their own time, as soon as
    the switch lets them.
    """
    from lineitem.cli.lifecycle import instant_option_us
    from lineitem.core.errors import UsageError
    from lineitem.ledger.throttling import told

    target = _target(account, type_, source, each_account)
    if pause == (rate is not None):
        raise UsageError("either --pause or --rate N/s", do="A switch stops, or it limits.")
    per_second = per_second_option(rate)
    until_us = None if until is None else instant_option_us(until)
    with scope.app() as app:
        made = app.throttle_set(scope.namespace, target, per_second, until_us, actor, reason)
        shown = told(made, app.clock.now_us())
    if scope.as_json:
        print_json(shown)
        return
    how = "paused" if per_second is None else f"limited to {per_second}/s"
    end = "" if shown["until"] is None else f" until {shown['until']}"
    click.echo(f"Switch {made.number}: {target} is {how}{end}.")


def _target(account: str | None, type_: str | None, source: str | None, each_account: bool) -> Target:
    """What the options name. Raises UsageError unless that is one thing."""
    from lineitem.core.errors import UsageError
    from lineitem.ingest.throttle import What
    from lineitem.ledger.throttling import Target

    named = [(What.ACCOUNT, account), (What.TYPE, type_), (What.SOURCE, source)]
    found = [Target(what, name) for what, name in named if name is not None]
    found += [Target(What.EACH_ACCOUNT, "")] if each_account else []
    if len(found) != 1:
        raise UsageError("a switch is about one thing", do="Give one of --account, --type, --source, --each-account.")
    return found[0]


@throttle.command("list")
@click.option("--all", "every", is_flag=True, help="Those that were cleared or have ended, too.")
@ledger_command
def list_(every: bool, scope: Scope) -> None:
    """List switches in force, and how much waits because of each."""
    from lineitem.ledger.throttling import shown

    with scope.app() as app:
        found = shown(app.control, scope.namespace, app.clock.now_us(), every=every)
    if scope.as_json:
        print_json({"switches": found})
        return
    if not found:
        click.echo("Nothing is paused or limited.")
        return
    columns = ["switch", "what", "name", "state", "until", "waiting", "waiting since", "by", "reason", "since"]
    rows = [
        [one["number"], one["what"], one["name"], _state(one), one["until"], one["waiting"], one["waiting_since"],
         one["by"], one["reason"], one["since"]]
        for one in found
    ]  # fmt: skip
    table("Switches", columns, rows, right=["switch", "waiting"])


def _state(one: dict[str, Any]) -> str:
    return f"{one['per_second']}/s" if one["state"] == "limited" else str(one["state"])


@throttle.command()
@click.argument("numbers", nargs=-1, type=click.IntRange(1), metavar="[NUMBER]...")
@click.option("--account", metavar="ID", help="The switch of this account.")
@click.option("--type", "type_", metavar="TYPE", help="The switch of this type.")
@click.option("--source", metavar="NAME", help="The switch of this source.")
@click.option("--each-account", is_flag=True, help="The limit that each account has.")
@_REASON
@retrying
@acting
@ledger_command
def clear(
    numbers: tuple[int, ...],
    account: str | None,
    type_: str | None,
    source: str | None,
    each_account: bool,
    reason: str,
    retry: bool,
    actor: str | None,
    scope: Scope,
) -> None:
    """Lift switches, by number or by what they are about. What waited because of them is billed now.

    With `--no-retry` that is left to a running worker or the next `ingest`.
    """
    from lineitem.ledger.throttling import told

    with scope.app() as app:
        if any((account is not None, type_ is not None, source is not None, each_account)):
            numbers += (_number_of(app, scope.namespace, _target(account, type_, source, each_account)),)
        _one_at_least(numbers)
        cleared = app.throttle_clear(scope.namespace, numbers, actor, reason)
        shown = [told(one, app.clock.now_us()) for one in cleared]
        released = release_waiting(app, scope, wanted=retry)
    if scope.as_json:
        print_json({"cleared": shown} | released)
        return
    for one in shown:
        click.echo(f"Switch {one['number']} is cleared: {one['what']} {one['name']}".rstrip())


def _one_at_least(numbers: tuple[int, ...]) -> None:
    from lineitem.core.errors import UsageError

    if not numbers:
        raise UsageError("which switch?", do="Give its number: `lineitem throttle list` shows them.")


def _number_of(app: App, namespace: str, target: Target) -> int:
    from lineitem.core.errors import InputError
    from lineitem.ledger.throttling import shown

    for one in shown(app.control, namespace, app.clock.now_us(), every=True):
        if (one["what"], one["name"]) == target:
            return int(one["number"])
    raise InputError(f"there is no switch for {target}", do="`lineitem throttle list` shows them.")


def release_waiting(app: App, scope: Scope, *, wanted: bool) -> dict[str, Any]:
    """Let go on what may: ``{"released": ...}``, or {} where nothing did; says so on stderr.

    Costs nobody the answer of what was done before it: where it cannot be finished, that is said, and the next run tries.
    """
    from lineitem.core.errors import LineitemError

    if not wanted:
        return {}
    try:
        with progress_bar("Releasing", None, quiet=scope.as_json) as progress:
            done = app.release(scope.namespace, progress)
    except LineitemError as error:
        say(f"Records that waited could not go on: {error}")
        return {}
    if not done.batches:
        return {}
    found = done.document()
    say(f"Records that waited for a switch: {found['received']} went on, {found['itemized']} of them itemized.")
    return {"released": found}

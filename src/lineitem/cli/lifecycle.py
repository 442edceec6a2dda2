"""``lineitem catalog``: drafts, their review and approval, ends and rollbacks, and the list of it all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineitem.cli.output import Scope, ledger_command, print_json, table

if TYPE_CHECKING:
    from lineitem.catalog.draft import Draft

F = TypeVar("F", bound=Callable[..., Any])


def acting(function: F) -> F:
    """Add ``--as``, which may be written ``--by``: who acts. The command gets it as ``actor``."""
    return click.option(
        "--as",
        "--by",
        "actor",
        metavar="NAME",
        help="Who acts.  [default: LINEITEM_ACTOR, else the operating system's user]",
    )(function)


_NOTE = click.option("--note", default="", help="What there is to say about it; kept with the name and the time.")
_FILE = click.argument("file", type=click.Path(path_type=Path))
_DRAFT = click.argument("draft", type=click.IntRange(min=1))


def instant_option_us(text: str) -> int:
    """An instant behind an option, microseconds since the epoch. Raises UsageError for what is none."""
    from lineitem.catalog.fields import instant_us
    from lineitem.core.errors import UsageError

    found, defect = instant_us(text)
    if found is None:
        raise UsageError(f"{text!r} {defect}", do="Write an instant, e.g. 2026-11-01T00:00:00Z.")
    return found


def say_draft(scope: Scope, made: Draft, text: str, **more: object) -> None:
    """A draft as JSON, or what became of it in words."""
    from lineitem.ledger.drafting import told

    if scope.as_json:
        print_json(told(made) | more)
    else:
        click.echo(text)


@click.command()
@_FILE
@_NOTE
@acting
@ledger_command
def draft(file: Path, note: str, actor: str | None, scope: Scope) -> None:
    """Store a catalog file as a draft; nothing is put in force."""
    from lineitem.catalog.load import load_catalog

    found = load_catalog(file)
    with scope.app() as app:
        made = app.draft(scope.namespace, found, actor, note)
    say_draft(scope, made, f"Draft {made.number} by {made.author}. Next: lineitem catalog review {made.number}")


@click.command()
@_DRAFT
@_NOTE
@acting
@ledger_command
def review(draft: int, note: str, actor: str | None, scope: Scope) -> None:
    """Say that a draft was reviewed, and what there is to say."""
    from lineitem.catalog.draft import Act

    with scope.app() as app:
        made, _ = app.step(scope.namespace, draft, Act.REVIEW, actor, note)
    say_draft(scope, made, f"Draft {draft}: reviewed by {made.steps[-1].by}.")


@click.command()
@_DRAFT
@_NOTE
@acting
@ledger_command
def approve(draft: int, note: str, actor: str | None, scope: Scope) -> None:
    """Approve a draft; with `four_eyes`, somebody else than its author."""
    from lineitem.catalog.draft import Act

    with scope.app() as app:
        made, _ = app.step(scope.namespace, draft, Act.APPROVE, actor, note)
    say_draft(
        scope, made,
        f"Draft {draft}: approved by {made.steps[-1].by}. Next: lineitem catalog publish --draft {draft}",
    )  # fmt: skip


@click.command()
@click.argument("pricebook")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--until", required=True, metavar="INSTANT", help="Its end, excluded; at or before its start withdraws it."
)
@acting
@ledger_command
def retire(pricebook: str, version: int, until: str, actor: str | None, scope: Scope) -> None:
    """End a published version at an instant after which nothing has used it."""
    from lineitem.catalog.draft import Retirement

    wanted = Retirement(pricebook, version, instant_option_us(until))
    with scope.app() as app:
        revision, made = app.retire(scope.namespace, wanted, actor)
    _say_outcome(scope, f"{pricebook} version {version} ends at {until}", pricebook, version, revision, made)


@click.command()
@click.argument("pricebook")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--from", "since", required=True, metavar="INSTANT", help="When the old prices take effect again.")
@acting
@ledger_command
def rollback(pricebook: str, version: int, since: str, actor: str | None, scope: Scope) -> None:
    """Publish the prices of an old version again, as the next version, from an instant on."""
    from_us = instant_option_us(since)
    with scope.app() as app:
        new, revision, made = app.rollback(scope.namespace, pricebook, version, from_us, actor)
    text = f"{pricebook} version {new.version} has the prices of version {version} from {since} on"
    _say_outcome(scope, text, pricebook, new.version, revision, made)


def _say_outcome(scope: Scope, text: str, pricebook: str, version: int, revision: int, made: Draft | None) -> None:
    number = None if made is None else made.number
    if scope.as_json:
        print_json(
            {
                "namespace": scope.namespace,
                "pricebook": pricebook,
                "version": version,
                "revision": revision,
                "draft": number,
            }
        )
    elif number is None:
        click.echo(f"{text} (revision {revision}).")
    else:
        click.echo(f"Draft {number}: {text}. It needs approval: lineitem catalog approve {number}")


@click.command(name="list")
@ledger_command
def list_(scope: Scope) -> None:
    """List drafts and published versions: state, who, when, digest."""
    with scope.app() as app:
        found: dict[str, Any] = app.catalog_history(scope.namespace)
    if scope.as_json:
        print_json(found)
        return
    drafts = [
        (one["draft"], one["what"], one["state"], ", ".join(f"{step['act']} {step['by']}" for step in one["steps"]),
         one["steps"][-1]["at"], one["digest"][:12])
        for one in found["drafts"]
    ]  # fmt: skip
    if drafts:
        table("Drafts", ["draft", "what", "state", "who", "last", "digest"], drafts)
    versions = [
        (one["pricebook"], one["version"], one["state"] + (", in force" if one["in_force"] else ""), one["effective_from"],
         one["effective_until"], one["retired_by"] or one["published_by"], one["retired_at"] or one["published_at"],
         one["digest"][:12])
        for one in found["versions"]
    ]  # fmt: skip
    table("Versions", ["pricebook", "version", "state", "from", "until", "who", "when", "digest"], versions)


COMMANDS = (draft, review, approve, retire, rollback, list_)

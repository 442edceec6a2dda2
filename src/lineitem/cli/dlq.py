"""``lineitem dlq``: what was set aside, and why."""

from __future__ import annotations

import click

from lineitem.cli.output import Scope, fields, ledger_command, print_json, table


@click.group()
def dlq() -> None:
    """Dead letters: records that were set aside instead of billed, each with a reason code."""


@dlq.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@ledger_command
def list_(limit: int, scope: Scope) -> None:
    """List dead letters, newest first, and count all of them by reason."""
    from lineitem.ingest import letters

    with scope.app() as app:
        found = letters.dead_letters(app.control, scope.namespace, limit)
        reasons = letters.reasons(app.control, scope.namespace)
    if scope.as_json:
        print_json({"dead_letters": found, "reasons": reasons})
        return
    columns = ["key", "reason", "detail", "stream", "position", "seen"]
    table("Dead letters", columns, [[one[name] for name in columns] for one in found], right=["position", "seen"])
    counts = [[reason, count["dead_letters"], count["records"]] for reason, count in reasons.items()]
    table("By reason", ["reason", "dead letters", "records"], counts, right=["dead letters", "records"])


@dlq.command()
@click.argument("key", type=int)
@ledger_command
def show(key: int, scope: Scope) -> None:
    """Show one dead letter whole: its raw record, why it was set aside, and what to do."""
    from lineitem.ingest import letters

    with scope.app() as app:
        found = letters.dead_letter(app.control, scope.namespace, key)
    if scope.as_json:
        print_json(found)
    else:
        fields(found)

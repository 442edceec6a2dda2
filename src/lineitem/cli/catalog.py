"""``lineitem catalog``: check, publish, compare and show; trying a draft on past usage is in ``cli/shadow.py``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lineitem.cli.dlq import retry_letters, retrying
from lineitem.cli.lifecycle import COMMANDS, acting, say_draft
from lineitem.cli.output import Scope, any_folder, ledger_command, print_json, table
from lineitem.cli.shadow import shadow, simulate


@click.group()
def catalog() -> None:
    """Check, draft, try, publish, compare and show catalogs: meters, prices, accounts."""


for _command in (*COMMANDS, shadow, simulate):
    catalog.add_command(_command)

_FILE = click.argument("file", type=click.Path(path_type=Path))


@catalog.command()
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else.")
@any_folder
def check(file: Path, as_json: bool) -> int:
    """Check a catalog file; nothing is published. Every problem is named with its line."""
    from lineitem.catalog.load import content_digest, load_catalog
    from lineitem.core.errors import CatalogError

    try:
        found = load_catalog(file)
    except CatalogError as error:
        if not as_json:
            raise
        print_json({"ok": False, "problems": error.problems})
        return 1
    answer = {
        "ok": True,
        "digest": content_digest(found),
        "meters": len(found.meters),
        "pricebooks": len(found.pricebooks),
        "prices": sum(len(book.prices) for book in found.pricebooks),
        "accounts": len(found.accounts),
    }
    if as_json:
        print_json(answer | {"problems": []})
    else:
        click.echo(
            f"{file}: good. {answer['meters']} meters, {answer['prices']} prices in {answer['pricebooks']} pricebook"
            f" versions, {answer['accounts']} accounts."
        )
    return 0


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--draft", type=click.IntRange(min=1), help="Publish a draft instead of a file.")
@acting
@retrying
@ledger_command
def publish(file: Path | None, draft: int | None, actor: str | None, retry: bool, scope: Scope) -> None:
    """Put a catalog in force: a FILE or a draft. Publishing the same content again does nothing."""
    from lineitem.catalog.draft import Act
    from lineitem.catalog.load import load_catalog
    from lineitem.core.errors import UsageError

    if (file is None) == (draft is None):
        raise UsageError("name what to publish", do="Either a FILE or --draft ID.")
    if draft is not None:
        with scope.app() as app:
            made, revision = app.step(scope.namespace, draft, Act.PUBLISH, actor)
            retried = retry_letters(app, scope.namespace, wanted=retry)
        answer = {"namespace": scope.namespace, "revision": revision, "digest": made.digest, "changed": True} | retried
        say_draft(scope, made, f"Published draft {draft} as revision {revision} of {scope.namespace}.", **answer)
        return
    assert file is not None
    found = load_catalog(file)
    with scope.app() as app:
        done = app.publish(scope.namespace, found, actor)
        retried = retry_letters(app, scope.namespace, wanted=retry)
    if scope.as_json:
        print_json(asdict(done) | retried)
    elif done.changed:
        click.echo(f"Published {file} as revision {done.revision} of {done.namespace}.")
    else:
        click.echo(f"Nothing to do: revision {done.revision} of {done.namespace} has this content already.")


@catalog.command()
@_FILE
@ledger_command
def diff(file: Path, scope: Scope) -> None:
    """What publishing a file would change; for a price also for whom, since when, and last month's usage."""
    from lineitem.catalog.load import load_catalog

    new = load_catalog(file)
    with scope.app() as app:
        changes = app.catalog_diff(scope.namespace, new)
    if scope.as_json:
        print_json({"changes": [change.document() for change in changes]})
    else:
        click.echo("\n".join(change.text() for change in changes) or "No difference.")


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@ledger_command
def show(file: Path | None, scope: Scope) -> None:
    """Show the prices in force, or those of a FILE."""
    import json

    from lineitem.catalog.load import catalog_document, load_catalog
    from lineitem.core.errors import Refused
    from lineitem.core.period import us_to_text

    if file is not None:
        found = load_catalog(file)
    else:
        with scope.app() as app:
            current = app.catalog(scope.namespace)
        if current is None:
            raise Refused(
                f"namespace {scope.namespace!r} has no catalog", do="Publish one: lineitem catalog publish FILE"
            )
        found = current
    if scope.as_json:
        print_json(json.loads(catalog_document(found))["catalog"])
        return
    rows = [
        (book.id, book.version, us_to_text(book.effective_from_us), price.id, price.meter, price.model, price.currency,
         price.itemize)
        for book in found.pricebooks
        for price in book.prices
    ]  # fmt: skip
    table("Prices", ["pricebook", "version", "from", "price", "meter", "model", "currency", "itemize"], rows)

"""``lineitem schema``: register schemas of events, check them before, say what is asked, serve them to Kafka clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineitem.cli.dlq import retry_letters, retrying
from lineitem.cli.lifecycle import acting
from lineitem.cli.output import Scope, ledger_command, print_json, say, table

if TYPE_CHECKING:
    from lineitem.schemas.model import Schema

F = TypeVar("F", bound=Callable[..., Any])

_FORMATS = ["JSON", "AVRO", "PROTOBUF"]
_LEVELS = ["NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"]
_SUFFIX = "-value"


@click.group()
def schema() -> None:
    """Schemas of events' data: versions by subject, and what a new version may change."""


def _described(function: F) -> F:
    """Options that say what a file of a schema is."""
    for option in (
        click.option(
            "--format", "format_", type=click.Choice(_FORMATS, case_sensitive=False),
            help="Language of the schema.  [default: by ending: .json, .avsc, .proto]",
        ),
        click.option(
            "--reference", "references", multiple=True, metavar="NAME=SUBJECT:VERSION",
            help="A registered schema that this one uses under NAME; may be given again.",
        ),
        click.option("--subject", help="Where it belongs.  [default: the file's name without ending, and -value]"),
    ):  # fmt: skip
        function = option(function)
    return function


def _subject(path: Path, named: str | None) -> str:
    if named is not None:
        return named
    stem = path.name.removesuffix(path.suffix)
    return stem if stem.endswith((_SUFFIX, "-key")) else stem + _SUFFIX


def _read(path: Path, format_: str | None, references: tuple[str, ...]) -> Schema:
    """A file's schema, its references named only."""
    from lineitem.app import readable
    from lineitem.core.errors import InputError, UsageError
    from lineitem.schemas import formats
    from lineitem.schemas.model import SCHEMA_CHARS_MAX, Reference, Schema

    named = []
    for text in references:
        name, equals, rest = text.partition("=")
        subject, colon, version = rest.rpartition(":")
        if not (name and equals and subject and colon and version.isascii() and version.isdecimal()):
            raise UsageError(f"{text!r} is no reference", do="Write NAME=SUBJECT:VERSION, e.g. Money=money-value:1.")
        named.append(Reference(name, subject, int(version)))
    wanted = format_.upper() if format_ else formats.detect(str(path))
    with readable(path) as file:
        raw = file.read(4 * SCHEMA_CHARS_MAX + 1)
    try:
        return Schema(wanted, raw.decode("utf-8-sig"), tuple(named))
    except UnicodeDecodeError:
        raise InputError("the schema is not UTF-8 text", where=str(path)) from None


@schema.command()
@click.argument("file", type=click.Path(path_type=Path))
@_described
@retrying
@acting
@ledger_command
def register(
    file: Path, format_: str | None, references: tuple[str, ...], subject: str | None, actor: str | None,
    retry: bool, scope: Scope,
) -> None:  # fmt: skip
    """Register FILE as the next version of its subject. One that the subject has already is found again.

    Dead letters `unknown_schema` are tried again then.
    """
    from lineitem.core.reasons import Reason
    from lineitem.kit.config import actor as who
    from lineitem.schemas import formats
    from lineitem.schemas.contract import located
    from lineitem.schemas.model import BadSchema
    from lineitem.schemas.registry import Incompatible

    wanted, name = _read(file, format_, references), _subject(file, subject)
    with scope.app() as app:
        desk = app.schema_desk(scope.namespace)
        try:
            done = desk.register(name, wanted, who(actor))
        except (BadSchema, Incompatible) as error:
            error.what = "\n".join(located(str(file), wanted.text, one) for one in error.problems)
            error.where = ""
            raise
        parsed = formats.parse(desk.book().schema(done.id))
        retried = retry_letters(
            app, scope.namespace, wanted=retry and app.catalog(scope.namespace) is not None,
            whenever={Reason.UNKNOWN_SCHEMA}, what="a schema",
        )  # fmt: skip
    warnings = [located(str(file), wanted.text, one) for one in parsed.warnings]
    if scope.as_json:
        document = {"subject": name, "version": done.version, "id": done.id, "registered": done.fresh}
        print_json(document | {"warnings": warnings} | retried)
        return
    for one in warnings:
        say(one)
    if done.fresh:
        click.echo(f"Registered version {done.version} of {name}; messages carry id {done.id}.")
    else:
        click.echo(f"Nothing to do: {name} has it as version {done.version}, id {done.id}.")


@schema.command("list")
@click.option("--subject", help="Only this one's versions.")
@ledger_command
def list_(subject: str | None, scope: Scope) -> None:
    """List subjects and their versions, and what each asks of the next."""
    with scope.app() as app:
        book = app.schema_desk(scope.namespace).book()
    subjects = [subject] if subject is not None else sorted(book.versions)
    rows = [
        {
            "subject": name,
            "version": version,
            "id": id_,
            "format": book.kept[id_].format,
            "compatibility": str(book.compatibility(name)),
            "enforce": "yes" if book.enforced(name) else "no",
        }
        for name in subjects
        for version, id_ in book.of(name).items()
    ]
    if scope.as_json:
        print_json({"schemas": rows})
        return
    columns = ["subject", "version", "id", "format", "compatibility", "enforce"]
    table("Schemas", columns, [[row[name] for name in columns] for row in rows], right=["version", "id"])


@schema.command()
@click.argument("subject")
@click.option("--version", type=click.IntRange(min=1), help="Which one.  [default: the latest]")
@ledger_command
def show(subject: str, version: int | None, scope: Scope) -> None:
    """Show one version of a subject, as it was registered."""
    with scope.app() as app:
        one = app.schema_desk(scope.namespace).book().version(subject, version)
    if not scope.as_json:
        click.echo(one.schema.text)
        return
    print_json(
        {
            "subject": one.subject,
            "version": one.version,
            "id": one.id,
            "format": one.schema.format,
            "references": [reference._asdict() for reference in one.schema.references],
            "schema": one.schema.text,
        }
    )


@schema.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@_described
@click.option(
    "--events", type=click.Path(path_type=Path),
    help="Sample events, one JSON document a line, that have to satisfy the schema of their type.",
)  # fmt: skip
@ledger_command
def check(
    files: tuple[Path, ...], format_: str | None, references: tuple[str, ...], subject: str | None,
    events: Path | None, scope: Scope,
) -> int:  # fmt: skip
    """Contract test: could FILES be the next versions of their subjects, and do sample events satisfy them?

    Nothing is registered. Every problem is named with file and line; the exit code is 1 where there is one.
    """
    from lineitem.app import readable
    from lineitem.core.errors import UsageError
    from lineitem.schemas import contract

    if subject is not None and len(files) > 1:
        raise UsageError("--subject names one subject for several files", do="Check them one by one.")
    verdicts = []
    with scope.app() as app:
        book = app.schema_desk(scope.namespace).book()
    for file in files:
        wanted, name = _read(file, format_, references), _subject(file, subject)
        verdict = contract.check(book, name, wanted, str(file))
        verdicts.append(verdict)
        if events is not None:
            with readable(events) as lines:
                _check_events(book, verdict, wanted, lines, str(events))
    _say_verdicts(verdicts, scope.as_json)
    return 1 if any(one.problems for one in verdicts) else 0


def _check_events(book: Any, verdict: Any, wanted: Schema, lines: Any, path: str) -> None:
    from lineitem.schemas import contract
    from lineitem.schemas.model import BadSchema

    try:
        whole = book.whole(wanted.format, wanted.text, wanted.references)
        contract.check_events(verdict, whole, verdict.subject.removesuffix(_SUFFIX), lines, path)
    except BadSchema:
        return  # which the verdict says already


def _say_verdicts(verdicts: list[Any], as_json: bool) -> None:
    from lineitem.schemas import contract

    if as_json:
        print_json({"ok": not any(one.problems for one in verdicts), "files": [one.document() for one in verdicts]})
        return
    for one in verdicts:
        for text in one.problems[: contract.PROBLEMS_MAX]:
            click.echo(text)
        for text in one.warnings:
            say(text)
    for text in contract.summary(verdicts):
        click.echo(text)


@schema.command()
@click.argument("subject", required=False)
@click.option(
    "--compatibility", type=click.Choice([*_LEVELS, "inherit"], case_sensitive=False),
    help="What a new version owes the old ones; inherit: as all subjects.",
)  # fmt: skip
@click.option(
    "--enforce", type=click.Choice(["yes", "no", "inherit"]),
    help="Whether an event that names no version is held to the latest one.",
)  # fmt: skip
@acting
@ledger_command
def mode(subject: str | None, compatibility: str | None, enforce: str | None, actor: str | None, scope: Scope) -> None:
    """Show or set what SUBJECT asks; without one, what is asked wherever a subject asks nothing of its own."""
    from lineitem.kit.config import actor as who
    from lineitem.schemas import registry

    wanted: dict[str, str | None] = {}
    if compatibility is not None:
        wanted[registry.COMPATIBILITY] = None if compatibility.lower() == "inherit" else compatibility.upper()
    if enforce is not None:
        wanted[registry.ENFORCE] = None if enforce == "inherit" else enforce
    name = registry.GLOBAL if subject is None else registry.check_subject(subject)
    with scope.app() as app:
        desk = app.schema_desk(scope.namespace)
        if wanted:
            desk.put(name, wanted, who(actor))
        book = desk.book()
    level, held = str(book.compatibility(name)), "yes" if book.enforced(name) else "no"
    if scope.as_json:
        print_json({"subject": subject, "compatibility": level, "enforce": held})
    else:
        click.echo(f"{subject or 'every subject that asks nothing of its own'}: {level}, enforce {held}")


@schema.command()
@click.option("--listen", default="127.0.0.1:8081", show_default=True, metavar="HOST:PORT", help="Port 0: a free one.")
@acting
@ledger_command
def serve(listen: str, actor: str | None, scope: Scope) -> None:
    """Answer Confluent's Schema Registry REST, so that Kafka clients use this registry as they would that one.

    Whoever reaches the address may register schemas: leave it on this machine, or put a proxy that asks who calls before it.
    """
    from lineitem.kit.config import actor as who
    from lineitem.kit.extras import load

    # By name: the command line and the HTTP room stand side by side, and neither is loaded for the other.
    server = load("lineitem.api.serve", "server", "serving")
    with scope.app() as app:
        server.serve_registry(app.schema_desk(scope.namespace), who(actor), listen, say)

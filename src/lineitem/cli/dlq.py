"""``lineitem dlq``: dead letters as a work queue: look, mend, try again, discard."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineitem.cli.lifecycle import acting
from lineitem.cli.output import Scope, fields, ledger_command, print_json, progress_bar, say, table
from lineitem.core.reasons import Reason

if TYPE_CHECKING:
    from lineitem.app import App
    from lineitem.replay import Replayed

F = TypeVar("F", bound=Callable[..., Any])
_CODES = click.Choice([reason.code for reason in Reason])
_KEY = click.IntRange(1)
_STATES = click.Choice(["open", "replayed", "discarded", "all"])


@click.group()
def dlq() -> None:
    """Dead letters: records that were set aside instead of billed, each with a reason code."""


@dlq.command("list")
@click.option("--code", type=_CODES, metavar="CODE", help="Only those with this reason code.")
@click.option("--since", metavar="INSTANT", help="Only those first seen at or after it, e.g. 2026-11-01T00:00:00Z.")
@click.option("--state", type=_STATES, default="open", show_default=True, help="Only those in this state.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@click.option("--group", "grouped", is_flag=True, help="Only the groups by reason code.")
@ledger_command
def list_(code: str | None, since: str | None, state: str, limit: int, grouped: bool, scope: Scope) -> None:
    """List dead letters: how many of each reason code and since when, then the newest ones."""
    from lineitem.cli.lifecycle import instant_option_us
    from lineitem.core.period import us_to_datetime
    from lineitem.ingest import letters
    from lineitem.ledger import letters as beside

    wanted = letters.Filter(
        None if state == "all" else state,
        _reason(code),
        None if since is None else us_to_datetime(instant_option_us(since)),
    )
    with scope.app() as app:
        now_us = app.clock.now_us()
        groups = beside.groups(app.control, scope.namespace, wanted, now_us)
        summary = beside.summary(app.control, scope.namespace, now_us)
        found = [] if grouped else letters.dead_letters(app.control, scope.namespace, limit, wanted)
    reasons: dict[str, Counter[str]] = {}
    for one in groups:
        reasons.setdefault(one["reason"], Counter()).update({name: one[name] for name in ("dead_letters", "records")})
    if scope.as_json:
        document = {"reasons": reasons, "groups": groups, "summary": summary}
        print_json(document if grouped else {"dead_letters": found} | document)
        return
    _show_groups(groups, state)
    if found:
        columns = ["key", "reason", "detail", "stream", "position", "seen", "state", "attempts", "fixes"]
        right = ["position", "seen", "attempts", "fixes"]
        table("Newest", columns, [[one[name] for name in columns] for one in found], right=right)
    others = ", ".join(f"{summary[one]} {one}" for one in ("open", "replayed", "discarded") if one != state)
    click.echo(f"Besides: {others}." if state != "all" else f"All: {others}.")


def _show_groups(groups: list[dict[str, Any]], state: str) -> None:
    from lineitem.core.period import age_text

    if not groups:
        click.echo("No dead letters." if state == "all" else f"No {state} dead letters.")
        return
    columns = ["reason", "dead letters", "records", "attempts", "first seen", "last seen", "oldest", "example"]
    rows = [
        [one["reason"], one["dead_letters"], one["records"], one["attempts"], one["first_seen"], one["last_seen"],
         age_text(one["oldest_seconds"]), _example(one["example"])]
        for one in groups
    ]  # fmt: skip
    table("By reason", columns, rows, right=["dead letters", "records", "attempts", "oldest"])


def _example(one: dict[str, Any]) -> str:
    return str(one["detail"]) if one["key"] is None else f"{one['key']}: {one['detail']}"


@dlq.command()
@click.argument("key", type=_KEY, metavar="KEY")
@ledger_command
def show(key: int, scope: Scope) -> None:
    """Show one dead letter whole: its raw record, why it was set aside, what to do, and what was done."""
    from lineitem.ledger.letters import shown

    _possible(scope, key)
    with scope.app() as app:
        found = shown(app.control, scope.namespace, key)
    if scope.as_json:
        print_json(found)
        return
    history, resolution = found.pop("history"), found.pop("resolution")
    fields(found)
    if history:
        rows = [[one["at"], one["act"], one["by"], one["reason"], _told(one), one["place"]] for one in history]
        table("What was done", ["when", "what", "by", "why", "outcome", "where"], rows)
    if resolution and resolution.get("line_items"):
        click.echo(f"Line items: {', '.join(resolution['line_items'])}")


def _told(act: dict[str, Any]) -> str:
    from lineitem.cli.explained import patch_text

    if act["act"] == "fix":
        return patch_text(act["patch"])
    if act["act"] == "discard":
        return ""
    if act["outcome"] == "dead_letter":
        return f"set aside again, {act['code']}: {act['detail']}"
    return f"{act['outcome']}, {act['accepted_as']}"


@dlq.command()
@click.argument("keys", nargs=-1, type=_KEY, metavar="[KEY]...")
@click.option("--code", type=_CODES, metavar="CODE", help="Open ones with this reason code.")
@click.option("--all", "every", is_flag=True, help="All open ones.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen and what it would come to.")
@click.option("--rate", metavar="N/s", help="At most so many a second, e.g. 200/s.")
@acting
@ledger_command
def replay(
    keys: tuple[int, ...],
    code: str | None,
    every: bool,
    limit: int | None,
    dry_run: bool,
    rate: str | None,
    actor: str | None,
    scope: Scope,
) -> None:
    """Try dead letters again, as they came in or as they were fixed; what passes is billed once, at its own time.

    Names letters by KEY, by `--code`, or takes `--all` open ones. What fails again stays open with its new code. A
    discarded letter is taken back when it is named by KEY.
    """
    _one_choice(keys, code, every)
    _possible(scope, *keys)
    per_second = per_second_option(rate)
    with scope.app() as app:
        chosen = app.choose_letters(scope.namespace, keys or None, _reason(code), limit)
        with progress_bar("Replaying", len(chosen), quiet=scope.as_json) as progress:
            if dry_run:
                done = app.try_letters(scope.namespace, chosen, progress)
            else:
                done = app.replay_letters(scope.namespace, chosen, actor, "", per_second, progress)
    if scope.as_json:
        print_json(done.document())
    else:
        show_replayed(done)


def show_replayed(done: Replayed) -> None:
    """What became of letters, for people."""
    found = done.document()
    if not found["tried"]:
        click.echo("Nothing to replay." + (f" {found['skipped']} were settled before." if found["skipped"] else ""))
        return
    columns = ["reason", "dead letters", "itemized", "pending", "duplicate", "not billable", "failed again", "amounts"]
    rows = [
        [reason, one["dead_letters"], one["itemized"], one["pending"], one["duplicate"], one["not_billable"],
         ", ".join(f"{code} {count}" for code, count in one["failed"].items()),
         ", ".join(f"{amount} {currency}" for currency, amount in one["amounts"].items())]
        for reason, one in found["by_reason"].items()
    ]  # fmt: skip
    title = "What a replay would do; nothing was written" if found["dry_run"] else "Replayed"
    table(title, columns, rows, right=columns[1:6])
    failed = [one for one in found["results"] if one["outcome"] == "dead_letter"]
    for one in failed[:20]:
        click.echo(f"{one['key']}: {one['code']}, {one['detail']}")
    if len(failed) > 20:
        click.echo(f"... and {found['failed'] - 20} more: `lineitem dlq list` shows them.")
    if found["skipped"]:
        say(f"{found['skipped']} were settled before.")


@dlq.command()
@click.argument("key", type=_KEY, metavar="KEY")
@click.option(
    "--set", "set_", multiple=True, metavar="PATH=VALUE", help="Set a field, e.g. data.tokens=12. Repeatable."
)
@click.option("--remove", multiple=True, metavar="PATH", help="Remove a field. Repeatable.")
@click.option("--record", metavar="FILE|-", help="Replace the whole record, for bytes that do not parse.")
@click.option("--afresh", is_flag=True, help="Forget earlier fixes: start from the record as it came in.")
@click.option("--reason", required=True, help="Why; stays in the audit trail.")
@click.option("--replay", "replay_", is_flag=True, help="Replay it at once.")
@acting
@ledger_command
def fix(
    key: int,
    set_: tuple[str, ...],
    remove: tuple[str, ...],
    record: str | None,
    afresh: bool,
    reason: str,
    replay_: bool,
    actor: str | None,
    scope: Scope,
) -> None:
    """Record a patch for a dead letter; the original stays, with who changed what, when and why.

    Fixes add up, in order; `--record` replaces what came before it. Fields are named as in the record: paths of a
    CloudEvents event (`id`, `subject`, `data.tokens`), columns of a CSV or Parquet row.
    """
    _possible(scope, key)
    patch = _patch(set_, remove, record, afresh)
    with scope.app() as app:
        mended = app.fix_letter(scope.namespace, key, patch, actor, reason)
        done = _replay_one(app, scope.namespace, key, actor) if replay_ else None
    answer: dict[str, Any] = {
        "key": key,
        "patch": patch,
        "record": mended.record.decode("utf-8", "backslashreplace"),
        "reads": mended.reason is None,
        "code": None if mended.reason is None else mended.reason.code,
        "detail": mended.detail,
    }
    if scope.as_json:
        print_json(answer if done is None else answer | {"replay": done.document()})
        return
    click.echo(f"Recorded. Dead letter {key} now reads:\n  {answer['record']}")
    if mended.reason is not None:
        say(f"It would be set aside again as {answer['code']}: {mended.detail}")
    if done is not None:
        show_replayed(done)
    elif mended.reason is None:
        click.echo(f"Next: lineitem dlq replay {key}")


def _replay_one(app: App, namespace: str, key: int, actor: str | None) -> Replayed:
    return app.replay_letters(namespace, app.choose_letters(namespace, [key], None), actor, "", None, lambda _: None)


@dlq.command()
@click.argument("keys", nargs=-1, type=_KEY, metavar="[KEY]...")
@click.option("--code", type=_CODES, metavar="CODE", help="Open ones with this reason code.")
@click.option("--reason", required=True, help="Why; stays in the audit trail.")
@acting
@ledger_command
def discard(keys: tuple[int, ...], code: str | None, reason: str, actor: str | None, scope: Scope) -> None:
    """Settle dead letters as never to be billed. They stay in the ledger; `dlq replay KEY` takes one back."""
    _one_choice(keys, code, every=False)
    _possible(scope, *keys)
    with scope.app() as app:
        chosen = [one.key for one in app.choose_letters(scope.namespace, keys or None, _reason(code))]
        done = app.discard_letters(scope.namespace, chosen, actor, reason)
    if scope.as_json:
        print_json({"discarded": done, "keys": chosen[:1000], "reason": reason})
    else:
        click.echo(f"Discarded {done} dead letters." if done != 1 else f"Discarded dead letter {chosen[0]}.")


def _possible(scope: Scope, *keys: int) -> None:
    """Whether the database could hold such keys at all. Raises InputError for the first that it could not."""
    from lineitem.ingest.letters import no_letter

    for key in keys:
        if key >= 1 << 63:
            raise no_letter(scope.namespace, key)


def _one_choice(keys: tuple[int, ...], code: str | None, every: bool) -> None:
    """Keys, or a code, or all: one of them. Raises UsageError."""
    from lineitem.core.errors import UsageError

    if bool(keys) + (code is not None) + every != 1:
        raise UsageError("name the dead letters", do="Keys of `lineitem dlq list`, or --code CODE, or (replay) --all.")


def _reason(code: str | None) -> Reason | None:
    return None if code is None else Reason[code.upper()]


def per_second_option(rate: str | None) -> int | None:
    """``200/s`` or ``200``. Raises UsageError."""
    from lineitem.core.errors import UsageError

    if rate is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,8})(?:/s)?", rate, re.ASCII)
    if found is None:
        raise UsageError(f"{rate!r} is no rate", do="Write how many a second, e.g. --rate 200/s.")
    return int(found[1])


def _patch(set_: tuple[str, ...], remove: tuple[str, ...], record: str | None, afresh: bool) -> dict[str, Any]:
    """The options as a patch. Raises UsageError and InputError."""
    from lineitem.core.errors import UsageError

    patch: dict[str, Any] = {"afresh": True} if afresh else {}
    if record is not None:
        patch["record"] = _whole_record(record)
    changes = [one.partition("=") for one in set_]
    for path, equals, value in changes:
        if not path or not equals or not (path + value).isprintable():
            raise UsageError(
                f"{path + equals + value!r} sets nothing", do="Write --set PATH=VALUE, e.g. data.tokens=12."
            )
    if changes:
        patch["set"] = {path: value for path, _, value in changes}
    if remove:
        patch["remove"] = list(remove)
    if not patch:
        raise UsageError("nothing to change", do="--set PATH=VALUE, --remove PATH or --record FILE.")
    return patch


def _whole_record(name: str) -> str:
    """One record from a file or standard input, without its line end. Raises InputError."""
    from lineitem.app import readable
    from lineitem.core.errors import InputError
    from lineitem.core.limits import RECORD_BYTES_MAX

    where = "standard input" if name == "-" else name
    if name == "-":
        raw = sys.stdin.buffer.read(RECORD_BYTES_MAX + 3)
    else:
        with readable(Path(name)) as file:
            raw = file.read(RECORD_BYTES_MAX + 3)
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not raw.strip():
        raise InputError("holds no record", where=where, do="Give one whole record, in the format it came in.")
    if len(raw) > RECORD_BYTES_MAX:
        raise InputError(f"holds more than {RECORD_BYTES_MAX} bytes", where=where, do="Give one whole record.")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InputError("is not UTF-8", where=where, do="Give the record as UTF-8 text.") from None


def retrying(function: F) -> F:
    """Add ``--retry/--no-retry``: whether letters are tried again that waited for the catalog."""
    return click.option(
        "--retry/--no-retry",
        default=True,
        envvar="LINEITEM_RETRY",
        help="Try dead letters again that waited for a price or an account.  [default: retry, or LINEITEM_RETRY]",
    )(function)


def retry_letters(
    app: App, namespace: str, *, wanted: bool, whenever: Collection[Reason] = (), what: str = "the catalog"
) -> dict[str, Any]:
    """Try those again that the catalog may help now: ``{"retried": ...}``, or {} where there were none; says so on stderr.

    Costs nobody the answer of what was done before it: where it cannot be finished, that is said, and the next run tries.
    """
    from lineitem.core.errors import LineitemError
    from lineitem.core.limits import RETRY_LETTERS_MAX

    if not wanted:
        return {}
    try:
        done = app.retry_letters(namespace, whenever)
    except LineitemError as error:
        say(f"Dead letters that wait for {what} could not be tried again: {error}")
        return {}
    if done is None or not done.tried:
        return {}
    found = done.document()
    say(f"Dead letters that waited for {what}: {found['replayed']} replayed, {found['failed']} still open.")
    if done.tried >= RETRY_LETTERS_MAX:
        say("There may be more: the next run goes on, or `lineitem dlq replay`.")
    return {"retried": {name: found[name] for name in ("tried", "replayed", "failed", "counts", "by_reason")}}

"""``lineitem demo``: the main job on real sample usage, told to a person, each step with its command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineitem.cli import demo_folder
from lineitem.cli.output import console, print_json, progress_bar, write_file

if TYPE_CHECKING:
    from rich.console import Console

    from lineitem.app import App
    from lineitem.catalog.model import Catalog, Meter, Price
    from lineitem.flow import Summary

NAMESPACE = "default"
_WIDTH_MAX = 100
_ENVIRONMENT = ("LINEITEM_DATABASE_URL", "LINEITEM_CHECKPOINT_DIR")
"""What would send the commands we print to another ledger than the demo's."""


@dataclass(frozen=True, slots=True)
class _Usage:
    """A file of usage the demo sends."""

    name: str
    map: str | None
    about: str


_REAL = (
    _Usage(
        "llm_conversations.csv",
        "azure-llm.yaml",
        "requests to a language model, 16 November 2023 (Azure Public Dataset, CC BY 4.0)",
    ),
    _Usage(
        "access.log", "access-log.yaml", "requests to a web site, 17 and 18 May 2015 (elastic/examples, Apache-2.0)"
    ),
)
_RETRACT = ("retract", "--source", "/chat/eu-1", "--id", "chat-1007")
_FAULTY = _Usage("events.ndjson", None, "nine events written for this demo, some of them wrong on purpose")


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("lineitem-demo"),
    show_default=True,
    help="Folder to make. An earlier demo's is removed first; any other must be new or empty.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else.")
def demo(data_dir: Path, as_json: bool) -> int:
    """The main job on real sample usage, narrated: catalog, ingest, faulty events, invoices, explain, verify.

    It works on a ledger of its own in a folder of its own and leaves everything there to look at.
    """
    from lineitem.app import App
    from lineitem.kit.config import Config

    earlier = demo_folder.make(data_dir)
    started = time.monotonic()
    folder = data_dir.absolute()
    app = App(Config(data_dir=folder, database_url=None, checkpoint_dir=folder / "checkpoints"))
    story = _Story(_console(quiet=as_json), app, data_dir)
    story.told["folder"], story.told["removed_earlier"] = str(data_dir), earlier
    story.opening(earlier)
    with app:
        story.say(f"PostgreSQL is ready after {time.monotonic() - started:.1f} s.")
        for scene in (_catalog, _real_usage, _again, _faulty_usage, _bill, _explain, _verify):
            scene(story)
        story.told["seconds"] = f"{time.monotonic() - started:.1f}"
    story.ending()
    if as_json:
        print_json(story.told)
    return 0 if story.told["verified"] else 1


def _console(*, quiet: bool) -> Console:
    """Where the story is told: never so wide that a line is hard to follow, and the same in a pipe as in a window."""
    made = console()
    made.quiet = quiet
    made.soft_wrap = False
    made.width = min(made.width, _WIDTH_MAX) if made.is_terminal else _WIDTH_MAX
    return made


@dataclass(slots=True)
class _Story:
    """The demo while it runs; ``told`` is what ``--json`` prints."""

    console: Console
    app: App
    folder: Path
    told: dict[str, Any] = field(default_factory=dict)
    _scene: int = 0

    def scene(self, title: str) -> None:
        """The next step's heading."""
        self._scene += 1
        self.console.print(f"\n[bold cyan]{self._scene}  {title}[/]")

    def say(self, text: str) -> None:
        """A paragraph."""
        self.console.print(text, markup=False)

    def command(self, *words: str) -> None:
        """The command that does on this ledger what the step does."""
        line = shlex.join([_program(), *words, "--data-dir", str(self.folder)])
        self.console.print(f"  $ {line}", style="green", markup=False, soft_wrap=True)

    def path(self, *parts: str) -> str:
        """A path in the demo's folder, as people type it."""
        return str(self.folder.joinpath(*parts))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
        """A table; columns in ``right`` hold numbers."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        made = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for at, column in enumerate(columns):
            made.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=at == 0)
        for row in rows:
            made.add_row(*[Text(str(cell)) for cell in row])
        self.console.print(made)

    def opening(self, earlier: bool) -> None:
        """What is about to happen, and where."""
        self.console.print("[bold]lineitem demo[/]: usage events in; priced line items and invoices out.")
        if earlier:
            self.say(f"An earlier demo was in {self.folder}. It has been removed; this one starts clean.")
        self.say(
            f"A private PostgreSQL starts in the folder {self.folder}. Nothing outside that folder is changed, "
            "and the server ends with this command."
        )
        for name in _ENVIRONMENT:
            if os.environ.get(name):
                self.say(f"{name} is set; the demo does not use it.")

    def ending(self) -> None:
        """Where everything is, and what to try."""
        self.scene("Now you")
        self.say(f"Done in {self.told['seconds']} s. What is where in {self.folder}:")
        self.table(
            ("folder", "holds"),
            [
                ("invoices", "each invoice as JSON and as PDF"),
                ("input", "the catalog, the mapping files and the usage; ORIGIN.md says whose it is"),
                ("segments", "the raw records as they came, in Parquet"),
                ("checkpoints", "signed statements of how far the ledger had come, for `verify`"),
                ("postgres, keys", "the ledger itself, and the key that signs its checkpoints"),
            ],
        )
        self.say("Try next (each of these can be copied as it stands):")
        for name in _ENVIRONMENT:
            if os.environ.get(name):
                self.console.print(f"  $ unset {name}", style="green", markup=False)
        number = self.told["explained"].partition("#")[0]
        for why, words in (
            ("the whole invoice, and what it covers", ["explain", number]),
            ("what an account used and owes", ["usage", "--account", "www.example.com", "--period", "2015-05"]),
            ("the rows of the ledger", ["line-items", "--account", "fabrikam"]),
            ("why a record was set aside, whole", ["dlq", "show", "1"]),
            ("an event that did not happen", [*_RETRACT, "--reason", "was a test"]),
            ("what that takes back, to be set off against the next invoice", ["bill", "--period", "2023-11"]),
        ):
            self.console.print(f"  # {why}", style="dim", markup=False)
            self.command(*words)
        self.say(
            "Your own usage: `lineitem ingest --help` says how; docs/tutorial/first-ledger.md goes through it slowly."
        )


def _program() -> str:
    """This command as it was called: `make demo` leaves it where PATH does not look."""
    called, found = Path(sys.argv[0]), shutil.which("lineitem")
    if called.name != "lineitem" or (found is not None and called.exists() and called.samefile(found)):
        return "lineitem"
    return str(called)


# --- the scenes


def _catalog(story: _Story) -> None:
    from lineitem.catalog.load import load_catalog

    story.scene("Say what is measured and what it costs")
    path = story.path("input", "sample.yaml")
    found = load_catalog(Path(path))
    done = story.app.publish(NAMESPACE, found)
    story.say(f"A catalog is a YAML file. Published, it is revision {done.revision} and will never change.")
    story.command("catalog", "publish", path)
    book = found.pricebooks[0]
    meters = {meter.id: meter for meter in found.meters}
    rows = [(one.description, _costs(one), _per(one, meters[one.meter]), _itemized(one)) for one in book.prices]
    story.table(("price", "costs", "per", "one line item per"), rows)
    later = _later_versions(found, book.id)
    if later:
        story.say(f"Usage is priced by the version in force when it happened. {later}")
    story.told["catalog"] = {"revision": done.revision, "digest": done.digest}


def _costs(price: Price) -> str:
    from lineitem.catalog.document import decimal_text

    if price.unit_price is not None:
        return f"{decimal_text(price.unit_price)} {price.currency}"
    told = [
        decimal_text(tier.unit_price) + (" beyond" if tier.up_to is None else f" up to {int(tier.up_to):,}")
        for tier in price.tiers
    ]
    return f"{', '.join(told)} {price.currency}"


def _per(price: Price, meter: Meter) -> str:
    return meter.unit if price.transform is None else f"{int(price.transform.divide_by):,} {meter.unit}s"


def _itemized(price: Price) -> str:
    return "event" if price.itemize == "each" else price.itemize.value


def _later_versions(catalog: Catalog, book: str) -> str:
    from lineitem.core.period import us_to_text

    later = [one for one in catalog.pricebooks if one.id == book][1:]
    return " ".join(f"Version {one.version} starts on {us_to_text(one.effective_from_us)[:10]}." for one in later)


def _real_usage(story: _Story) -> None:
    story.scene("Send real usage")
    story.say("A mapping file says which column, or which part of a log line, means what.")
    for usage in _REAL:
        story.say(f"{usage.name}: {usage.about}")
        story.command(*_ingest_command(story, usage))
    story.told["first"] = _ingest_all(story, _REAL)
    story.say(
        "Every record is accounted for: received = billed + duplicate + set aside + not billable. The one that is "
        "not billable is a request our side failed (status 500): no meter counts it."
    )


def _again(story: _Story) -> None:
    from lineitem.core.errors import IntegrityError

    story.scene("Send the same files again")
    story.say("As a nervous retry would. Every event is known by its identity, so nothing is billed a second time.")
    story.told["second"] = _ingest_all(story, _REAL)
    if any(one["line_items"] for one in story.told["second"].values()):
        raise IntegrityError("sending the same files again made new line items", where=str(story.folder))


def _faulty_usage(story: _Story) -> None:
    from lineitem.ingest import letters

    story.scene("Send events that are wrong")
    story.say(
        f"{_FAULTY.name}: {_FAULTY.about}. Five are good, one is a retry of another; one comes again "
        "under its id with ten times the tokens, one lacks its value, and one was cut off on the way."
    )
    story.command(*_ingest_command(story, _FAULTY))
    story.told["faulty"] = _ingest_all(story, [_FAULTY])
    story.say("The good ones are billed. What cannot be is kept with its reason and its raw bytes, and never dropped:")
    story.command("dlq", "list")
    found = letters.dead_letters(story.app.control, NAMESPACE, 100)
    story.table(("dead letter", "reason", "detail"), [(one["key"], one["reason"], one["detail"]) for one in found])
    story.told["dead_letters"] = found


def _ingest_command(story: _Story, usage: _Usage) -> list[str]:
    words = ["ingest", story.path("input", usage.name)]
    return words if usage.map is None else [*words, "--map", story.path("input", usage.map)]


def _ingest_all(story: _Story, files: Sequence[_Usage]) -> dict[str, dict[str, int]]:
    """Ingest files and show what became of their records."""
    made: dict[str, dict[str, int]] = {}
    rows = []
    for usage in files:
        started = time.monotonic()
        summary = _ingest(story, usage)
        counts = made[usage.name] = summary.document()
        names = ("received", "itemized", "line_items", "duplicate", "dead_lettered", "not_billable")
        seconds = f"{time.monotonic() - started:.1f}"
        rows.append([usage.name, *[f"{counts[name]:,}" for name in names], seconds])
    columns = ("file", "received", "billed", "line\nitems", "duplicate", "set\naside", "not\nbillable", "s")
    story.table(columns, rows, right=columns[1:])
    return made


def _ingest(story: _Story, usage: _Usage) -> Summary:
    from lineitem.ingest.events import BatchLimits

    path = Path(story.path("input", usage.name))
    mapping = None if usage.map is None else Path(story.path("input", usage.map))
    pipeline = story.app.pipeline(NAMESPACE)
    with (
        story.app.source(path, None, mapping, "files") as source,
        progress_bar(usage.name, path.stat().st_size, quiet=story.console.quiet) as show,
    ):
        return story.app.ingest(pipeline, source, BatchLimits(), lambda position, _: show(position))


def _bill(story: _Story) -> None:
    from lineitem.core.period import Month
    from lineitem.ledger import read

    story.scene("Bill the months")
    months = sorted({one["posting_period"] for one in read.line_items(story.app.control, NAMESPACE)})
    story.say(
        "A month begins and ends in the account's time zone; amounts are rounded to cents once, on the invoice line."
    )
    made: list[dict[str, Any]] = []
    for month in months:
        story.command("bill", "--period", month)
        made += story.app.bill(NAMESPACE, Month.parse(month), None).invoices
    story.table(
        ("invoice", "account", "month", "time zone", "total", ""),
        [[one[name] for name in ("number", "account_name", "period", "timezone", "total", "currency")] for one in made],
        right=("total",),
    )
    again = [one for month in months for one in story.app.bill(NAMESPACE, Month.parse(month), None).invoices]
    story.say(f"Billed once more: {len(again)} new invoices.")
    story.told["invoices"] = [{name: one[name] for name in ("number", "account", "total", "currency")} for one in made]
    story.told["invoices_again"] = len(again)
    _write_invoices(story, [one["number"] for one in made])


def _write_invoices(story: _Story, numbers: Sequence[str]) -> None:
    from lineitem.billing import run
    from lineitem.billing.document import render_pdf
    from lineitem.billing.invoice import invoice_to_json

    folder = story.folder / "invoices"
    folder.mkdir()
    with progress_bar("Writing invoices", len(numbers), quiet=story.console.quiet) as show:
        for done, number in enumerate(numbers, start=1):
            found = run.invoice(story.app.control, NAMESPACE, number)
            text = json.dumps(invoice_to_json(found), indent=2, ensure_ascii=False) + "\n"
            write_file(folder / f"{number}.json", text.encode())
            write_file(folder / f"{number}.pdf", render_pdf(found))
            show(done)
    story.say(f"Each is written as JSON and as PDF, for example {story.path('invoices', numbers[0])}.pdf")


def _explain(story: _Story) -> None:
    from lineitem.billing.explain import explain
    from lineitem.cli.explained import show

    story.scene("Ask why")
    number = next(one["number"] for one in story.told["invoices"] if one["account"] == "fabrikam")
    wanted = f"{number}#2"
    story.say("One line of an invoice, down to the raw events it was made from:")
    story.command("explain", wanted)
    found = explain(story.app.control, story.app.segments, NAMESPACE, wanted)
    show(found, story.console)
    story.told["explained"] = wanted


def _verify(story: _Story) -> None:
    story.scene("Check that nothing was altered")
    story.say(
        "Every hash is computed again, the chains are compared with the signed checkpoints, and all raw records are "
        "priced again from the stored files to see that they come to the same totals."
    )
    story.command("verify", "--deep")
    with progress_bar("Verifying", None, quiet=story.console.quiet) as show:
        report = story.app.verify(deep=True, progress=lambda _, rows: show(rows))
    counts = report.counts
    story.told |= {"verified": report.ok, "counts": counts}
    story.say(
        f"{report.batches} batches, {report.line_items:,} line items, {report.checkpoints} checkpoints; received "
        f"{counts['received']:,} = {counts['itemized']:,} billed + {counts['pending']:,} pending + "
        f"{counts['duplicate']:,} duplicate + {counts['dead_lettered']:,} set aside + "
        f"{counts['not_billable']:,} not billable."
    )
    for finding in report.findings:
        story.say(f"WRONG: {finding.what}")
    story.say("Nothing was altered." if report.ok else "The ledger is not as it was written.")

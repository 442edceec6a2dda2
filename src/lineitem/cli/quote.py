"""``lineitem quote``: what quantities would cost, without a ledger."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineitem.cli.output import any_folder, print_json, print_json_lines, table

if TYPE_CHECKING:
    from lineitem.rate.working import Step


@click.command()
@click.option("--price", type=click.Path(path_type=Path), help="A YAML or JSON file holding one catalog price.")
@click.option("--quantity", "quantities", multiple=True, help="A reading of the period's meter; may be repeated.")
@click.option(
    "--event",
    "events",
    multiple=True,
    help='A value, or {"value", "data", "time"} as JSON, for a per-event price or one with a promotion.',
)
@click.option("--period", help="A month, YYYY-MM: the events are readings of a level, each with its time.")
@click.option("--timezone", default="UTC", show_default=True, help="Where that month begins.")
@click.argument("more", nargs=-1, metavar="[QUANTITY...]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else.")
@any_folder
def quote(
    price: Path | None, quantities: tuple[str, ...], events: tuple[str, ...], period: str | None, timezone: str,
    more: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """What usage would cost under a price: exact amounts, with the working.

    With --price and --quantity one price is quoted; with --event a price that charges each event or has a promotion, and
    with --event and --period what readings of a level cost in that month. Without --price, JSON Lines {"id", "price",
    "quantities" or "events"} are read from standard input and one line {"id", "amounts"} is printed for each, with the sum
    as "amount" for events; of lines with a "period" (and "timezone") the "quantity" that is counted and the "amount".
    """
    quantities += more
    if price is None:
        if quantities or events:
            raise click.UsageError(f"{'--quantity' if quantities else '--event'} needs --price")
        return _stream()
    if not quantities and not events:
        raise click.UsageError("--price needs at least one --quantity, or --event for a per-event price")
    if quantities and events:
        raise click.UsageError("a price takes either --quantity or --event")
    if period is not None and not events:
        raise click.UsageError("--period needs the readings of a level; name each with --event")
    document = _price_document(price)
    if period is not None:
        return _quote_level(document, events, period, timezone, as_json)
    if events:
        return _quote_events(document, events, as_json)
    from lineitem.rate.quote import quote as amounts_of

    amounts = amounts_of(document, quantities)
    if as_json:
        print_json({"price": document, "quantities": list(quantities), "amounts": amounts})
        return 0
    for quantity in quantities:
        _show_quantity(document, quantity)
    return 0


def _quote_events(document: dict[str, Any], texts: tuple[str, ...], as_json: bool) -> int:
    from lineitem.rate.quote import quote_events, quote_events_explain

    events = _events(texts)
    amounts, amount = quote_events(document, events)
    if as_json:
        print_json({"price": document, "events": events, "amounts": amounts, "amount": amount})
        return 0
    _show_working(f"{len(events)} events", quote_events_explain(document, events), amount)
    return 0


def _quote_level(document: dict[str, Any], texts: tuple[str, ...], period: str, timezone: str, as_json: bool) -> int:
    from lineitem.rate.quote import quote_level, quote_level_explain

    events = _events(texts)
    found = quote_level(document, events, period, timezone)
    if as_json:
        print_json({"price": document, "events": events, "period": period, "timezone": timezone} | found)
        return 0
    steps = quote_level_explain(document, events, period, timezone)
    _show_working(f"{len(events)} readings, {period} in {timezone}", steps, found["amount"])
    return 0


def _events(texts: tuple[str, ...]) -> list[object]:
    from lineitem.rate.quote import decode

    return [decode(text) if text.lstrip().startswith("{") else text for text in texts]


def _price_document(path: Path) -> dict[str, Any]:
    """The price a file holds, as written. Raises InputError, CatalogError with lines where it is no YAML."""
    from lineitem.app import readable
    from lineitem.catalog.yaml_lines import read_yaml
    from lineitem.core.errors import CatalogError, InputError
    from lineitem.core.limits import CATALOG_BYTES_MAX

    with readable(path) as file:
        document = read_yaml(file.read(CATALOG_BYTES_MAX))
    if document.problems:
        raise CatalogError([f"{path}:{line}: {text}" for line, text in document.problems])
    if not isinstance(document.value, dict):
        raise InputError(
            "holds no price", where=str(path), do='Write one, e.g. {model: per_unit, unit_price: "0.004"}.'
        )
    return document.value


def _stream() -> int:
    """JSON Lines in, JSON Lines out; exit code 1 when a line could not be quoted."""
    from lineitem.rate.quote import quote_text

    failed = False

    def answers() -> Any:
        nonlocal failed
        for line in sys.stdin.buffer:
            if line.strip():
                answer = quote_text(line)
                failed = failed or "error" in answer
                yield answer

    print_json_lines(answers())
    return int(failed)


def _show_quantity(document: dict[str, Any], quantity: str) -> None:
    from lineitem.rate.quote import quote, quote_explain

    _show_working(f"{quantity} units", quote_explain(document, quantity), quote(document, [quantity])[0])


def _show_working(title: str, steps: list[Step], total: str) -> None:
    from lineitem.rate.working import fraction_text

    rows = [
        [
            step.label,
            *(
                "" if value is None else fraction_text(value)
                for value in (step.quantity, step.unit_price, step.flat_price, step.amount)
            ),
        ]
        for step in steps
    ]
    rows.append(["total", "", "", "", total])
    columns = ["step", "quantity", "unit price", "flat price", "amount"]
    table(title, columns, rows, right=columns[1:])

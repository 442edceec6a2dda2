"""Shows people what `explain` found: an invoice, one of its lines, or a line item, as a tree down to the raw records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lineitem.cli.output import console as make_console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

Document = Mapping[str, Any]
_WIDTH_PIPED = 120
_DIM = "dim"


def show(found: Document, console: Console | None = None) -> None:
    """Print what ``billing.explain.explain`` returned, less what only programs need; ``--json`` has it whole."""
    if console is None:
        console = make_console()
        console.soft_wrap = False
        if not console.is_terminal:
            console.width = _WIDTH_PIPED
    if "credit" in found:
        console.print(_credit_tree(found))
    elif "line_item" in found:
        console.print(_line_item_tree(found))
    elif any("explained" in line for line in found["lines"]):
        console.print(_line_tree(found))
    else:
        _show_invoice(found, console)


# --- an invoice


def _show_invoice(found: Document, console: Console) -> None:
    sent = found["invoice"]
    console.print(
        _text((f"{sent['number']}  ", "bold"), f"{sent['account_name']} ({sent['account']}), {sent['period']}, "
              f"months in {sent['timezone']}: ", (f"{sent['total']} {sent['currency']}", "bold"))
    )  # fmt: skip
    rows = [
        [
            str(one["line"]["line"]),
            one["line"]["description"],
            "" if one["line"]["kind"] == "credit" else f"{_digits(one['line']['quantity'])} {one['line']['unit']}",
            _exact(one["line"]),
            one["line"]["amount"],
            _digits(str(one["items"]["count"])),
            "yes" if one["adds_up"] else "NO",
        ]
        for one in found["lines"]
    ]
    columns = ("line", "", "quantity", "exact", "rounded", "line items", "add up")
    console.print(_table(columns, rows, right=("quantity", "exact", "rounded", "line items")))
    console.print(_text(_claimed(found)))
    first = found["lines"][0]["line"]["line"] if found["lines"] else 1
    console.print(_text("Down to the events: ", (f"lineitem explain {sent['number']}#{first}", "green")))


def _claimed(found: Document) -> str:
    claim = found["claim"]
    told = f"It bills everything posted to {claim['posting_period']} up to {_cut(claim['up_to'])}"
    if claim["predecessor"]:
        told += f" that {claim['predecessor']} had not billed"
    return f"{told}. It is recorded in batch {claim['recorded_in']}."


def _cut(cut: Mapping[str, int]) -> str:
    """Lane and batch, as batches are named; lanes without a batch are left out."""
    return "batches " + ", ".join(f"{lane}-{batch}" for lane, batch in sorted(cut.items()) if batch)


def rate_text(rate: Mapping[str, str]) -> str:
    """A rate of a line as people read it: ``1 EUR = 1.0832 USD (ecb, 2026-10-30)``."""
    return f"1 {rate['base']} = {rate['rate']} {rate['quote']} ({rate['source']}, {rate['date']})"


def _exact(line: Document) -> str:
    """What the line items of a line come to; on a converted invoice in their own currency, and by which rates it went on."""
    if "original" not in line:
        return str(line["amount_exact"])
    before = line["original"]
    rates = " at " + ", ".join(map(rate_text, before["rates"])) if before["rates"] else ""
    return f"{before['amount_exact']} {before['currency']}{rates}"


# --- one line of it


def _line_tree(found: Document) -> Tree:
    from rich.tree import Tree

    sent, one = found["invoice"], found["lines"][0]
    line, items = one["line"], one["items"]
    tree = Tree(
        _text(
            (f"{sent['number']} line {line['line']}  {line['description']}, {sent['account_name']}: ", "bold"),
            (f"{line['amount']} {sent['currency']}", "bold"),
        ),
        guide_style=_DIM,
    )
    rounded = f"{line['amount_exact']} {sent['currency']} exactly, rounded to {line['amount']}"
    if "original" in line:
        rounded = f"{_exact(line)}, which is {line['amount_exact']} {sent['currency']}, rounded to {line['amount']}"
    comes_to = f"{_digits(line['quantity'])} {line['unit']} come to {rounded}"
    if line["kind"] == "credit":
        comes_to = f"prepaid credit of {rounded}, together with what is left to pay"
    tree.add(_text(f"{comes_to} ({line['residual']} is left over)"))
    if any("credit" in item for item in one["explained"]):
        _add_grant(tree, one["explained"][0])
    elif one["explained"]:
        _add_rule(tree, one["explained"][0])
    told = "they add up to this line" if one["adds_up"] else "THEY DO NOT ADD UP TO THIS LINE"
    branch = tree.add(_text(f"{_count(items['count'], 'line item')}; ", (told, "green" if one["adds_up"] else "red")))
    for item in one["explained"]:
        _add_item(branch, item)
    more = items["count"] - len(one["explained"])
    if more:
        branch.add(_text(f"and {_digits(str(more))} more: lineitem line-items --account {sent['account']}"))
    return tree


def _add_item(branch: Tree, item: Document) -> None:
    shown = item["line_item"]
    node = branch.add(
        _text(
            (f"{shown['id']}  ", "cyan"),
            f"{shown['event_time']}  {_digits(shown['quantity'])} {shown['unit']}  ",
            (f"{shown['amount']} {shown['currency']}", "bold"),
        )
    )
    if "credit" in item:
        _add_drawn(node, item)
    elif item["target"]["this_line_item"]:
        node.add(_text(_moved(item)))
    _add_events(node, item["events"])


# --- a line item


def _line_item_tree(found: Document) -> Tree:
    from rich.tree import Tree

    shown = found["line_item"]
    tree = Tree(
        _text(("Line item ", "bold"), (shown["id"], "cyan"), "  ", (f"{shown['amount']} {shown['currency']}", "bold")),
        guide_style=_DIM,
    )
    tree.add(
        _text(
            f"{shown['account']}, {shown['kind']}: {_digits(shown['quantity'])} {shown['unit']} at {shown['event_time']}, "
            f"used in {shown['service_period']}, in the books of {shown['posting_period']}"
        )
    )
    if shown["tags"]:
        tree.add(_text("tags " + ", ".join(_tag(name, value, found) for name, value in shown["tags"].items())))
    _add_rule(tree, found)
    if "canary" in found:
        tree.add(_text(_arm(found)))
    if found["target"]["this_line_item"]:
        tree.add(_text(_moved(found)))
    tree.add(_text(_written(found)))
    _add_events(tree, found["events"])
    return tree


def _credit_tree(found: Document) -> Tree:
    """A line item of prepaid credit."""
    from rich.tree import Tree

    shown = found["line_item"]
    tree = Tree(
        _text(("Line item ", "bold"), (shown["id"], "cyan"), "  ", (f"{shown['amount']} {shown['currency']}", "bold")),
        guide_style=_DIM,
    )
    tree.add(
        _text(
            f"{shown['account']}, prepaid credit for {shown['service_period']}, in the books of {shown['posting_period']}"
        )
    )
    _add_grant(tree, found)
    _add_drawn(tree, found)
    tree.add(_text(_written(found)))
    _add_events(tree, found["events"])
    return tree


def _written(found: Document) -> str:
    """When and by what a line item was written."""
    batch = found["batch"]
    return (
        f"batch {batch['batch']}, recorded {batch['recorded_at']} by lineitem {batch['engine_version']} "
        f"under catalog revision {batch['catalog_revision']}; lineitem proof {found['line_item']['id']} proves that it is in it"
    )


def _add_grant(tree: Tree, found: Document) -> None:
    """The grant and its terms."""
    grant = found["grant"]
    until = f"until {grant['expires']}" if grant["expires"] else "without end"
    told = f"grant {grant['id']}: {grant['granted']} {grant['currency']} granted in batch {grant['batch']} by {grant['by']}"
    node = tree.add(_text(told + (f" ({grant['reason']})" if grant["reason"] else "")))
    node.add(
        _text(
            f"priority {grant['priority']}, for usage from {grant['effective']} {until}, "
            + (f"of {', '.join(grant['prices'])}" if grant["prices"] else "of any price")
        )
    )
    state = f"; void: {grant['void']['reason']} (batch {grant['void']['batch']})" if grant["void"] else ""
    node.add(_text(f"by now {grant['drawn']} {grant['currency']} of it are drawn, {grant['left']} left{state}"))


def _add_drawn(tree: Tree, found: Document) -> None:
    """What it was drawn against."""
    credit, shown = found["credit"], found["line_item"]
    columns = ("price", "owed", "covered", "drawn", "drawn of others")
    names = ("price", "owed", "covered", "drawn", "drawn_of_others")
    rows = [[one[name] for name in names] for one in credit["prices"]]
    told = f"{shown['account']} owed in {credit['service_period']}, while the grant paid (covered), and what was drawn:"
    tree.add(_grouped(_text(told), _table(columns, rows, right=columns[1:])))
    tree.add(
        _text(
            f"{credit['drawn_before']} drawn before - {credit['drawn']} drawn now = {credit['amount']} {shown['currency']}"
        )
    )


def _tag(name: str, value: str, found: Document) -> str:
    origin = found.get("tag_origins", {}).get(name)
    return f"{name}={value}" + (f" (from the {origin})" if origin else "")


def _add_rule(tree: Tree, found: Document) -> None:
    """The price, and its arithmetic for everything it covers."""
    price, target, meter = found["price"], found["target"], found["price"]["meter"]
    reads = f"meter {meter['id']}: {meter['aggregation']} of {meter.get('value', 'events')}"
    if meter.get("filter"):
        reads += f" where {meter['filter']}"
    level = meter["aggregation"] == "time_weighted"
    itemized = f"itemized by {'event' if price['itemize'] == 'each' else price['itemize']}"
    itemized = "settled by the month" if level else itemized
    node = tree.add(
        _text(
            f"price {price['id']} of pricebook {price['pricebook']} version {price['version']}: {price['model']}, "
            + (f"{itemized}; {reads} of type {meter['event_type']}" if meter["id"] else "no meter")
        )
    )
    told = f"{_count(target['events'], 'event')} of {target['account']} in {target['service_period']} owe"
    if level:
        told = f"the level of {target['account']} in {target['service_period']} owes"
    node.add(_grouped(_text(f"{told} {target['amount']} {price['currency']} so far:"), _working(target["working"])))
    if level:
        node.add(_grouped(_text("the level, as its readings are now:"), _parts(target["parts"])))
        if target["readings_waiting"]:
            waiting = _count(target["readings_waiting"], "reading")
            node.add(_text(f"{waiting} of them will count once the month is settled again"))


def _parts(parts: Sequence[Document]) -> Table:
    rows = [[one["from"], one["until"], _digits(one["level"]), str(one["version"])] for one in parts]
    return _table(("from", "until", "level", "version"), rows, right=("level", "version"))


def _arm(found: Document) -> str:
    """Which version of a price that is tried billed the month, and what the other one would have charged."""
    canary, shown = found["canary"], found["line_item"]
    told = f"canary {canary['name']} ({canary['chosen']}) of pricebook {canary['pricebook']}: "
    if canary["arm"] == "stable":
        return f"{told}{shown['account']} is not in it, arm stable"
    told += f"{shown['account']} is in it, arm canary; "
    other = canary["other"]
    if other is None:
        return f"{told}`lineitem canary check` works out what the other version would have charged"
    share = "" if other["delta_percent"] is None else f", {other['delta_percent']} %"
    return (
        f"{told}the other version would have charged {other['other']} {shown['currency']} for {shown['service_period']}, "
        f"this one charges {other['amount']} ({other['delta']}{share})"
    )


def _working(steps: Sequence[Document]) -> Table:
    names = ("quantity", "unit_price", "flat_price", "amount")
    rows = [[step["label"], *[_digits(step[name]) if name in step else "" for name in names]] for step in steps]
    used = [at for at, name in enumerate(names, start=1) if any(row[at] not in ("", "0") for row in rows)]
    columns = ("step", *[names[at - 1].replace("_", " ") for at in used])
    return _table(columns, [[row[0], *[row[at] for at in used]] for row in rows], right=columns[1:])


def _moved(found: Document) -> str:
    """The one equation, with this line item's numbers."""
    moved, currency = found["target"]["this_line_item"], found["line_item"]["currency"]
    return (
        f"it moved the month from {_digits(moved['quantity_before'])} to {_digits(moved['quantity_after'])}: "
        f"{moved['total_after']} owed - {moved['posted_before']} posted before = {moved['amount']} {currency}"
    )


def _add_events(node: Tree, events: Document) -> None:
    if events.get("note"):
        node.add(_text(events["note"]))
    if not events["total"]:
        return
    if events["total"] == 1:
        told = "1 event:"
    else:
        shown = f", the first {events['shown']}" if events["shown"] < events["total"] else ""
        told = f"{_digits(str(events['total']))} events{shown}:"
    branch = node.add(_text(told))
    for event in events["items"]:
        charged = [_text(_charged(event["working"]))] if "working" in event else []
        charged += [_text(f"in the window of the promotion: {event['promotion']}")] if "promotion" in event else []
        branch.add(_grouped(_event(event), *charged, _raw(event["raw"]), *_mended(event)))


def _event(event: Document) -> Text:
    parts: list[str | tuple[str, str]] = [f"{event['time']}  "]
    if event["value"] is not None:
        parts.append(f"counts {_digits(event['value'])}, ")
    parts.append(f"id {event['id']} of {event['source']}, ")
    if event["trace_id"]:
        parts.append(f"trace {event['trace_id']}, ")
    parts.append(f"{event['stream']} at {event['position']} (batch {event['batch']}, record {event['record']})")
    if event["retracted"]:
        parts.append((f" RETRACTED: {event['retracted']}", "red"))
    return _text(*parts)


def _mended(event: Document) -> list[Text]:
    """What was changed of a record that was a dead letter: who, why, and what it reads like since."""
    told = [
        _text(f"fixed by {fix['by']} at {fix['at']} ({fix['reason']}): ", (patch_text(fix["patch"]), "yellow"))
        for fix in event.get("fixes", ())
    ]
    return [*told, _text("as mended:"), _raw(event["mended"])] if told else []


def patch_text(patch: Document) -> str:
    """A recorded patch in words."""
    parts = ["starting over"] if patch.get("afresh") else []
    if "record" in patch:
        parts.append("another record")
    parts += [f"{path} = {value}" for path, value in patch.get("set", {}).items()]
    return ", ".join(parts + [f"without {path}" for path in patch.get("remove", ())])


def _charged(step: Document) -> str:
    """What the event is charged under a price that charges each event."""
    parts = [step["label"]] if step["label"] else []
    if "unit_price" in step:
        parts.append(f"{step['quantity']} at {step['unit_price']}")
    if "flat_price" in step:
        parts.append(f"a fee of {step['flat_price']}")
    return f"charged {step['amount']}" + (": " if parts else "") + "; ".join(parts)


def _raw(record: str) -> Text:
    """The record as it was received, as much as fits on a line."""
    text = _text((" ".join(record.split()), _DIM))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


# --- pieces


def _text(*parts: str | tuple[str, str]) -> Text:
    """Text that is never read as markup."""
    from rich.text import Text

    return Text.assemble(*parts)


def _grouped(*parts: RenderableType) -> RenderableType:
    from rich.console import Group

    return Group(*parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*[Text(cell) for cell in row])
    return made


def _digits(number: str) -> str:
    """A decimal with its thousands set apart, every digit kept: ``1234567.50 -> 1,234,567.50``."""
    whole, point, fraction = number.partition(".")
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(whole):,}{point}{fraction}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")

"""What changed between two catalogs, for people to read before they publish and for programs as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lineitem.catalog.document import plain
from lineitem.catalog.model import Catalog, CostCenterRule, Pricebook, TagRule, owner
from lineitem.core.period import us_to_text


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field before and after, as text; None where it was or is not set."""

    field: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Reach:
    """The accounts a price bills from an instant on (microseconds since the epoch), and their usage of a past month.

    ``by_default``: accounts not seen yet will have it too. ``usage``: quantity and unit, the accounts' quantities summed.
    """

    accounts: int
    first: tuple[str, ...]
    by_default: bool
    since_us: int
    period: str
    usage: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """For people: two lines, indented as the fields of a change."""
        named = ", ".join(self.first) + (", ..." if self.accounts > len(self.first) else "")
        whom = f"{self.accounts} account{'' if self.accounts == 1 else 's'}" + (f" ({named})" if named else "")
        later = " and new ones" if self.by_default else ""
        used = ", ".join(f"{quantity} {unit}" for quantity, unit in self.usage) or "no usage"
        return f"  for {whom}{later} from {us_to_text(self.since_us)}\n  in {self.period}: {used}"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "accounts": self.accounts,
            "first": list(self.first),
            "by_default": self.by_default,
            "since": us_to_text(self.since_us),
            "period": self.period,
            "usage": [{"quantity": quantity, "unit": unit} for quantity, unit in self.usage],
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was ``added``, ``removed`` or ``changed``.

    ``what`` is ``catalog``, ``currency``, ``meter``, ``pricebook``, ``price``, ``defaults``, ``account``, ``issuer``,
    ``publishing``, ``conversion``, ``tag`` or ``cost_center``; ``id`` names it (a price as ``pricebook@version/price``,
    what has a start of its own as ``key@start``, a cost centre by what it is for); ``fields`` are its fields that
    differ, all of them when added.
    ``reach``: whom a changed price concerns, where a ledger was asked.
    """

    action: str
    what: str
    id: str
    fields: tuple[FieldChange, ...]
    reach: Reach | None = None

    def text(self) -> str:
        """The change for people, one line per field below the first."""
        label = f"{self.what} {self.id}".rstrip()
        lines = [f"{self.action} {label}"]
        for change in self.fields:
            if self.action == "added":
                lines.append(f"  {change.field}: {change.new}")
            elif self.action == "changed":
                lines.append(f"  {change.field}: {change.old or '(none)'} -> {change.new or '(none)'}")
        return "\n".join(lines if self.reach is None else [*lines, self.reach.text()])

    def document(self) -> dict[str, Any]:
        """The change as JSON has it."""
        fields = [{"field": change.field, "old": change.old, "new": change.new} for change in self.fields]
        found = {"action": self.action, "what": self.what, "id": self.id, "fields": fields}
        return found if self.reach is None else found | {"affects": self.reach.document()}


def diff(old: Catalog | None, new: Catalog) -> list[Change]:
    """Changes from ``old`` (None: nothing was published yet) to ``new``, in the order of a catalog file.

    The prices of a pricebook version that is new are compared with the version before it, which is what changes for
    the accounts.
    """
    changes = _compare("catalog", _settings(old), _settings(new))
    changes += _compare("currency", _currencies(old), _currencies(new))
    changes += _compare("meter", _by_id(old.meters if old else ()), _by_id(new.meters))
    changes += _compare("pricebook", _books(old), _books(new))
    for book in new.pricebooks:
        changes += _compare("price", _prices(_counterpart(old, new, book), book), _prices(book, book))
    changes += _compare("defaults", {"": plain(old.defaults)} if old else {}, {"": plain(new.defaults)})
    changes += _compare("account", _by_id(old.accounts if old else ()), _by_id(new.accounts))
    changes += _compare("issuer", _issuer(old), _issuer(new))
    changes += _compare("publishing", _publishing(old), _publishing(new))
    changes += _compare("conversion", _conversion(old), _conversion(new))
    changes += _compare("tag", _tags(old), _tags(new))
    return changes + _compare("cost_center", _cost_centers(old), _cost_centers(new))


def _compare(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    changes = []
    for id_ in sorted(old.keys() | new.keys()):
        before, after = old.get(id_), new.get(id_)
        if before == after:
            continue
        action = "added" if before is None else "removed" if after is None else "changed"
        changes.append(Change(action, what, id_, _fields(before or {}, after or {})))
    return changes


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    names = list(dict.fromkeys([*after, *before]))
    pairs = [(name, _text(before.get(name)), _text(after.get(name))) for name in names]
    return tuple(FieldChange(name, old, new) for name, old, new in pairs if old != new)


def _text(value: Any) -> str | None:
    """A plain value on one line: tiers as ``(up_to 10, unit_price 1)``, tags as ``team=a``."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_text(inner) or 'unbounded'}" for key, inner in value.items()) + ")"
    if isinstance(value, list):
        if value and all(isinstance(item, list) for item in value):
            return ", ".join(f"{key}={inner}" for key, inner in value)
        return ", ".join(str(_text(item)) for item in value)
    return ", ".join(str(value).splitlines())


def _settings(catalog: Catalog | None) -> dict[str, Any]:
    if catalog is None:
        return {}
    horizon = {} if catalog.horizon_days is None else {"horizon_days": catalog.horizon_days}
    return {"": {"currency": catalog.currency} | horizon}


def _currencies(catalog: Catalog | None) -> dict[str, Any]:
    return {one.code: plain(one) for one in catalog.currencies} if catalog else {}


def _conversion(catalog: Catalog | None) -> dict[str, Any]:
    return {"": plain(catalog.conversion)} if catalog and catalog.conversion else {}


def _issuer(catalog: Catalog | None) -> dict[str, Any]:
    return {"": dict(catalog.issuer)} if catalog and catalog.issuer else {}


def _publishing(catalog: Catalog | None) -> dict[str, Any]:
    return {"": plain(catalog.publishing)} if catalog and catalog.publishing else {}


def _tags(catalog: Catalog | None) -> dict[str, Any]:
    return {_since(rule.key, rule.effective_from_us): _dated(rule, "key") for rule in (catalog.tags if catalog else ())}


def _cost_centers(catalog: Catalog | None) -> dict[str, Any]:
    rules = catalog.cost_centers if catalog else ()
    return {
        _since(", ".join(f"{key}={value}" for key, value in rule.when) or "*", rule.effective_from_us): _dated(
            rule, "when"
        )
        for rule in rules
    }


def _since(name: str, start_us: int | None) -> str:
    return name if start_us is None else f"{name}@{us_to_text(start_us)}"


def _dated(rule: TagRule | CostCenterRule, name: str) -> dict[str, Any]:
    """An entry without what names it; its end as people write it."""
    document = {key: value for key, value in plain(rule).items() if key not in (name, "effective_from_us")}
    until_us = document.pop("effective_until_us", None)
    if "read_from" in document:
        document["from"] = [path if not type_ else [type_, path] for type_, path in document.pop("read_from")]
    return document if until_us is None else document | {"effective_until": us_to_text(until_us)}


def _by_id(values: tuple[Any, ...]) -> dict[str, Any]:
    return {value.id: _without_id(plain(value)) for value in values}


def _without_id(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "id"}


def _books(catalog: Catalog | None) -> dict[str, Any]:
    found = {}
    for book in catalog.pricebooks if catalog else ():
        until_us = book.effective_until_us
        found[f"{book.id}@{book.version}"] = {
            "effective_from": us_to_text(book.effective_from_us),
            "effective_until": None if until_us is None else us_to_text(until_us),
        }
    return found


def _counterpart(old: Catalog | None, new: Catalog, book: Pricebook) -> Pricebook | None:
    """What the prices of ``book`` replace: the same version in ``old``, else the highest version below it in either.

    An account's first override replaces the prices of the same ids in the pricebook it has.
    """
    known = [*(old.pricebooks if old else ()), *new.pricebooks]
    candidates = [other for other in known if other.id == book.id and other.version < book.version]
    if old:
        candidates += [other for other in old.pricebooks if (other.id, other.version) == (book.id, book.version)]
    if not candidates and owner(book.id) is not None:
        return _overridden(known, new, book)
    return max(candidates, key=lambda other: other.version, default=None)


def _overridden(known: list[Pricebook], new: Catalog, book: Pricebook) -> Pricebook | None:
    has = next((account.pricebook for account in new.accounts if account.id == owner(book.id)), None)
    then = [other for other in known if other.id == has and other.effective_from_us <= book.effective_from_us]
    if not then:
        return None
    base, ids = max(then, key=lambda other: other.effective_from_us), {price.id for price in book.prices}
    return replace(base, prices=tuple(price for price in base.prices if price.id in ids))


def _prices(book: Pricebook | None, label: Pricebook) -> dict[str, Any]:
    prices = _by_id(book.prices) if book else {}
    return {f"{label.id}@{label.version}/{id_}": document for id_, document in prices.items()}

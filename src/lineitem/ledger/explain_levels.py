"""What a line item of a level rests on: the readings, the level they make span by span, and how that becomes T."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from lineitem.catalog import published
from lineitem.catalog.snapshot import PriceRow
from lineitem.core.money import scaled_to_text
from lineitem.core.period import us_to_text
from lineitem.ledger import levels
from lineitem.ledger.evidence import Evidence, event_behind
from lineitem.ledger.level_months import holders
from lineitem.ledger.levels import Pair, StoredReading
from lineitem.ledger.read import FoundItem
from lineitem.ledger.refold import Replay
from lineitem.rate.levels import Window, parts, windows_of
from lineitem.rate.price import compile_price
from lineitem.rate.quote import level_steps
from lineitem.rate.quote_levels import opening_steps
from lineitem.rate.working import Step

NOTE = (
    "These readings set the level of the month: the last one before it, and those in it. The month is settled, not rated"
    " event by event: a line item is how far T moved when it was settled."
)


class Level:
    """The level behind a line item, as the readings there are now make it."""

    def __init__(self, replay: Replay, item: FoundItem, row: PriceRow, period: tuple[int, int]) -> None:
        self._replay, self._item, self._row = replay, item, row
        pair = Pair(item.account_key, row.meter.id)
        found = levels.readings(replay.connection, item.namespace_key, [(pair, *period)])[pair]
        self.readings: list[StoredReading] = found
        snapshot = replay.snapshot(published.current_revision(replay.connection, replay.namespace))
        holder = holders(snapshot, published.accounts_by_key(replay.connection, [item.account_key]))[item.account_key]
        windows = windows_of(snapshot, holder, item.service_month, row.meter.id).get(row.price.id, [])
        self._windows: list[Window] = [one for one in windows if one.row.price_key == row.price_key]

    def parts(self) -> Iterator[dict[str, Any]]:
        """Span by span what the price counts, and the pricebook version that does."""
        found = [one.reading for one in self.readings]
        for window in self._windows:
            for part in parts(found, window.start_us, window.end_us):
                yield {
                    "from": us_to_text(part.start_us),
                    "until": us_to_text(part.end_us),
                    "level": scaled_to_text(part.level, self._row.meter.scale),
                    "version": window.row.version,
                }

    def unseen(self) -> int:
        """How many of the readings nobody has counted yet."""
        return sum(not one.seen for one in self.readings)

    def evidence(self, events_max: int) -> Evidence:
        """The readings as raw events, the last ones where they are too many."""
        shown = self.readings[-events_max:]
        found = [event_behind(self._replay, self._item, self._row, one.reading.key) for one in shown]
        return Evidence(len(self.readings), None, [event for one in found for event in one.events])


def level_working(row: PriceRow, item: FoundItem, target: dict[str, Any]) -> list[Step]:
    """How T of a settled target comes about."""
    quantity = target["posted_quantity"]
    counted = Fraction(quantity, 10**row.quantity_scale)
    if not quantity and not target["posted_nano"]:
        return [Step("nothing is held", counted, amount=Fraction(0))]
    opening = opening_steps(row, quantity, item.service_month, target["start_us"], target["end_us"])
    return level_steps(compile_price(row.price, row.quantity_scale), *opening)

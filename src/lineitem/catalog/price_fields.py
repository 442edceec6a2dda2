"""What every key of a price means, in a sentence: the source of the models' reference pages."""

from __future__ import annotations

FIELD_MEANINGS: dict[str, str] = {
    "id": "names the price inside its pricebook version",
    "meter": "the meter it bills; several prices may bill one",
    "model": "the model of this page",
    "currency": "ISO 4217 code; default: the catalog's",
    "itemize": "`each` event its own line item (default), or one per `minute`, `hour` or `day` (UTC), account, price and tags",
    "description": "the text on the invoice; default: the id",
    "included": "units of the month that cost nothing",
    "pool": "a name: the prices of a version that have it share their `included` units, in order of their ids; all write the "
    "same `included`",
    "rollover_max": "how many units of `included` that are left at the end of a month the next one gets, at most",
    "maximum": "the most a month costs",
    "minimum": "the least a month costs, once it is settled; what is missing is a line item `true_up`",
    "discount_rate": 'a share of the amount: `"0.15"` is 15 % off',
    "promotion": '`{discount_rate: "0.2", from: 2026-11-01T00:00:00Z, until: 2026-12-01T00:00:00Z}`: a share off what '
    "the usage in that time adds, `until` excluded; one of the two may be left out. With a `zone` (Europe/Paris) they may be "
    "days. Tiers run on across its edges. The meter "
    "a sum or a count; not with `free_events` or `free_units` ([how it counts](../../explanation/promotions.md))",
    "on_change": "where a new version changes the price inside a period: `restart` (default) starts tiers of its own, "
    "`continue` goes on with those of the version before it (no per-event prices; the meter a sum or a count)",
    "transform": "`{divide_by: 1000, round: up}` converts the quantity first; `round` is `none` (default), "
    "`up`, `down` or `half_up`",
    "unit_price": "the price of one unit",
    "tiers": "a list of tiers with ascending bounds",
    "up_to": "where a tier ends, inclusive; `null` in the last tier",
    "flat_price": "a sum of its own, due once the tier is reached",
    "rate": 'a share of the money that is metered: `"0.029"` is 2.9 %; at most 1',
    "package_size": "units in one package, more than 0",
    "package_price": "the price of one package; one that is begun is due whole",
    "per_event": "a fee for each event",
    "minimum_per_event": "the least an event costs",
    "maximum_per_event": "the most an event costs",
    "free_events": "how many events of the month are free, the first ones by event time, then identity; at most 1000000",
    "free_units": "how many units of the month are free, those of the first events; with `free_events` too, what is used up "
    "first ends both",
    "price": "a path to the price of one unit, such as `data.unit_price`; this or `amount`",
    "amount": "a path to the whole amount of the event, such as `data.amount`; this or `price`. Of a `flat` price "
    "what a month costs",
    "prices": "the ids of the prices that count towards it; default: all in its currency but other commitments",
    "charge": "`in_arrears` (default): a month is due when it has ended; `in_advance`: when the month before has",
    "prorate": "what is due of a month in which the account is active for a part: all of it (`none`, default), or its share, "
    "counted by `day` (one that is begun is whole) or `second`",
    "cost": "a path to what the event cost, such as `data.cost`",
    "multiplier": 'what the charge is multiplied by: `"1.15"` adds 15 %',
    "scale": "decimals kept of what is read from the event, 0 to 18, default 12; an event with more is a dead letter "
    "`too_precise`",
    "currency_from": "a path to the event's currency; an event in another one than the price's is a dead letter "
    "`currency_mismatch`",
    "dimensions": "1 to 8 paths; cells name them without `data.`",
    "cells": "1 to 10000 cells `{when: {model: gpt-4o}, unit_price}`; `when: {}` matches every event",
    "destination": "a path to the number called, such as `data.to`; required with `rates`",
    "rates": '1 to 50000 rows `{prefix: "33", name: France, rate: "0.10"}`; without it one rate or one list of `steps` '
    "is for all calls",
    "prefix": 'digits the number begins with, the longest match wins; `""` is for all other numbers',
    "name": "what the row is called in the working",
    "per": "how many units the rate is for: 60 for a price per minute",
    "off_peak_rate": "the same outside of the peak hours; required with `peak`",
    "increments": "`{first: 30, next: 6}`: what is begun is billed whole; default 1 and 1",
    "steps": "instead of `rate`: prices that change inside the call, a list with ascending bounds",
    "connect_fee": "a fee for each call that was answered: that has a duration",
    "connect_fee_unanswered": "`true`: for calls of 0 seconds too",
    "increment": "what is billed whole within the step; the step holds a whole number of it",
    "peak": '`{hours: [["08:00", "18:00"]], days: [mon, tue], mode: split}`: peak hours on some `days` (default all), to '
    "`24:00` or over midnight; `mode` is `split` (default) or `answer`",
    "zone": "whose clock the peak hours are on, an IANA name; default `UTC`",
    "round": "`{decimals: 4, mode: up}`: how each charge is rounded, once; 0 to 18 decimals, default 9; `up`, `down` or "
    "`half_up` (default)",
    "when": "the values the event's dimensions must have; texts, numbers in quotes, `true` or `false`",
}

MODEL_MEANINGS: dict[tuple[str, str], str] = {
    ("commitment", "amount"): "what the prices are to come to in a month",
    ("per_seat", "meter"): "the meter it bills, which is `time_weighted`; several prices may bill one",
    ("per_seat", "unit_price"): "the price of one unit for one month",
    ("per_seat", "included"): "units that cost nothing",
    ("per_seat", "minimum"): "the least a month costs in which a unit is held",
    (
        "per_seat",
        "prorate",
    ): "what of a month counts: its greatest level, for the whole month (`none`, default), the greatest "
    "level of each `day`, a day's share of the month each, or the level over time, exactly (`second`)",
    (
        "per_seat",
        "charge",
    ): "`in_arrears` (default): a month is due when it has ended; `in_advance`: with the month before, "
    "for the level there is then; what changes is settled later",
    ("telecom", "rate"): "what `per` units cost, at peak hours where there are any; may be more than 1",
    ("telecom", "up_to"): "where the step ends, counted from the answer, inclusive; `null` in the last step",
}
"""What a key means where a model reads it as something else."""


def meaning(model: str, key: str) -> str:
    """What ``key`` means in a price of ``model``."""
    return MODEL_MEANINGS.get((model, key)) or FIELD_MEANINGS[key]

"""The reason codes a dead letter can carry: one list, the source of ``docs/reference/reason-codes.md``."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Reason(IntEnum):
    """Reason code of a dead letter. The number is stored, the lower-case name is shown; neither is ever reused."""

    BAD_JSON = 1
    BAD_ENCODING = 2
    TOO_LARGE = 3
    TOO_DEEP = 4
    BAD_RECORD = 5
    MISSING_FIELD = 6
    BAD_FIELD = 7
    BAD_TIME = 8
    TIME_OUT_OF_RANGE = 9
    MISSING_VALUE = 10
    BAD_VALUE = 11
    TOO_PRECISE = 12
    VALUE_OUT_OF_RANGE = 13
    CONFLICT = 14
    UNKNOWN_ACCOUNT = 15
    NO_PRICE = 16
    TOO_OLD = 17
    CURRENCY_MISMATCH = 18
    MISSING_TAG = 19
    UNKNOWN_TAG = 20
    UNKNOWN_SCHEMA = 21
    SCHEMA_MISMATCH = 22
    REGISTRY_AWAY = 23
    PAUSED = 40
    THROTTLED = 41

    @property
    def code(self) -> str:
        """The code as users see it, e.g. ``too_precise``."""
        return self.name.lower()


TRANSIENT = frozenset({Reason.UNKNOWN_ACCOUNT, Reason.NO_PRICE})
"""Codes of good records that came before the catalog was ready for them: tried again by itself once the catalog has moved."""
TRANSIENT_SCHEMAS = frozenset({Reason.UNKNOWN_SCHEMA, Reason.REGISTRY_AWAY})
"""Codes of good records whose schema was not there: tried again when one is registered, or when the registry may be back."""

SWITCHED = frozenset({Reason.PAUSED, Reason.THROTTLED})
"""Codes of good records that a switch of `lineitem throttle` has made wait: they go on by themselves once it lets them."""


class Explanation(NamedTuple):
    """What a reason code means and what to do about it."""

    meaning: str
    remedy: str


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.BAD_JSON: Explanation(
        "The record is not well-formed JSON (NaN and Infinity are not JSON).",
        "Fix the producer's encoder; send the event again.",
    ),
    Reason.BAD_ENCODING: Explanation("The record is not valid UTF-8.", "Send UTF-8; re-encode the file."),
    Reason.TOO_LARGE: Explanation("The record is larger than 1 MiB.", "Keep payloads small: usage, not documents."),
    Reason.TOO_DEEP: Explanation("The record nests deeper than 64 levels.", "Flatten the event's data."),
    Reason.BAD_RECORD: Explanation(
        "The record does not have the format's shape (a truncated line, a wrong number of columns).",
        "Compare the raw bytes with the format's reference page.",
    ),
    Reason.MISSING_FIELD: Explanation(
        "A required attribute (specversion, type, subject, time, id) is missing, null or empty.",
        "Fill the attribute; for files without one, name a column in the mapping.",
    ),
    Reason.BAD_FIELD: Explanation(
        "An attribute has the wrong type or more than 1024 characters.", "Send a short string."
    ),
    Reason.BAD_TIME: Explanation(
        "The time is not an RFC 3339 instant with an offset, or names a time that does not exist.",
        "Send e.g. 2026-10-01T12:00:00Z; give the mapping a time format and zone.",
    ),
    Reason.TIME_OUT_OF_RANGE: Explanation(
        "The event lies before the year 2000 or more than one day in the future.",
        "Check the producer's clock; then replay.",
    ),
    Reason.MISSING_VALUE: Explanation(
        "A meter matches the event but the value it reads is missing or null.",
        "Send the value, or narrow the meter's filter.",
    ),
    Reason.BAD_VALUE: Explanation(
        "A meter matches the event but its value is not a finite decimal number, or a condition in it has no answer.",
        "Send a JSON number or a numeric string; a number to a condition that compares numbers.",
    ),
    Reason.TOO_PRECISE: Explanation(
        "The value has more decimals than the meter's scale keeps.",
        "Raise the meter's `scale`, send fewer decimals, or round in the meter's `value`: `round(data.x, 0.001)`.",
    ),
    Reason.VALUE_OUT_OF_RANGE: Explanation(
        "The value, or the amount it leads to, is larger than the ledger can hold (38 digits).",
        "Check the unit the producer counts in.",
    ),
    Reason.CONFLICT: Explanation(
        "An event with the same namespace, source and id but other content was accepted before.",
        "Decide which is right; send a corrected event under a new id.",
    ),
    Reason.UNKNOWN_ACCOUNT: Explanation(
        "The subject is not an account of the catalog and `accounts.defaults.open` is false.",
        "Add the account and publish, then replay.",
    ),
    Reason.NO_PRICE: Explanation(
        "A meter matches, but the account's pricebook has no price for it at the event's time, or the price no cell of its "
        "matrix or prefix of its rates for it.",
        "Publish a price that covers the time, or a cell or a prefix that matches, then replay.",
    ),
    Reason.TOO_OLD: Explanation(
        "The event is older than the catalog's `horizon_days`.",
        "Bring it in with `lineitem ingest --backfill NAME`, or raise `horizon_days` and publish, then replay.",
    ),
    Reason.CURRENCY_MISMATCH: Explanation(
        "The event says that its price is in another currency than the price it is billed by.",
        "Correct the producer's currency, or publish a price in that currency.",
    ),
    Reason.MISSING_TAG: Explanation(
        "The event has no value for a tag that the catalog requires of its type, and `missing` is `dead_letter`.",
        "Send the tag, or choose another policy in the catalog's `tags`, then replay.",
    ),
    Reason.UNKNOWN_TAG: Explanation(
        "A tag's value is none of the values, or not of the pattern, registered for the event's time (`unknown: dead_letter`).",
        "Correct the value, or register it in the catalog's `tags` and publish, then replay.",
    ),
    Reason.PAUSED: Explanation(
        "Somebody has paused the event's account or type.",
        "Nothing is lost: it is billed by itself once `lineitem throttle clear` lifts the switch that `throttle list` shows.",
    ),
    Reason.THROTTLED: Explanation(
        "The event's account or type brings more events than somebody allows it a second.",
        "Nothing is lost: it is billed by itself, as fast as the switch that `lineitem throttle list` shows allows.",
    ),
    Reason.UNKNOWN_SCHEMA: Explanation(
        "The event names a schema, by its id or as a version of a subject, that the schema registry does not have.",
        "Register the schema, then replay; see `lineitem schema list`.",
    ),
    Reason.SCHEMA_MISMATCH: Explanation(
        "The event's data is not what the schema it is held to says, or its bytes cannot be read with it.",
        "Correct the producer; `lineitem schema check --events` tells before. Or register what it sends, then replay.",
    ),
    Reason.REGISTRY_AWAY: Explanation(
        "The schema registry that the event's schema has to come from did not answer.",
        "Nothing, where a worker with that registry runs: it tries again. Else bring the registry back, then replay.",
    ),
}

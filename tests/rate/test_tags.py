"""Tag sets under a registry, against an oracle that goes event by event as the reference page tells it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Aggregation, Meter, Missing, Normalize, TagRule, Unknown
from lineitem.catalog.snapshot import AccountRow, canonical_tags
from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns
from lineitem.rate.match import match
from lineitem.rate.tags import TagSets

TYPES = ("a.used", "b.used")
METERS = (
    Meter("m", "a.used", Aggregation.COUNT, dimensions=("data.model", "data.team")),
    Meter("n", "a.used", Aggregation.COUNT),
    Meter("o", "b.used", Aggregation.COUNT, dimensions=("data.model",)),
)
Seen = tuple[str, str, int, dict[str, Any]]
"""Type, account's tags (JSON), time, data."""
Told = dict[tuple[str, int], dict[str, str] | Reason]
"""(meter, event) -> its tags, or why it has none."""


def settled(rules: tuple[TagRule, ...], seen: list[Seen]) -> tuple[Told, dict[int, str]]:
    """Events through match and TagSets; and what refused events are told."""
    count = len(seen)
    tags = list(dict.fromkeys(tags for _, tags, _, _ in seen))
    keys = np.array([number.to_bytes(16, "big") for number in range(count)], dtype="V16")
    events = EventColumns(
        np.arange(count, dtype=np.int32), [str(n) for n in range(count)], ["s"] * count, [type_ for type_, *_ in seen],
        ["x"] * count, np.array([time for _, _, time, _ in seen], dtype=np.int64), [data for *_, data in seen],
        [None] * count, keys, keys,
    )  # fmt: skip
    accounts = [AccountRow(at, str(at), "", None, "UTC", text) for at, text in enumerate(tags)]
    subject = np.array([tags.index(text) for _, text, _, _ in seen], dtype=np.int32)
    sets = TagSets(events, subject, accounts, rules)
    told: Told = {}
    texts: dict[int, str] = {}
    matches, rejects = match(events, METERS)
    assert rejects == []
    for one in matches:
        refused: dict[int, tuple[Reason, str]] = {}
        numbers = sets.of(one, refused)
        for at, row in enumerate(one.rows.tolist()):
            found: dict[str, str] | Reason = refused[row][0] if row in refused else json.loads(sets.texts[numbers[at]])
            told[(one.meter.id, row)] = found
            assert sets.text_of(one, at) == (None if row in refused else sets.texts[numbers[at]]), "one row alone"
            origins = sets.origins(one, at)
            assert isinstance(found, Reason) or origins.keys() == found.keys()
        texts |= {row: text for row, (_, text) in refused.items()}
    return told, texts


def oracle(rules: tuple[TagRule, ...], meter: Meter, seen: Seen) -> dict[str, str] | Reason:
    """One event, the way the reference page says it."""
    type_, account_text, time, data = seen
    account: dict[str, str] = json.loads(account_text)
    own = {path.removeprefix("data."): data.get(path.removeprefix("data."), "") for path in meter.dimensions}
    tags = account | own
    for rule in rules:
        start, end = rule.effective_from_us, rule.effective_until_us
        if (start is not None and time < start) or (end is not None and time >= end):
            continue
        path = dict(rule.read_from).get(type_, dict(rule.read_from).get(""))
        value: Any = (data.get(path.removeprefix("data.")) if path else None) or own.get(rule.key) or ""
        told_by_event = path is not None or rule.key in own
        required = rule.missing is not None and (type_ in rule.required_for or not rule.required_for)
        value = value if isinstance(value, list) else _normal(rule, value)
        if not value and (not told_by_event or not required or rule.missing is Missing.ACCOUNT):
            value = _normal(rule, account.get(rule.key, ""))
        if not value:
            if required and rule.missing is Missing.DEAD_LETTER:
                return Reason.MISSING_TAG
            if required:
                tags[rule.key] = "untagged"
        elif _fits(rule, value):
            tags[rule.key] = value
        elif rule.unknown is Unknown.UNTAGGED:
            tags[rule.key] = "untagged"
        elif rule.unknown is Unknown.DEAD_LETTER:
            return Reason.UNKNOWN_TAG
        elif isinstance(value, list):
            return Reason.BAD_VALUE
        else:
            tags[rule.key] = value
    return tags


def _normal(rule: TagRule, value: str) -> str:
    for step in rule.normalize:
        value = {"trim": value.strip(), "lower": value.lower(), "upper": value.upper()}[step.value]
    return "" if value == "untagged" else value


def _fits(rule: TagRule, value: Any) -> bool:
    if isinstance(value, list):
        return False
    return value in rule.values if rule.values else rule.pattern is None or bool(re.fullmatch(rule.pattern, value))


_WORDS = st.sampled_from(["", "ads", " Ads ", "search", "untagged", "x1", "x2"])


@st.composite
def registries(draw: st.DrawFn) -> tuple[TagRule, ...]:
    """Entries of two keys, one of them split in time."""
    found = []
    for key, start, end in (("team", None, 5), ("team", 5, 9), ("env", draw(st.none() | st.just(3)), None)):
        if draw(st.booleans()):
            kind = draw(st.sampled_from(["values", "pattern", "any"]))
            rule = TagRule(
                key,
                values=("ads", "x1") if kind == "values" else (),
                pattern="x[0-9]" if kind == "pattern" else None,
                normalize=draw(st.sampled_from([(), (Normalize.TRIM, Normalize.LOWER), (Normalize.UPPER,)])),
                missing=draw(st.none() | st.sampled_from(Missing)),
                required_for=draw(st.sampled_from([(), ("a.used",)])),
                unknown=draw(st.sampled_from(Unknown)),
                read_from=draw(
                    st.sampled_from([(), (("", f"data.{key}"),), (("a.used", "data.team"), ("b.used", "data.env"))])
                ),
                effective_from_us=start,
                effective_until_us=end,
            )
            found.append(rule)
    return tuple(found)


@st.composite
def events(draw: st.DrawFn) -> list[Seen]:
    """A few events; `team` may be something that is no text."""
    odd = st.just(["no", "text"])
    data = st.fixed_dictionaries({}, optional={"model": _WORDS, "team": _WORDS, "env": _WORDS | odd})
    tags = st.dictionaries(st.sampled_from(["team", "env", "other"]), _WORDS).map(canonical_tags)
    return draw(st.lists(st.tuples(st.sampled_from(TYPES), tags, st.integers(0, 10), data), max_size=12))


@given(registries(), events())
def test_columns_agree_with_the_page(rules: tuple[TagRule, ...], seen: list[Seen]) -> None:
    """Event by event, whatever stands beside it in the batch."""
    told, _ = settled(rules, seen)
    for meter in METERS:
        for at, one in enumerate(seen):
            if one[0] == meter.event_type:
                assert told[(meter.id, at)] == oracle(rules, meter, one)


@pytest.mark.parametrize(
    ("rule", "data", "told"),
    [
        (
            TagRule("team", values=("search",), unknown=Unknown.DEAD_LETTER, read_from=(("", "data.team"),)),
            {"team": "serch"}, "tag 'team' is 'serch', which is not registered; did you mean 'search'?",
        ),
        (
            TagRule("team", missing=Missing.DEAD_LETTER, read_from=(("", "data.team"),)), {"team": None},
            "tag 'team' is missing: data.team is empty",
        ),
        (
            TagRule("owner", missing=Missing.DEAD_LETTER), {}, "tag 'owner' is missing: neither event nor account has it",
        ),
        (
            TagRule("env", pattern="[a-z]+", unknown=Unknown.DEAD_LETTER, read_from=(("", "data.env"),)), {"env": 7},
            "tag 'env' is '7', which is not registered; the pattern is [a-z]+",
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_key_and_value(rule: TagRule, data: dict[str, Any], told: str) -> None:
    """What somebody who reads the dead letter needs."""
    _, texts = settled((rule,), [("b.used", "{}", 0, data)])
    assert texts == {0: told}

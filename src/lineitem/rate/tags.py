"""The tag set of each usage row: account's tags, dimensions, tags read from the event, and what the registry says of them.

An event's own value wins over the account's. Values are normalised, then held against the entries of the registry that
are in force at the event's time; a missing or unknown one follows the entry's policy. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression import parse_path
from lineitem.catalog.fields import suggestion
from lineitem.catalog.model import Missing, TagRule, Unknown
from lineitem.catalog.snapshot import AccountRow, canonical_tags
from lineitem.catalog.tag_rules import UNTAGGED, eras, known, normalised
from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns
from lineitem.rate.columns import Columns
from lineitem.rate.match import MeterMatch, combined, dimension_names
from lineitem.rate.readings import Dimension, Flaw, read_dimension, shown

_UNREADABLE = "\x00"
"""What a text begins with that says why a value is none: no readable value holds a NUL (``read_dimension``)."""


class Origin(StrEnum):
    """Where a tag's value came from."""

    EVENT = "event"
    ACCOUNT = "account"
    POLICY = "policy"


@dataclass(slots=True)
class _Rule:
    """An entry of the registry as it is for events of one type; ``at``: which of the values read is its own."""

    rule: TagRule
    path: str | None
    at: int | None
    required: bool
    _known: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def learn(self, texts: Sequence[str]) -> None:
        """Judge many values at once: a pattern is matched over all of them in one go."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        plain = [text for text in fresh if not text.startswith(_UNREADABLE)]
        self._known |= {text: (text, False) for text in fresh}
        texts_now = [normalised(self.rule, text) for text in plain]
        self._known |= dict(zip(plain, zip(texts_now, known(self.rule, texts_now), strict=True), strict=True))

    def judge(self, text: str) -> tuple[str, bool]:
        """A value normalised, "" for none, and whether the registry knows it."""
        if text not in self._known:
            self.learn([text])
        return self._known[text]


@dataclass(slots=True)
class _Read:
    """What events of one type say: ``values[index[i]]`` are the values read, then the era; ``rules[era]`` are in force.

    ``index``: (n,) int32, one for every event of the batch; of other types 0.
    """

    rules: list[list[_Rule]]
    values: list[tuple[str, ...]]
    index: NDArray[np.int32]


Origins = dict[str, Origin]


class TagSets:
    """Distinct tag sets of a batch, as canonical JSON in ``texts``."""

    def __init__(
        self,
        events: EventColumns,
        subject: NDArray[np.int32],
        accounts: Sequence[AccountRow | None],
        registry: Sequence[TagRule],
    ) -> None:
        """``subject``: (n,) the position in ``accounts`` of each event's account."""
        self.texts: list[str] = []
        self._events, self._subject, self._registry = events, subject, registry
        self._number: dict[str, int] = {}
        self._reads: dict[str, _Read] = {}
        distinct: dict[str, int] = {}
        self._account_tags = np.array(
            [distinct.setdefault(row.tags if row else "{}", len(distinct)) for row in accounts], dtype=np.int64
        )
        self._accounts: list[dict[str, str]] = [json.loads(text) for text in distinct]

    def of(self, match: MeterMatch, refused: dict[int, tuple[Reason, str]]) -> NDArray[np.int32]:
        """(k,) positions in ``texts`` of each matched row's tag set; what the registry refuses goes to ``refused``."""
        if not len(match.rows):
            return np.zeros(0, dtype=np.int32)
        read = self._read(match.meter.event_type)
        code = self._code(match, read, slice(None))
        distinct, inverse = np.unique(code, return_inverse=True)
        numbers = np.zeros(len(distinct), dtype=np.int32)
        flaws: dict[int, Flaw] = {}
        for at, one in enumerate(distinct.tolist()):
            found = self._resolve(match, read, one)
            if isinstance(found, Flaw):
                flaws[at] = found
            else:
                numbers[at] = self._add(canonical_tags(found))
        if flaws:
            bad = np.zeros(len(distinct), dtype=np.bool_)
            bad[list(flaws)] = True
            for row in np.flatnonzero(bad[inverse]).tolist():
                refused.setdefault(int(match.rows[row]), flaws[int(inverse[row])])
        return numbers[inverse]

    def text_of(self, match: MeterMatch, at: int) -> str | None:
        """The tag set of one matched row, None where the registry refuses it."""
        found = self._at(match, at)
        return None if isinstance(found, Flaw) else canonical_tags(found)

    def origins(self, match: MeterMatch, at: int) -> Origins:
        """Where each tag of one matched row came from."""
        origins: Origins = {}
        self._at(match, at, origins)
        return origins

    def _at(self, match: MeterMatch, at: int, origins: Origins | None = None) -> dict[str, str] | Flaw:
        read = self._read(match.meter.event_type)
        return self._resolve(match, read, int(self._code(match, read, slice(at, at + 1))[0]), origins)

    def _code(self, match: MeterMatch, read: _Read | None, at: slice) -> NDArray[np.int64]:
        """One number for each distinct combination of account's tags, dimensions and values read.

        Each factor is at most the number of events of a batch: the product stays far below int64 for any batch.
        """
        rows = match.rows[at]
        code = self._account_tags[self._subject[rows]]
        if match.dimensions is not None and match.dimension_index is not None:
            code = code * len(match.dimensions) + match.dimension_index[at]
        if read is not None:
            code = code * len(read.values) + read.index[rows]
        return code

    def _resolve(
        self, match: MeterMatch, read: _Read | None, code: int, origins: Origins | None = None
    ) -> dict[str, str] | Flaw:
        """The tags of one combination, or why there are none; ``origins``, where given, learns where each came from."""
        values: tuple[str, ...] = ()
        if read is not None:
            code, of_event = divmod(code, len(read.values))
            values = read.values[of_event]
        dimensions: dict[str, str] = {}
        if match.dimensions is not None:
            code, of_meter = divmod(code, len(match.dimensions))
            dimensions = dict(zip(dimension_names(match.meter), match.dimensions[of_meter], strict=True))
        account = self._accounts[code]
        if origins is not None:
            origins |= dict.fromkeys(account, Origin.ACCOUNT) | dict.fromkeys(dimensions, Origin.EVENT)
        tags = account | dimensions
        for rule in read.rules[int(values[-1])] if read is not None else ():
            found = _value(rule, account, dimensions, "" if rule.at is None else values[rule.at])
            if isinstance(found, Flaw):
                return found
            if found is not None:
                tags[rule.rule.key] = found[0]
                if origins is not None:
                    origins[rule.rule.key] = found[1]
        return tags

    def _add(self, text: str) -> int:
        if text not in self._number:
            self._number[text] = len(self.texts)
            self.texts.append(text)
        return self._number[text]

    def _read(self, event_type: str) -> _Read | None:
        """What the registry reads from events of a type; None where it says nothing of them."""
        if not self._registry:
            return None
        if event_type not in self._reads:
            self._reads[event_type] = self._read_type(event_type)
        return self._reads[event_type]

    def _read_type(self, event_type: str) -> _Read:
        events, count = self._events, len(self._events)
        rows = None if events.type.count(event_type) == count else _rows_of(events.type, event_type)
        columns = Columns(events, rows)
        changes, found = eras(self._registry)
        paths = sorted({path for rule in self._registry if (path := rule.path_for(event_type)) is not None})
        time_us = events.time_us if rows is None else events.time_us[rows]
        era = np.searchsorted(np.array(changes, dtype=np.int64), time_us, side="right").astype(np.int32)
        parts = [_column(columns, path) for path in paths]
        rules = [[_rule(rule, event_type, paths) for rule in in_force] for in_force in found]
        for in_force in rules:
            for rule in in_force:
                if rule.at is not None:
                    rule.learn(parts[rule.at].texts)
        values, index = combined([*parts, Dimension([str(number) for number in range(len(found))], era)])
        if rows is not None:
            index_all = np.zeros(count, dtype=np.int32)
            index_all[rows] = index
            index = index_all
        return _Read(rules, values, index)


def _rows_of(types: Sequence[str], event_type: str) -> NDArray[np.int64]:
    return np.array([row for row, type_ in enumerate(types) if type_ == event_type], dtype=np.int64)


def _rule(rule: TagRule, event_type: str, paths: Sequence[str]) -> _Rule:
    path = rule.path_for(event_type)
    return _Rule(rule, path, None if path is None else paths.index(path), rule.is_required(event_type))


def _column(columns: Columns, path: str) -> Dimension:
    """The values at a path as text; one that is no text says why, behind ``_UNREADABLE``."""
    found, flaws = read_dimension(columns.column(parse_path(path)))
    if not flaws:
        return found
    texts, index = list(found.texts), found.index.copy()
    number: dict[str, int] = {}
    for at, flaw in flaws.items():
        text = _UNREADABLE + flaw.text
        if text not in number:
            number[text] = len(texts)
            texts.append(text)
        index[at] = number[text]
    return Dimension(texts, index)


def _value(
    rule: _Rule, account: Mapping[str, str], dimensions: Mapping[str, str], read: str
) -> tuple[str, Origin] | Flaw | None:
    """One tag's value and where it came from; None where nobody has it and nobody must."""
    key, policy = rule.rule.key, rule.rule.missing
    text, is_known = rule.judge(read or dimensions.get(key, ""))
    origin = Origin.EVENT
    told_by_event = rule.at is not None or key in dimensions
    if not text and not (told_by_event and rule.required and policy is not Missing.ACCOUNT):
        text, is_known = rule.judge(account.get(key, ""))
        origin = Origin.ACCOUNT
    if text and is_known:
        return text, origin
    if text:
        return _unknown(rule.rule, text, origin)
    if not rule.required:
        return None
    if policy is Missing.DEAD_LETTER:
        where = f"{rule.path} is empty" if told_by_event and rule.path else "neither event nor account has it"
        return Flaw(Reason.MISSING_TAG, f"tag {key!r} is missing: {where}")
    return UNTAGGED, Origin.POLICY


def _unknown(rule: TagRule, text: str, origin: Origin) -> tuple[str, Origin] | Flaw:
    """What becomes of a value that is not registered, or that cannot be read at all."""
    if rule.unknown is Unknown.UNTAGGED:
        return UNTAGGED, Origin.POLICY
    if text.startswith(_UNREADABLE):
        reason = Reason.BAD_VALUE if rule.unknown is Unknown.ACCEPT else Reason.UNKNOWN_TAG
        return Flaw(reason, f"tag {rule.key!r} {text.removeprefix(_UNREADABLE)}")
    if rule.unknown is Unknown.ACCEPT:
        return text, origin
    words = suggestion(text, rule.values) if rule.values else f"the pattern is {rule.pattern}"
    return Flaw(Reason.UNKNOWN_TAG, f"tag {rule.key!r} is {shown(text)}, which is not registered; {words}")

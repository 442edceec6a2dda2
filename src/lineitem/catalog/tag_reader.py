"""Reads `tags` and `cost_centers` of a catalog file and notes every problem with its line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from lineitem.catalog.cost_centers import UNALLOCATED, undecided
from lineitem.catalog.expression import parse_path
from lineitem.catalog.expression_words import ExpressionError
from lineitem.catalog.fields import Fields, shown, suggestion, unique
from lineitem.catalog.model import Account, CostCenterRule, Missing, Normalize, TagRule, Unknown
from lineitem.catalog.price_reader import shorten
from lineitem.catalog.tag_rules import (
    PATTERN_CHARS_MAX,
    TAG_CHARS_MAX,
    UNTAGGED,
    bounds_us,
    known,
    normalised,
    pattern_defect,
)
from lineitem.catalog.yaml_lines import KeyPath
from lineitem.core.limits import CATALOG_BYTES_MAX

TAG_KEYS = (
    "key",
    "owner",
    "description",
    "values",
    "pattern",
    "normalize",
    "required_for",
    "missing",
    "unknown",
    "from",
    "effective_from",
    "effective_until",
)
COST_CENTER_KEYS = ("when", "cost_center", "effective_from", "effective_until")
TAGS_MAX = 256
"""Entries of the registry: every event is held against those of its type."""
VALUES_MAX = 10_000
"""Values of one entry."""
COST_CENTERS_MAX = 2_000
"""Entries of the mapping: every two of them are held against each other, at every time that one begins or ends."""

_TEXT_CHARS_MAX = 1024


# --- tags


def read_tags(top: Fields, event_types: Collection[str]) -> tuple[TagRule, ...]:
    """The registry, sorted by key and start; ``event_types`` are those that meters look at."""
    items = top.items("tags")
    if len(items) > TAGS_MAX:
        top.at("tags", f"{len(items)} entries are too many; keep at most {TAGS_MAX}")
        return ()
    read = []
    for item, path in items:
        fields = Fields(item, path, top.problems, TAG_KEYS)
        read.append((_tag(fields, event_types), fields))
    _check_ranges(read)
    return tuple(sorted((rule for rule, _ in read), key=lambda rule: (rule.key, bounds_us(rule))))


def _tag(fields: Fields, event_types: Collection[str]) -> TagRule:
    start_us, until_us = _range(fields)
    required_for = _event_types(fields, event_types)
    missing = fields.choice("missing", Missing) if "missing" in fields else None
    if required_for and missing is None:
        missing = Missing.UNTAGGED
    rule = TagRule(
        key=fields.identifier("key", "team"),
        owner=fields.text("owner", chars_max=_TEXT_CHARS_MAX),
        description=fields.text("description", chars_max=_TEXT_CHARS_MAX),
        pattern=_pattern(fields),
        normalize=_normalize(fields),
        required_for=required_for,
        missing=missing,
        unknown=(fields.choice("unknown", Unknown) if "unknown" in fields else None) or Unknown.ACCEPT,
        read_from=_read_from(fields, event_types),
        effective_from_us=start_us,
        effective_until_us=until_us,
    )
    values = _values(fields, rule)
    if values and rule.pattern is not None:
        fields.at("pattern", "values and pattern exclude each other; remove one of the two")
    if "unknown" in fields and "values" not in fields and "pattern" not in fields:
        fields.at("unknown", "without values or a pattern no value is unknown; add one of them, or remove `unknown`")
    return replace(rule, values=values)


def _range(fields: Fields) -> tuple[int | None, int | None]:
    start_us, until_us = fields.instant_us("effective_from"), fields.instant_us("effective_until")
    if start_us is not None and until_us is not None and until_us <= start_us:
        fields.at("effective_until", "effective_until must lie after effective_from; correct one of the two")
    return start_us, until_us


def _texts(fields: Fields, key: str, example: str) -> list[tuple[str, KeyPath]]:
    """The entries of a list of texts; a bare number is refused, for its text would be a guess."""
    if key in fields and not fields.raw(key):
        fields.at(key, f"{key!r} is empty; write for example `{key}: [{example}]`, or remove the key")
    found = []
    for item, path in fields.items(key):
        if not isinstance(item, str) or not item:
            fields.problems.at(path, f"{shown(item)} in {key!r} must be a text; write it in quotes")
        else:
            found.append((item, path))
    unique(list(found), fields.problems, lambda text: f"{text!r} in {key!r}")
    return found


def _event_types(fields: Fields, known_types: Collection[str]) -> tuple[str, ...]:
    found = _texts(fields, "required_for", "llm.completion")
    for text, path in found:
        _check_event_type(fields, text, path, known_types)
    return tuple(sorted(text for text, _ in found))


def _check_event_type(fields: Fields, text: str, path: KeyPath, known_types: Collection[str]) -> None:
    if text not in known_types:
        told = f"no meter looks at events of the type {shorten(text)}; {suggestion(text, known_types)}"
        fields.problems.at(path, told)


def _normalize(fields: Fields) -> tuple[Normalize, ...]:
    names = [step.value for step in Normalize]
    steps = []
    for text, path in _texts(fields, "normalize", "trim, lower"):
        if text in names:
            steps.append(Normalize(text))
        else:
            fields.problems.at(path, f"{shorten(text)} is no way to normalize; {suggestion(text, names)}")
    if {Normalize.LOWER, Normalize.UPPER} <= set(steps):
        fields.at("normalize", "lower and upper undo each other; keep one of the two")
    return tuple(steps)


def _values(fields: Fields, rule: TagRule) -> tuple[str, ...]:
    found = _texts(fields, "values", "search, ads")
    if len(found) > VALUES_MAX:
        fields.at("values", f"{len(found)} values are too many; keep at most {VALUES_MAX}, or use a pattern")
    for text, path in found:
        came_out = normalised(rule, text)
        if text == UNTAGGED:
            fields.problems.at(path, f"{UNTAGGED!r} stands for no value; use another word")
        elif len(text) > TAG_CHARS_MAX:
            fields.problems.at(path, f"the value is {len(text)} characters long; at most {TAG_CHARS_MAX} are kept")
        elif came_out != text:
            told = f"{shorten(text)} never occurs, because `normalize` makes it {shorten(came_out)}; write that"
            fields.problems.at(path, told)
    return tuple(sorted(text for text, _ in found))


def _pattern(fields: Fields) -> str | None:
    pattern = fields.text("pattern", chars_max=CATALOG_BYTES_MAX)
    if not pattern:
        return None
    if len(pattern) > PATTERN_CHARS_MAX:
        fields.at("pattern", f"the pattern is {len(pattern)} characters long; at most {PATTERN_CHARS_MAX} are allowed")
        return None
    defect = pattern_defect(pattern)
    if defect is None:
        return pattern
    fields.at("pattern", f"the pattern cannot be read: {defect}; write an RE2 expression such as 'team-[a-z]+'")
    return None


def _read_from(fields: Fields, known_types: Collection[str]) -> tuple[tuple[str, str], ...]:
    written = fields.raw("from")
    if written is None:
        return ()
    here: KeyPath = (*fields.path, "from")
    if not isinstance(written, dict):
        return _path_pair(fields, "", written, here)
    if not written:
        fields.at("from", "'from' is empty; write a path such as data.team, or remove the key")
    found: list[tuple[str, str]] = []
    for event_type, path in written.items():
        _check_event_type(fields, str(event_type), (*here, event_type), known_types)
        found += _path_pair(fields, str(event_type), path, (*here, event_type))
    return tuple(sorted(found))


def _path_pair(fields: Fields, event_type: str, written: object, where: KeyPath) -> tuple[tuple[str, str], ...]:
    if not isinstance(written, str):
        fields.problems.at(where, f"{shown(written)} is not a path; write for example data.team")
        return ()
    try:
        parse_path(written)
    except ExpressionError as error:
        fields.problems.at(where, f"the path {error}")
        return ()
    return ((event_type, written),)


def _check_ranges(read: Sequence[tuple[TagRule, Fields]]) -> None:
    """No instant has two entries of one key."""
    by_key: dict[str, list[tuple[TagRule, Fields]]] = {}
    for rule, fields in read:
        others = by_key.setdefault(rule.key, [])
        for other, before in others:
            start, end = bounds_us(rule)
            other_start, other_end = bounds_us(other)
            if rule.key and start < other_end and other_start < end:
                line = fields.problems.line(before.path)
                told = f"the tag {rule.key!r} has another entry on line {line} that is in effect at the same time"
                fields.at("key", f"{told}; end one with effective_until where the other starts")
        others.append((rule, fields))


def check_account_tags(top: Fields, accounts: Iterable[Account], rules: Sequence[TagRule]) -> None:
    """A tag of an account that no entry of its key would ever take; ``accounts`` in the order of the file."""
    strict: dict[str, list[TagRule]] = {}
    for rule in rules:
        strict.setdefault(rule.key, []).append(rule)
    section = Fields(top.raw("accounts") or {}, ("accounts",), top.problems, None)
    for account, (_, path) in zip(accounts, section.items("list"), strict=True):
        for key, value in account.tags:
            entries = strict.get(key, [])
            if value and entries and not any(_takes(rule, value) for rule in entries):
                words = suggestion(value, entries[-1].values) if entries[-1].values else "see its pattern"
                told = (
                    f"the tag {key!r} of account {account.id!r} is {shorten(value)}, which is not registered; {words}"
                )
                top.problems.at((*path, "tags", key), told)


def _takes(rule: TagRule, value: str) -> bool:
    text = normalised(rule, value)
    return rule.unknown is Unknown.ACCEPT or not text or known(rule, [text])[0]


# --- cost centres


def read_cost_centers(top: Fields) -> tuple[CostCenterRule, ...]:
    """The mapping to cost centres, in one order however it was written."""
    items = top.items("cost_centers")
    if len(items) > COST_CENTERS_MAX:
        top.at("cost_centers", f"{len(items)} entries are too many; keep at most {COST_CENTERS_MAX}")
        return ()
    paths = [path for _, path in items]
    read = [_cost_center(Fields(item, path, top.problems, COST_CENTER_KEYS)) for item, path in items]
    for first, second, text in undecided(read):
        line = top.problems.line(paths[first])
        top.problems.at(paths[second], f"this cost centre and the one on line {line} {text}")
    return tuple(sorted(read, key=lambda rule: (rule.when, bounds_us(rule), rule.cost_center)))


def _cost_center(fields: Fields) -> CostCenterRule:
    start_us, until_us = _range(fields)
    fields.require("when", "{team: search}")
    fields.require("cost_center", '"42"')
    center = fields.text("cost_center", chars_max=TAG_CHARS_MAX)
    if center == UNALLOCATED:
        fields.at("cost_center", f"{UNALLOCATED!r} is where amounts without a cost centre go; use another name")
    return CostCenterRule(center, fields.text_pairs("when"), start_us, until_us)

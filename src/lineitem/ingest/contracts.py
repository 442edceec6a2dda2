"""Events held to the schemas they name, or to the latest of their type where that is asked for.

An event whose data came in the wire format was decoded by its schema already. One that names a version in `dataschema`
(``.../subjects/<subject>/versions/<n>``) is held to it; one that names none, or something that is no version, is held to
the latest of its type's subject where that subject says `enforce`. Nothing is looked at where nothing is registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns, Reject
from lineitem.ingest.validate import Problem
from lineitem.schemas import formats
from lineitem.schemas.model import BadSchema, Schema, subject_of
from lineitem.schemas.source import Absent, Looked, OwnRegistry, Source

_VERSION = re.compile(r"(?:.*/)?subjects/([^/?#]+)/versions/([1-9]\d{0,8}|latest)/?")
_ID = re.compile(r"(?:.*/)?schemas/ids/(\d{1,9})/?")
_Named = str | int | None
_Check = Callable[[Any], Problem | None]


def _good(data: Any) -> Problem | None:
    return None


@dataclass(slots=True)
class Contracts:
    """``own``: the namespace's registry, which also says what is enforced; ``other``: the one schemas come from instead."""

    own: OwnRegistry
    other: Source | None = None
    _checks: dict[tuple[str, _Named], _Check] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """Where schemas come from."""
        return self.own if self.other is None else self.other

    def looking(self) -> Looked:
        """The schemas of one batch's messages, found as they are met."""
        self.own.refresh()
        return Looked(self.source)

    def rejects(self, events: EventColumns) -> list[Reject]:
        """One for each event that breaks the schema it is held to, or names one that is not there."""
        book = self.own.book
        if not book.versions and self.other is None:
            return []
        named: Sequence[_Named] = events.dataschema or ()
        if not named:
            enforced = {name for name in set(events.type) if book.enforced(subject_of(name))}
            if not enforced:
                return []
            named = [None] * len(events)
        self._checks = {}
        return list(self._broken(events, named))

    def _broken(self, events: EventColumns, named: Sequence[_Named]) -> Iterator[Reject]:
        for row, key in enumerate(zip(events.type, named, strict=True)):
            check = self._checks.get(key)
            if check is None:
                check = self._checks[key] = self._check(*key)
            problem = check(events.data[row])
            if problem is not None:
                ordinal, identity = int(events.ordinal[row]), bytes(events.key[row])
                yield Reject(ordinal, problem.reason, problem.detail, identity, bytes(events.digest[row]))

    def _check(self, event_type: str, named: _Named) -> _Check:
        """What events of a type that name ``named`` are held to."""
        own = subject_of(event_type)
        enforced = self.own.book.enforced(own)
        if isinstance(named, int):
            return self._of_subject(named, own) if enforced else _good
        reference = _version_of(named)
        if isinstance(reference, int):
            found = self.source.by_id(reference)
            if isinstance(found, Absent):
                return _absent(found, f"schema {reference}")
            return self._of_subject(reference, own, found) if enforced else _held_to(found, f"schema {reference}")
        if reference is None:
            return self._latest(own) if enforced else _good
        subject, version = reference
        if enforced and subject != own:
            problem = Problem(Reason.SCHEMA_MISMATCH, f"it names {subject!r}, events of its type are held to {own!r}")
            return lambda data: problem
        held = self.source.by_version(subject, version)
        what = f"version {version or 'latest'} of {subject!r}"
        return _absent(held, what) if isinstance(held, Absent) else _held_to(held.schema, what)

    def _latest(self, subject: str) -> _Check:
        held = self.source.by_version(subject, None)
        what = f"the latest version of {subject!r}"
        if held is Absent.UNKNOWN:
            return _good  # enforced from the first registration on
        return _absent(held, what) if isinstance(held, Absent) else _held_to(held.schema, what)

    def _of_subject(self, id_: int, subject: str, schema: Schema | None = None) -> _Check:
        """The schema with an id has to be one of the subject's; ``schema``: where data was not decoded by it yet."""
        subjects = self.source.subjects(id_)
        if isinstance(subjects, Absent):
            return _absent(subjects, f"schema {id_}")
        if subject in subjects:
            return _good if schema is None else _held_to(schema, f"schema {id_}")
        problem = Problem(Reason.SCHEMA_MISMATCH, f"schema {id_} is none of {subject!r}, which its type is held to")
        return lambda data: problem


def _version_of(named: str | None) -> tuple[str, int | None] | int | None:
    """(subject, version, None for the latest) or the id that a `dataschema` names; None for what names none of ours."""
    if named is None:
        return None
    found = _VERSION.fullmatch(named)
    if found is not None:
        return unquote(found[1]), None if found[2] == "latest" else int(found[2])
    found = _ID.fullmatch(named)
    return None if found is None else int(found[1])


def _absent(absent: Absent, what: str) -> _Check:
    problem = missing(absent, what)
    return lambda data: problem


def missing(absent: Absent, what: str) -> Problem:
    """Why a schema that is named cannot be used."""
    if absent is Absent.AWAY:
        return Problem(Reason.REGISTRY_AWAY, f"{what} could not be asked for: the schema registry did not answer")
    return Problem(Reason.UNKNOWN_SCHEMA, f"{what} is not in the schema registry")


def _held_to(schema: Schema, what: str) -> _Check:
    try:
        parsed = formats.parse(schema)
    except BadSchema as error:
        problem = Problem(Reason.UNKNOWN_SCHEMA, f"{what} cannot be used: {error.problems[0]}")
        return lambda data: problem

    def check(data: Any) -> Problem | None:
        problems = parsed.problems(data)
        if not problems:
            return None
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Problem(Reason.SCHEMA_MISMATCH, f"{what}: {problems[0]}{more}")

    return check

"""A contract test: may this schema become its subject's next version, and do these events satisfy it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lineitem.core.exact_json import exact_json
from lineitem.schemas import formats
from lineitem.schemas.model import BadSchema, Schema
from lineitem.schemas.registry import Book

_PLACED = re.compile(r"line (\d+), column (\d+): (.*)", re.DOTALL)
_PLACE = re.compile(r"\bdata((?:/[^\s/:]+)+)")
_QUOTED = re.compile(r'"([A-Za-z_]\w*)"')
PROBLEMS_MAX = 100


@dataclass(slots=True)
class Verdict:
    """What came of checking one file. ``problems`` and ``warnings``: ``file:line: text``."""

    file: str
    subject: str
    compatibility: str = ""
    versions: int = 0
    registered: int | None = None
    """The version that this schema is already."""
    events: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As ``lineitem schema check --json`` prints it."""
        return {
            "file": self.file,
            "subject": self.subject,
            "ok": not self.problems,
            "compatibility": self.compatibility,
            "versions": self.versions,
            "registered_version": self.registered,
            "events": self.events,
            "events_skipped": self.skipped,
            "problems": self.problems[:PROBLEMS_MAX],
            "warnings": self.warnings,
        }


def located(path: str, text: str, problem: str) -> str:
    """A problem of a schema's text with its file and line: as it says itself, or where the field it names stands first."""
    placed = _PLACED.fullmatch(problem)
    if placed is not None:
        return f"{path}:{placed[1]}: {placed[3]}"
    place = _PLACE.search(problem)
    names = [one for one in place[1].split("/") if one not in ("", "*")] if place else _QUOTED.findall(problem)
    return f"{path}:{_line_of(text, names)}: {problem}"


def _line_of(text: str, names: Iterable[str]) -> int:
    at = 0
    for name in names:
        found = re.compile(rf"\b{re.escape(name)}\b").search(text, at)
        at = found.start() if found else at
    return text.count("\n", 0, at) + 1


def check(book: Book, subject: str, schema: Schema, path: str) -> Verdict:
    """Hold a schema, its references named, against the versions of its subject."""
    verdict = Verdict(path, subject, str(book.compatibility(subject)), len(book.versions.get(subject, {})))
    try:
        schema = book.whole(schema.format, schema.text, schema.references)
        parsed = formats.parse(schema)
    except BadSchema as error:
        verdict.problems += [located(path, schema.text, one) for one in error.problems]
        return verdict
    verdict.warnings += [located(path, schema.text, one) for one in parsed.warnings]
    known = book.find(schema)
    verdict.registered = next(
        (version for version, one in book.versions.get(subject, {}).items() if one == known), None
    )
    if verdict.registered is None:
        verdict.problems += [located(path, schema.text, one) for one in book.problems(subject, schema)]
    return verdict


def check_events(verdict: Verdict, schema: Schema, event_type: str, lines: Iterable[bytes], path: str) -> None:
    """Hold events (CloudEvents as JSON, or bare ``data``, one a line) against a schema that parses; other types are skipped."""
    parsed = formats.parse(schema)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = exact_json(line)
        except (ValueError, RecursionError) as error:
            verdict.problems.append(f"{path}:{number}: not JSON: {error}")
            continue
        if isinstance(event, Mapping) and "specversion" in event:
            if event.get("type") != event_type:
                verdict.skipped += 1
                continue
            event = event.get("data", {})
        verdict.events += 1
        verdict.problems += [f"{path}:{number}: {one}" for one in parsed.problems(event)]


def summary(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Verdicts in words, a line each; problems are shown apart."""
    for one in verdicts:
        count = len(one.problems)
        said = f"{one.file}: " + (f"{count} problem{'s' * (count > 1)}" if count else "good")
        if one.registered is not None:
            said += f", it is version {one.registered} of {one.subject} already"
        elif one.versions:
            said += f", against {one.versions} version{'s' * (one.versions > 1)} of {one.subject} ({one.compatibility})"
        else:
            said += f", nothing is registered under {one.subject} yet"
        if one.events or one.skipped:
            said += f"; {one.events} events checked" + (f", {one.skipped} of other types" if one.skipped else "")
        yield said + "."

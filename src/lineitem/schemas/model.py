"""What a schema is here: its text and format, what it refers to, and how two of them may differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from lineitem.core.errors import InputError

SCHEMA_CHARS_MAX = 1 << 20
"""Characters of one schema."""
SUBJECT_CHARS_MAX = 512
REFERENCES_MAX = 100
"""Schemas that one refers to, directly or through others."""


def subject_of(event_type: str) -> str:
    """The subject that holds the schemas of an event type's ``data``: what a Kafka client chooses for a topic of that name."""
    return f"{event_type}-value"


class Reference(NamedTuple):
    """Another schema that this one uses under ``name`` (a type, an import, a URI): a version of a subject."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema with all it takes to read it. ``needs``: name and text of whatever it refers to, what others need first."""

    format: str
    text: str
    references: tuple[Reference, ...] = ()
    needs: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, Any]:
        """As a raw segment keeps it."""
        return {"format": self.format, "text": self.text, "needs": [list(one) for one in self.needs]}


def schema_of(document: Mapping[str, Any]) -> Schema:
    """The schema in a document of ``Schema.document``. Raises KeyError, TypeError or ValueError for what is none."""
    return Schema(document["format"], document["text"], (), tuple((str(n), str(t)) for n, t in document["needs"]))


class BadSchema(InputError):
    """A text that is no schema of its format. ``problems``: one sentence each, with its line where that is known."""

    def __init__(self, problems: Sequence[str], *, where: str = "", do: str = "Correct the schema.") -> None:
        super().__init__("\n".join(problems), where=where, do=do)
        self.problems = list(problems)


class Unreadable(Exception):
    """Bytes that are not what their schema says; a value for callers, who make a dead letter of it."""


class Parsed(Protocol):
    """A schema, understood."""

    canonical: str
    """Equal for texts that say the same: what a schema's digest covers."""
    warnings: Sequence[str]
    """What is allowed and may surprise whoever bills by it."""

    def decode(self, payload: bytes) -> Any:
        """``data`` of one message: JSON values whose numbers are int or Decimal. Raises Unreadable."""
        ...

    def problems(self, data: Any) -> list[str]:
        """Why ``data`` (as ``decode`` gives it) does not satisfy the schema, each beginning with the place; none if it does."""
        ...


class Format(Protocol):
    """One language of schemas: a module of ``schemas.formats``."""

    def parse(self, schema: Schema) -> Parsed:
        """Understand a schema. Raises BadSchema."""
        ...

    def unreadable(self, reader: Any, writer: Any) -> list[str]:
        """Why what ``writer`` allows could not be read by ``reader``, or would be read as another amount; both parsed."""
        ...


class Compatibility(StrEnum):
    """What a new version of a subject owes the versions before it (the names are Confluent's).

    BACKWARD: it reads what the last one wrote. FORWARD: the last one reads what it writes. FULL: both. TRANSITIVE: with
    regard to every version.
    """

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def backward(self) -> bool:
        """Whether the new version has to read the old ones."""
        return self.name.startswith(("BACKWARD", "FULL"))

    @property
    def forward(self) -> bool:
        """Whether the old versions have to read the new one."""
        return self.name.startswith(("FORWARD", "FULL"))

    @property
    def transitive(self) -> bool:
        """Whether all versions count, not only the last."""
        return self.name.endswith("_TRANSITIVE")

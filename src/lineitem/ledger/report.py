"""What verifying a ledger finds, and the batches it compares with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lineitem.ledger.chain import Batch

Place = tuple[int, int]
"""(lane, batch)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written; ``place`` None where no batch is to blame."""

    place: Place | None
    what: str


@dataclass(slots=True)
class Report:
    """What verifying found; ``ok`` when nothing is wrong."""

    batches: int = 0
    line_items: int = 0
    events: int = 0
    checkpoints: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    gaps: dict[str, int] | None = None
    """Open gaps in producers' sequences (``gaps.everywhere``), which are no finding; None where something was found."""

    @property
    def ok(self) -> bool:
        """Whether the ledger says what was written."""
        return not self.findings

    def document(self) -> dict[str, Any]:
        """As ``lineitem verify --json`` prints it."""
        findings = [
            {"batch": None if found.place is None else f"{found.place[0]}-{found.place[1]}", "what": found.what}
            for found in self.findings
        ]
        return {
            "ok": self.ok,
            "batches": self.batches,
            "line_items": self.line_items,
            "accepted_events": self.events,
            "checkpoints": self.checkpoints,
            "counts": self.counts,
            "gaps": self.gaps,
            "findings": findings,
        }

    def add(self, place: Place | None, what: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(place, what))


@dataclass(slots=True)
class Link:
    """A batch of the chain, and what its rows have to say to belong to it."""

    batch: Batch
    namespace_key: int
    partition_key: int | None
    hash: bytes


Progress = Callable[[str, int], None]
"""Called with what is being read and how many rows of it have been."""

"""A draft of a catalog, a retirement or a canary's step: what was done to it, its state, and who may do what next. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from lineitem.catalog.canary import Change, change_from_document
from lineitem.catalog.document import catalog_document, catalog_from_document
from lineitem.catalog.model import Approval, Catalog
from lineitem.core.errors import IntegrityError, Refused


class Act(StrEnum):
    """What can be done to a draft; it starts with the first."""

    DRAFT = "draft"
    REVIEW = "review"
    APPROVE = "approve"
    PUBLISH = "publish"


_STATES = {Act.PUBLISH: "published", Act.APPROVE: "approved", Act.REVIEW: "reviewed", Act.DRAFT: "draft"}


@dataclass(frozen=True, slots=True)
class Step:
    """One act; ``acted_us`` in microseconds since the epoch."""

    act: Act
    by: str
    note: str
    acted_us: int


@dataclass(frozen=True, slots=True)
class Retirement:
    """An end for a published version, excluded, in microseconds since the epoch."""

    pricebook: str
    version: int
    end_us: int

    def document(self) -> str:
        """Canonical JSON."""
        fields = {"pricebook": self.pricebook, "version": self.version, "end_us": self.end_us}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


Content = Catalog | Retirement | Change
"""What can be put in force."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody wants to publish, made when ``base_revision`` of its namespace was in force."""

    number: int
    what: str  # catalog, retirement or canary
    base_revision: int
    digest: str  # SHA-256 of the document, hex
    document: str
    steps: tuple[Step, ...]

    @property
    def author(self) -> str:
        """Who made it."""
        return self.steps[0].by

    @property
    def state(self) -> str:
        """``draft``, ``reviewed``, ``approved`` or ``published``: the furthest it has come."""
        acts = {step.act for step in self.steps}
        return next(state for act, state in _STATES.items() if act in acts)

    def content(self) -> Content:
        """What it would put in force. Raises IntegrityError when its document is damaged."""
        if sha256(self.document.encode()).hexdigest() != self.digest:
            raise IntegrityError(f"draft {self.number} is not what was drafted", do="Run `lineitem verify`.")
        if self.what == "canary":
            return change_from_document(self.document)
        return (
            catalog_from_document(self.document) if self.what == "catalog" else Retirement(**json.loads(self.document))
        )

    def check(self, act: Act, by: str, policy: Approval, revision: int) -> None:
        """Raise Refused when ``by`` may not do this to the draft now, ``revision`` being in force."""
        if self.state == "published":
            raise Refused(f"draft {self.number} is published", do="Make a new one: lineitem catalog draft FILE")
        if self.base_revision != revision:
            raise Refused(
                f"draft {self.number} was made at revision {self.base_revision}, revision {revision} is in force",
                do="What it changes is no longer what was looked at: draft it again.",
            )
        if act is Act.APPROVE and policy.four_eyes and by == self.author:
            raise Refused(
                f"draft {self.number} is by {by!r}, and its author cannot approve it (publishing.approval.four_eyes)",
                do=f"Somebody else approves it: lineitem catalog approve {self.number}",
            )
        if act is Act.PUBLISH and policy.required and not self._approved(policy):
            raise Refused(
                f"draft {self.number} is not approved (publishing.approval.required)",
                do=f"Have it approved: lineitem catalog approve {self.number}",
            )

    def _approved(self, policy: Approval) -> bool:
        approvals = [step.by for step in self.steps if step.act is Act.APPROVE]
        return any(by != self.author for by in approvals) if policy.four_eyes else bool(approvals)


def document_of(content: Content) -> tuple[str, str]:
    """What a draft holds: ``(what, document)``."""
    if isinstance(content, Change):
        return "canary", content.document()
    if isinstance(content, Retirement):
        return "retirement", content.document()
    return "catalog", catalog_document(content).decode()

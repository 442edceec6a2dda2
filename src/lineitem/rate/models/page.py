"""What a price model's reference page says about it (``scripts/generate_reference.py`` writes the page)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Page:
    """The words of one page, and an example that the tests run."""

    summary: str
    """What is charged, and the rules of this model, in Markdown."""
    when: str
    """When to choose it, and what to choose otherwise."""
    example: Mapping[str, Any]
    """A price as the catalog writes it, without ``id`` and ``meter``."""
    usage: tuple[Any, ...]
    """Readings of the period's quantity to try it on; events for a per-event price."""

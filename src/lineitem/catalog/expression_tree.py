"""What an expression is once it is read: conditions for filters, and numbers computed from paths for values.

Trees are immutable and hashable. What they mean for an event is told (and computed) in ``rate.filter`` and
``rate.value``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

Value: TypeAlias = str | int | Decimal | bool | None
"""A constant of a condition."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value is: ``("data", "usage", "tokens")`` or ``("subject",)``."""

    steps: tuple[str, ...]

    def __str__(self) -> str:
        """The path as one would write it."""
        quoted = (step.replace("\\", "\\\\").replace('"', '\\"') for step in self.steps[1:])
        parts = [f".{step}" if step.isidentifier() and step.isascii() else f'["{step}"]' for step in quoted]
        return self.steps[0] + "".join(parts)


# --- conditions


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in a condition."""

    value: Value


@dataclass(frozen=True, slots=True)
class Compare:
    """``left operator right``; a literal always stands on the right."""

    operator: str
    left: Path
    right: Path | Literal


@dataclass(frozen=True, slots=True)
class Among:
    """``path in [options]``."""

    path: Path
    options: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class TextTest:
    """``path.method("text")``."""

    path: Path
    method: str
    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class AllOf:
    """Conjunction of two or more conditions."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Disjunction of two or more conditions."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | Among | TextTest | Not | AllOf | AnyOf


# --- numbers


@dataclass(frozen=True, slots=True)
class Constant:
    """A number written in a value, or what arithmetic makes of several: always exact."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``left operator right`` with ``+``, ``-`` or ``*``; dividing is multiplying by a constant's inverse."""

    operator: str
    left: Number
    right: Number


@dataclass(frozen=True, slots=True)
class Rounded:
    """``ceil``, ``floor`` or ``round`` (half away from zero) of a number to a multiple of ``step`` (above zero)."""

    mode: str
    number: Number
    step: Fraction


@dataclass(frozen=True, slots=True)
class Extreme:
    """The ``min`` or ``max`` of two or more numbers."""

    mode: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Absolute:
    """A number without its sign."""

    number: Number


@dataclass(frozen=True, slots=True)
class Conditional:
    """``condition ? then : otherwise``; the other branch is not looked at."""

    condition: Condition
    then: Number
    otherwise: Number


Number: TypeAlias = Path | Constant | Arithmetic | Rounded | Extreme | Absolute | Conditional

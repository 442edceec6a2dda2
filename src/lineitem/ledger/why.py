"""Why somebody did something: a reason that stays in the audit trail."""

from __future__ import annotations

from lineitem.core.errors import Refused


def say_why(what: str, reason: str, chars_max: int) -> None:
    """Raise Refused where ``reason`` is none, too long, or has control characters; ``what`` is what it is for."""
    if not reason.strip() or len(reason) > chars_max or not reason.isprintable():
        raise Refused(
            f"{what} needs a reason of 1 to {chars_max} printable characters",
            do="Say why with --reason; it stays in the audit trail.",
        )

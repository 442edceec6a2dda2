"""Service and posting periods: half-open, stored in UTC, computed in the account's zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from whenever import Date, Instant, Time, TimeZoneNotFoundError

from lineitem.core.errors import UsageError

_MIDNIGHT = Time(0, 0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LABEL = re.compile(r"^([12]\d{3})-(0[1-9]|1[0-2])$", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month as people name it: ``2026-10``."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """``"2026-10" -> Month(2026, 10)``. Raises UsageError for anything else."""
        match = _LABEL.match(text)
        if not match:
            raise UsageError(f"{text!r} is not a period", do="Write it as YYYY-MM, for example 2026-10.")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_index(cls, index: int) -> Month:
        """Inverse of ``index``."""
        return cls(index // 12, index % 12 + 1)

    @classmethod
    def of_us(cls, us: int) -> Month:
        """The month, in UTC, of an instant in microseconds since the epoch."""
        moment = us_to_datetime(us)
        return cls(moment.year, moment.month)

    @property
    def index(self) -> int:
        """Months since year 0; what the ledger stores, so that the next month is ``index + 1``."""
        return self.year * 12 + self.month - 1

    def next(self) -> Month:
        """The following month."""
        return Month.from_index(self.index + 1)

    def bounds_us(self, zone: str) -> tuple[int, int]:
        """Start (inclusive) and end (exclusive) of the month in ``zone``, microseconds since the epoch."""
        return month_start_us(self.index, zone), month_start_us(self.index + 1, zone)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


@lru_cache(maxsize=65_536)
def month_start_us(index: int, zone: str) -> int:
    """The first instant of month ``index`` (see ``Month.index``) in ``zone``, microseconds since the epoch.

    Where midnight of the first falls into a gap of the zone's clock, the month starts at the first instant after it.
    """
    return Date(index // 12, index % 12 + 1, 1).at(_MIDNIGHT).assume_tz(zone).timestamp() * 1_000_000


def day_start_us(day: str, zone: str) -> int:
    """The first instant of a calendar day, ``"2026-10-01"``, in ``zone``, microseconds since the epoch.

    Raises ValueError for a text that is no such day.
    """
    found = date.fromisoformat(day)
    return Date(found.year, found.month, found.day).at(_MIDNIGHT).assume_tz(zone).timestamp() * 1_000_000


def day_of_month(us: int, zone: str) -> int:
    """The calendar day, 1 to 31, of an instant in ``zone``."""
    return Instant.from_timestamp(us // 1_000_000).to_tz(zone).day


def zone_exists(zone: str) -> bool:
    """Whether the IANA time zone ``zone`` is known."""
    try:
        Date(2020, 1, 1).at(_MIDNIGHT).assume_tz(zone)
    except (TimeZoneNotFoundError, ValueError):
        return False
    return True


def local_day(us: int, zone: str) -> date:
    """The calendar day in ``zone`` of an instant in microseconds since the epoch."""
    local = Instant.from_timestamp(us // 1_000_000).to_tz(zone)
    return date(local.year, local.month, local.day)


def us_to_datetime(us: int) -> datetime:
    """Microseconds since the epoch as an aware UTC datetime, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def us_to_text(us: int) -> str:
    """Microseconds since the epoch as RFC 3339 UTC text: ``2026-10-01T00:00:00Z``."""
    return us_to_datetime(us).isoformat().replace("+00:00", "Z")


def age_text(seconds: int) -> str:
    """A span of time as people say it, in its largest whole unit: ``5 h``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

"""Instants: RFC 3339 strictly and exactly, other spellings as the mapping says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.reasons import Reason
from lineitem.ingest.time_formats import compile_format, parse_times
from lineitem.ingest.times import parse_rfc3339
from lineitem.ingest.validate import Problems

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = (datetime.fromisoformat(day) for day in ("0002-01-01", "9998-12-31"))
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def one(text: str, format_: str, zone: str | None = None) -> int | Reason:
    problems: Problems = {}
    time_us = parse_times([text], format_, zone, problems)
    return problems[0].reason if problems else int(time_us[0])


@given(
    st.lists(
        st.tuples(
            st.datetimes(FIRST, LAST, timezones=offsets),
            st.sampled_from(["seconds", "milliseconds", "microseconds"]),
            st.text("0123456789", max_size=5),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_rfc3339_agrees_with_the_standard_library(
    cases: list[tuple[datetime, str, str, bool]],
) -> None:
    """Every good instant in any mix of lengths; digits finer than a microsecond are cut off."""
    texts, expected = [], []
    for moment, precision, finer, lower in cases:
        text = moment.isoformat(timespec=precision)
        expected.append(micros(datetime.fromisoformat(text)))
        text = text if precision != "microseconds" else text[:26] + finer + text[26:]
        text = text.replace("+00:00", "Z")
        texts.append(text.lower() if lower else text)
    time_us, valid = parse_rfc3339(texts)
    assert valid.all()
    assert time_us.tolist() == expected


@given(st.text("0123456789-+:.TtZz ", max_size=34))
def test_rfc3339_never_accepts_what_the_standard_library_refuses(text: str) -> None:
    """Whatever is accepted is an ISO instant with an offset."""
    _, valid = parse_rfc3339([text])
    if valid[0] and not text.startswith("0000"):
        assert datetime.fromisoformat(text.upper()).tzinfo is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-09-01",
        "2026-09-01T12:00:00",
        "2026-09-01T12:00:00.5",
        "2026-09-01 12:00:00Z",
        "2026-09-01T12:00Z",
        "2026-09-01T24:00:00Z",
        "2026-09-01T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "2026-02-29T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-09-00T12:00:00Z",
        "2026-09-31T12:00:00Z",
        "2026-09-01T12:00:00.Z",
        "2026-09-01T12:00:00,5Z",
        "2026-09-01T12:00:00+2",
        "2026-09-01T12:00:00+0200",
        "2026-09-01T12:00:00+24:00",
        "2026-09-01T12:00:00+02:60",
        "2026-09-01T12:00:00.+02:00",
        "2026-09-01T12:00:00 02:00",
        "10000-01-01T00:00:00Z",
        "+2026-09-01T12:00:00Z",
        "2026-09-01T12:00:00.1234567890" + "1" * 60 + "Z",
        "\uff12026-09-01T12:00:00Z",
        "1790000000000000000000",
    ],
)
def test_rfc3339_refuses(text: str) -> None:
    """What RFC 3339 does not allow is not read, alone or among others of its length."""
    good = "2026-09-01T12:00:00Z"
    _, valid = parse_rfc3339([good, text, good])
    assert valid.tolist() == [True, False, True]


def test_named_formats() -> None:
    """ISO with or without an offset, and Unix numbers, to the microsecond."""
    noon = micros(datetime(2026, 9, 1, 12, tzinfo=UTC))
    assert one("2026-09-01 12:00:00", "iso", "UTC") == noon
    assert one("2026-09-01 12:00:00.1234567", "iso", "UTC") == noon + 123_456
    assert one("2026-09-01T14:00:00+0200", "iso", None) == noon
    assert one("2026-09-01 14:00", "iso", "Europe/Paris") == noon
    assert one("2026-09-01 12:00:00", "iso", None) == Reason.BAD_TIME
    assert one(str(noon // 10**6), "unix") == noon
    assert one(f"{noon // 10**6}.0000015", "unix") == noon + 1
    assert one(str(noon // 1000), "unix_ms") == noon
    assert one(str(noon), "unix_us") == noon
    assert one("9" * 40, "unix") == 1 << 62
    assert one("1e9", "unix") == Reason.BAD_TIME
    assert one("", "unix") == Reason.MISSING_FIELD


def test_patterns() -> None:
    """Patterns in any arrangement, with their own offset or the mapping's zone."""
    noon = micros(datetime(2015, 5, 17, 12, tzinfo=UTC))
    assert one("17/May/2015:14:00:00 +0200", "%d/%b/%Y:%H:%M:%S %z") == noon
    assert one("5/17/15 12:00 PM", "%m/%d/%y %I:%M %p", "UTC") == noon
    assert one("17.5.2015", "%d.%m.%Y", "UTC") == noon - 12 * 3600 * 10**6
    assert one("17/Foo/2015:14:00:00 +0200", "%d/%b/%Y:%H:%M:%S %z") == Reason.BAD_TIME
    assert one("31/Feb/2015:14:00:00 +0200", "%d/%b/%Y:%H:%M:%S %z") == Reason.BAD_TIME


def test_local_times_that_do_not_name_one_instant() -> None:
    """A time the zone's clock skips or shows twice is a bad time, not a guess."""
    assert one("2026-03-29 02:30:00", "iso", "Europe/Paris") == Reason.BAD_TIME
    assert one("2026-10-25 02:30:00", "iso", "Europe/Paris") == Reason.BAD_TIME
    assert one("2026-10-25 03:30:00", "iso", "Europe/Paris") == micros(datetime(2026, 10, 25, 2, 30, tzinfo=UTC))


@pytest.mark.parametrize("format_", ["%Q", "%Y-%m", "noon", "%Y-%m-%d %Y", "%Y-%m-%d %"])
def test_patterns_that_are_none(format_: str) -> None:
    """A pattern that cannot name an instant is refused before anything is read."""
    with pytest.raises(ValueError, match=r"format|day|twice"):
        compile_format(format_)

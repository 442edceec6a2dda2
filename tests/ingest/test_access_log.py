"""Access logs: each request an event, however odd its request line."""

from __future__ import annotations

import pytest

from lineitem.core.reasons import Reason
from tests.ingest.samples import decode_all

COMBINED = '10.0.0.1 - %s [17/May/2015:12:05:03 +0200] "%s" %s "http://a.example/" "Mozilla/5.0 (X11)"'
COMMON = '10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 -'


def data_of(line: str) -> dict[str, object]:
    events, rejects = decode_all("access-log", line.encode())
    assert not rejects
    return events.data[0]


def test_combined_and_common() -> None:
    """Every field of a line; absent ones are null, absent bytes are none."""
    first = COMBINED % ("frank", "GET /a?b=c HTTP/1.1", "200 17")
    events, rejects = decode_all("access-log", f"{first}\n{COMMON}".encode())
    assert not rejects
    assert events.type == ["http.request", "http.request"]
    assert events.subject == ["frank", "10.0.0.1"]
    assert events.time_us.tolist() == [1_431_857_103_000_000] * 2
    assert events.data[0] == {
        "host": "10.0.0.1", "user": "frank", "method": "GET", "path": "/a?b=c", "protocol": "HTTP/1.1",
        "status": 200, "bytes": 17, "referer": "http://a.example/", "user_agent": "Mozilla/5.0 (X11)",
    }  # fmt: skip
    assert events.data[1] == {
        "host": "10.0.0.1", "user": None, "method": "GET", "path": "/a", "protocol": "HTTP/1.1",
        "status": 200, "bytes": 0, "referer": None, "user_agent": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("request_line", "method", "path", "protocol"),
    [
        ("-", None, None, None),
        ("", None, None, None),
        ("GET /old", "GET", "/old", None),
        (r"GET /a\"b\\c HTTP/1.0", "GET", '/a"b\\c', "HTTP/1.0"),
        ("GET /with space HTTP/1.1", "GET", "/with space", "HTTP/1.1"),
        (r"\x16\x03\x01", None, r"\x16\x03\x01", None),
        ("quit now please", None, "quit now please", None),
    ],
)
def test_odd_request_lines(request_line: str, method: str | None, path: str | None, protocol: str | None) -> None:
    """Escaped quotes, no request, HTTP/0.9 and handshakes are requests too: they are billed as any other."""
    data = data_of(COMBINED % ("-", request_line, "400 226"))
    assert (data["method"], data["path"], data["protocol"]) == (method, path, protocol)


def test_users_with_spaces_and_extra_fields() -> None:
    """A user name may hold spaces; what follows the user agent is left alone."""
    line = COMBINED % ("Frank Sinatra", "GET / HTTP/1.1", "200 1") + ' "10.9.8.7" 0.003'
    assert data_of(line)["user"] == "Frank Sinatra"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (COMBINED[:-1] % ("-", "GET / HTTP/1.1", "200 1"), Reason.BAD_RECORD),
        ("hello", Reason.BAD_RECORD),
        (COMMON.replace("200", "OK"), Reason.BAD_RECORD),
        (COMMON.replace("200", "٢٠٠"), Reason.BAD_RECORD),
        (COMMON.replace("17/May", "31/Feb"), Reason.BAD_TIME),
        (COMMON.replace("17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03Z"), Reason.BAD_TIME),
        (COMMON.replace("2015", "1970"), Reason.TIME_OUT_OF_RANGE),
        (COMMON.replace("/a", "\udcff"), Reason.BAD_ENCODING),
    ],
)
def test_a_bad_line_is_one_reject_and_loses_no_neighbour(bad: str, reason: Reason) -> None:
    """A truncated line is not taken for a shorter format."""
    lines = [COMMON, bad, COMMON]
    events, rejects = decode_all("access-log", "\n".join(lines).encode(errors="surrogateescape"))
    assert [(reject.ordinal, reject.reason) for reject in rejects] == [(1, reason)]
    assert events.ordinal.tolist() == [0, 2]
    assert len(set(events.id)) == 2


def test_a_mapping_overrides_what_it_names() -> None:
    """The rest stays the default."""
    mapping = "subject: {const: www}\nid: {template: '{host}-{status}'}\ndata: {size: {column: bytes, type: integer}}"
    events, _ = decode_all("access-log", COMMON.encode(), mapping)
    assert (events.subject, events.type, events.id) == (["www"], ["http.request"], ["10.0.0.1-200"])
    assert events.data == [{"size": 0}]

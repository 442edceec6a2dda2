"""A registry elsewhere, asked over Confluent's REST: what cannot change is asked for once, what is away is waited for shortly.

Where it does not answer, one caller waits up to ``patience_s``; for as long again nobody does, and what is named is away at
once. So a worker slows down to a batch each few seconds while its registry is gone, and goes on by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from threading import Event
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from lineitem.adapters.schemaregistry.settings import Address
from lineitem.core.errors import EnvironmentProblem
from lineitem.schemas.formats import FORMATS
from lineitem.schemas.model import REFERENCES_MAX, SCHEMA_CHARS_MAX, Schema
from lineitem.schemas.source import Absent

_TIMEOUT_S = 3
_ANSWER_BYTES_MAX = 8 * SCHEMA_CHARS_MAX
_NOT_FOUND = frozenset({40401, 40402, 40403})
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class RemoteVersion(NamedTuple):
    """A version of a subject."""

    id: int
    schema: Schema


class _Away(Exception):
    """It did not answer, or not as a registry does; says how."""


class _Missing(Exception):
    """It answered that there is no such thing."""


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would send the secret to wherever it points."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _pause(seconds: float) -> None:
    Event().wait(seconds)


@dataclass(slots=True)
class RemoteRegistry:
    """``clock`` counts seconds, ``pause`` waits for so many. It keeps no connection, so that another process may have it."""

    address: Address
    patience_s: int = 10
    fresh_s: int = 30
    """How long `latest`, and that something is not there, is believed."""
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = _pause
    _schemas: dict[int, Schema] = field(default_factory=dict)
    _versions: dict[tuple[str, int], RemoteVersion] = field(default_factory=dict)
    _latest: dict[str, tuple[float, RemoteVersion]] = field(default_factory=dict)
    _unknown: dict[object, float] = field(default_factory=dict)
    _away_until: float = 0

    def check(self) -> None:
        """Ask it anything. Raises EnvironmentProblem where it does not answer as a registry does."""
        try:
            self._ask("/subjects")
        except (_Away, _Missing) as error:
            raise EnvironmentProblem(
                f"the schema registry does not answer: {error}", where=self.address.url,
                do="Check its address, and who calls in --schema-registry-config.",
            ) from error  # fmt: skip

    def by_id(self, id_: int) -> Schema | Absent:
        """See ``schemas.source.Source``."""
        if id_ in self._schemas:
            return self._schemas[id_]
        found: Schema | Absent = self._found(id_, lambda: self._schema(self._ask(f"/schemas/ids/{id_}")))
        if isinstance(found, Schema):
            self._schemas[id_] = found
        return found

    def by_version(self, subject: str, version: int | None) -> RemoteVersion | Absent:
        """See ``schemas.source.Source``."""
        if version is not None and (subject, version) in self._versions:
            return self._versions[(subject, version)]
        at, latest = self._latest.get(subject, (0, None))
        if version is None and latest is not None and self.clock() < at + self.fresh_s:
            return latest
        found: RemoteVersion | Absent = self._found((subject, version), lambda: self._version(subject, version))
        if isinstance(found, RemoteVersion):
            if version is None:
                self._latest[subject] = (self.clock(), found)
            else:
                self._versions[(subject, version)] = found
        return found

    def subjects(self, id_: int) -> frozenset[str] | Absent:
        """See ``schemas.source.Source``. Not remembered: another subject may get the schema later."""
        found: frozenset[str] | Absent = self._found(
            ("subjects of", id_), lambda: frozenset(map(str, self._ask(f"/schemas/ids/{id_}/subjects")))
        )
        return found

    # --- asking

    def _found(self, key: object, ask: Callable[[], Any]) -> Any:
        now = self.clock()
        if now < self._unknown.get(key, 0):
            return Absent.UNKNOWN
        if now < self._away_until:
            return Absent.AWAY
        end, pause = now + self.patience_s, 0.25
        while True:
            try:
                return ask()
            except _Missing:
                self._unknown = {one: until for one, until in self._unknown.items() if until > now}
                self._unknown[key] = self.clock() + self.fresh_s
                return Absent.UNKNOWN
            except _Away:
                if self.clock() + pause >= end:
                    self._away_until = self.clock() + self.patience_s
                    return Absent.AWAY
                self.pause(pause)
                pause *= 2

    def _version(self, subject: str, version: int | None) -> RemoteVersion:
        answer = self._ask(f"/subjects/{quote(subject, safe='')}/versions/{version or 'latest'}")
        try:
            return RemoteVersion(int(answer["id"]), self._schema(answer))
        except (KeyError, TypeError, ValueError):
            raise _Away("its answer is no version of a subject") from None

    def _schema(self, answer: Any) -> Schema:
        """A schema and whatever it refers to, out of the registry's documents."""
        needs: dict[str, str] = {}
        self._gather(answer, needs)
        try:
            format_, text = answer.get("schemaType") or "AVRO", answer["schema"]
        except (KeyError, TypeError, AttributeError):
            raise _Away("its answer is no schema") from None
        if format_ not in FORMATS or not isinstance(text, str):
            raise _Missing(f"its schema is of the type {format_!r}")
        return Schema(format_, text, (), tuple(needs.items()))

    def _gather(self, answer: Any, needs: dict[str, str], depth: int = 0) -> None:
        references = answer.get("references") or () if isinstance(answer, dict) else ()
        for one in references:
            try:
                name, subject, version = str(one["name"]), str(one["subject"]), int(one["version"])
            except (KeyError, TypeError, ValueError):
                raise _Away("its answer refers to nothing") from None
            if name in needs:
                continue
            if len(needs) >= REFERENCES_MAX or depth > REFERENCES_MAX:
                raise _Missing("its schema refers to too many others")
            found = self._ask(f"/subjects/{quote(subject, safe='')}/versions/{version}")
            self._gather(found, needs, depth + 1)
            needs[name] = str(found.get("schema", "")) if isinstance(found, dict) else ""

    def _ask(self, path: str) -> Any:
        headers = {"Accept": f"{_MEDIA_TYPE}, application/json"}
        if self.address.secret is not None:
            headers["Authorization"] = self.address.secret
        request = Request(self.address.url + path, headers=headers)  # noqa: S310 - http or https, as read_address saw to
        handlers: list[Any] = [ProxyHandler({}), _NoRedirect()]
        if self.address.url.startswith("https:"):
            handlers.append(HTTPSHandler(context=self.address.tls()))
        try:
            with build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as answer:
                text = answer.read(_ANSWER_BYTES_MAX + 1)
        except HTTPError as error:
            raise _refused(error) from None
        except (URLError, HTTPException, OSError) as error:
            raise _Away(str(getattr(error, "reason", error)) or type(error).__name__) from None
        try:
            return json.loads(text)
        except ValueError:
            raise _Away("its answer is not JSON") from None


def _refused(error: HTTPError) -> Exception:
    with error:
        try:
            code = json.loads(error.read(1 << 16))["error_code"]
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            code = None
    if error.code == 404 and code in _NOT_FOUND:
        return _Missing(f"HTTP 404, code {code}")
    return _Away(f"HTTP {error.code}")

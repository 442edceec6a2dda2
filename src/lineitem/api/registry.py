"""Confluent's Schema Registry REST, the part that clients use, over a namespace's registry.

Paths, documents and error codes are those of Confluent Platform's API reference (Schema Registry API, v1). What a ledger
must not do (delete, import under given ids) is answered 405; encryption and data quality rules are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as AnyHTTPException

from lineitem.api.limits import BodyLimit
from lineitem.core.errors import EnvironmentProblem, LineitemError, UsageError
from lineitem.ledger.schema_desk import SchemaDesk
from lineitem.schemas import formats
from lineitem.schemas.model import BadSchema, Compatibility, Reference, Schema
from lineitem.schemas.registry import (
    COMPATIBILITY,
    GLOBAL,
    Book,
    Incompatible,
    UnknownId,
    UnknownSubject,
    UnknownVersion,
    Version,
    check_subject,
)

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_LATEST = ("latest", "-1")
_CODES: dict[type[Exception], tuple[int, int]] = {
    UnknownSubject: (404, 40401),
    UnknownVersion: (404, 40402),
    UnknownId: (404, 40403),
    Incompatible: (409, 409),
    BadSchema: (422, 42201),
    UsageError: (422, 42208),
    EnvironmentProblem: (500, 50001),
}
"""Error -> HTTP status and Confluent's code."""


class RegistryResponse(JSONResponse):
    """A JSON document of the registry."""

    media_type = MEDIA_TYPE


class Named(BaseModel):
    """A reference as clients send it."""

    name: str
    subject: str
    version: int


class Offered(BaseModel):
    """A schema as clients send it."""

    model_config = ConfigDict(populate_by_name=True)

    text: str = Field(alias="schema")
    schema_type: str | None = Field(None, alias="schemaType")
    references: list[Named] | None = None
    rule_set: dict[str, Any] | None = Field(None, alias="ruleSet")

    def schema_(self) -> Schema:
        """As the registry has it. Raises BadSchema for what it does not support."""
        if self.rule_set:
            raise BadSchema(["rules (ruleSet) are not supported: what a client encrypts or rewrites cannot be billed"])
        format_ = self.schema_type or "AVRO"
        if format_ not in formats.FORMATS:
            raise BadSchema([f"unknown schemaType {format_!r}: there are {', '.join(formats.FORMATS)}"])
        references = tuple(Reference(one.name, one.subject, one.version) for one in self.references or ())
        return Schema(format_, self.text, references)


class Config(BaseModel):
    """What a subject asks, as clients send it."""

    compatibility: str


class _Refusal(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.answer = RegistryResponse({"error_code": code, "message": message}, status)


def registry_app(desk: SchemaDesk, by: str) -> FastAPI:
    """The application. ``by``: who is recorded as having registered what clients register."""
    app = FastAPI(
        title="lineitem schema registry",
        default_response_class=RegistryResponse,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    _errors(app)
    _schemas(app, desk)
    _config(app, desk, by)
    _subjects(app, desk, by)
    app.add_middleware(BodyLimit)
    return app


def _errors(app: FastAPI) -> None:
    async def ours(request: Request, error: Exception) -> Response:
        for kind, (status, code) in _CODES.items():
            if isinstance(error, kind):
                return RegistryResponse({"error_code": code, "message": str(error)}, status)
        return RegistryResponse({"error_code": 50001, "message": str(error)}, 500)

    async def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, _Refusal)
        return error.answer

    async def other(request: Request, error: Exception) -> Response:
        assert isinstance(error, AnyHTTPException)
        return RegistryResponse({"error_code": error.status_code, "message": str(error.detail)}, error.status_code)

    async def misfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return RegistryResponse({"error_code": 422, "message": said}, 422)

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        LineitemError: ours,
        _Refusal: refusal,
        AnyHTTPException: other,
        RequestValidationError: misfit,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _version_of(book: Book, subject: str, text: str) -> Version:
    """The version a path names. Raises UnknownSubject, UnknownVersion, and 42202 for what is no version."""
    if text in _LATEST:
        return book.version(subject)
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:12]) < 1 << 31:
        raise _Refusal(422, 42202, f"{text[:60]!r} is no version: a whole number from 1 on, or latest")
    book.of(subject)
    return book.version(subject, int(text))


def _text(schema: Schema, form: str) -> str:
    """The schema as it was registered; ``serialized``: of Protobuf, its descriptor."""
    if form == "serialized" and schema.format == "PROTOBUF":
        from lineitem.schemas.formats.protobuf import descriptor_text

        return descriptor_text(schema)
    return schema.text


def _document(schema: Schema, form: str) -> dict[str, Any]:
    document: dict[str, Any] = {"schema": _text(schema, form)}
    if schema.format != "AVRO":  # which Confluent leaves out
        document["schemaType"] = schema.format
    if schema.references:
        document["references"] = [one._asdict() for one in schema.references]
    return document


def _registered(one: Version, form: str = "") -> dict[str, Any]:
    return {"subject": one.subject, "version": one.version, "id": one.id} | _document(one.schema, form)


def _holders(book: Book, id_: int) -> list[dict[str, Any]]:
    book.schema(id_)
    return [
        {"subject": subject, "version": version}
        for subject, versions in sorted(book.versions.items())
        for version, known in versions.items()
        if known == id_
    ]


def _schemas(app: FastAPI, desk: SchemaDesk) -> None:
    @app.get("/")
    def root() -> dict[str, Any]:
        return {}

    @app.get("/contexts")
    def contexts() -> list[str]:
        return ["."]

    @app.get("/schemas/types")
    def types() -> list[str]:
        return list(formats.FORMATS)

    @app.get("/schemas/ids/{id_}")
    def by_id(id_: int, format: str = "") -> dict[str, Any]:
        return _document(desk.book().schema(id_), format)

    @app.get("/schemas/ids/{id_}/schema", response_class=PlainTextResponse)
    def text_by_id(id_: int, format: str = "") -> str:
        return _text(desk.book().schema(id_), format)

    @app.get("/schemas/ids/{id_}/versions")
    def versions_of_id(id_: int) -> list[dict[str, Any]]:
        return _holders(desk.book(), id_)

    @app.get("/schemas/ids/{id_}/subjects")
    def subjects_of_id(id_: int) -> list[str]:
        return sorted({one["subject"] for one in _holders(desk.book(), id_)})


def _config(app: FastAPI, desk: SchemaDesk, by: str) -> None:
    @app.get("/mode")
    @app.get("/mode/{subject:path}")
    def mode(subject: str = "") -> dict[str, str]:
        return {"mode": "READWRITE"}

    @app.get("/config")
    def config() -> dict[str, str]:
        return {"compatibilityLevel": desk.book().compatibility(GLOBAL)}

    @app.put("/config")
    def put_config(asked: Config) -> dict[str, str]:
        desk.put(GLOBAL, {COMPATIBILITY: _level(asked.compatibility)}, by)
        return {"compatibility": asked.compatibility.upper()}

    @app.get("/config/{subject:path}")
    def config_of(subject: str, defaultToGlobal: bool = False) -> dict[str, str]:
        book = desk.book()
        if (subject, COMPATIBILITY) not in book.settings and not defaultToGlobal:
            raise _Refusal(404, 40408, f"subject {subject!r} asks for nothing of its own; the global level counts")
        return {"compatibilityLevel": book.compatibility(subject)}

    @app.put("/config/{subject:path}")
    def put_config_of(subject: str, asked: Config) -> dict[str, str]:
        desk.put(check_subject(subject), {COMPATIBILITY: _level(asked.compatibility)}, by)
        return {"compatibility": asked.compatibility.upper()}

    @app.delete("/config/{subject:path}")
    def delete_config_of(subject: str) -> dict[str, str]:
        level = desk.book().compatibility(subject)
        desk.put(check_subject(subject), {COMPATIBILITY: None}, by)
        return {"compatibilityLevel": level}


def _level(text: str) -> str:
    if text.upper() not in Compatibility.__members__:
        raise _Refusal(422, 42203, f"{text[:60]!r} is no compatibility level: {', '.join(Compatibility)}")
    return text.upper()


def _subjects(app: FastAPI, desk: SchemaDesk, by: str) -> None:
    @app.post("/compatibility/subjects/{subject:path}/versions/{version}")
    def compatible(subject: str, version: str, offered: Offered, verbose: bool = False) -> dict[str, Any]:
        book = desk.book()
        against = _version_of(book, subject, version).version
        return _verdict(book, subject, offered, verbose, against)

    @app.post("/compatibility/subjects/{subject:path}/versions")
    def compatible_with_all(subject: str, offered: Offered, verbose: bool = False) -> dict[str, Any]:
        return _verdict(desk.book(), subject, offered, verbose, None)

    @app.get("/subjects")
    def subjects(subjectPrefix: str = "") -> list[str]:
        return [one for one in sorted(desk.book().versions) if one.startswith(subjectPrefix)]

    @app.get("/subjects/{subject:path}/versions/{version}/schema", response_class=PlainTextResponse)
    def text(subject: str, version: str, format: str = "") -> str:
        return _text(_version_of(desk.book(), subject, version).schema, format)

    @app.get("/subjects/{subject:path}/versions/{version}/referencedby")
    def referenced_by(subject: str, version: str) -> list[int]:
        book = desk.book()
        wanted = _version_of(book, subject, version)[:2]
        return [id_ for id_ in book.kept if any(one[1:] == wanted for one in book.schema(id_).references)]

    @app.get("/subjects/{subject:path}/versions/{version}")
    def version_of(subject: str, version: str, format: str = "") -> dict[str, Any]:
        return _registered(_version_of(desk.book(), subject, version), format)

    @app.get("/subjects/{subject:path}/versions")
    def versions(subject: str) -> list[int]:
        return list(desk.book().of(subject))

    @app.post("/subjects/{subject:path}/versions")
    def register(subject: str, offered: Offered) -> dict[str, Any]:
        done = desk.register(check_subject(subject), offered.schema_(), by)
        return {"id": done.id, "version": done.version}

    @app.post("/subjects/{subject:path}")
    def look_up(subject: str, offered: Offered) -> dict[str, Any]:
        book = desk.book()
        known, schema = book.of(subject), offered.schema_()
        id_ = book.find(book.whole(schema.format, schema.text, schema.references))
        for version, one in known.items():
            if one == id_:
                return _registered(book.version(subject, version))
        raise _Refusal(404, 40403, "the subject has no such schema")

    @app.api_route("/subjects/{rest:path}", methods=["DELETE", "PUT", "PATCH"])
    def never(rest: str) -> None:
        raise HTTPException(405, "what is registered stays: messages and line items refer to it")


def _verdict(book: Book, subject: str, offered: Offered, verbose: bool, against: int | None) -> dict[str, Any]:
    schema = offered.schema_()
    schema = book.whole(schema.format, schema.text, schema.references)
    formats.parse(schema)
    problems = book.problems(subject, schema, against=against)
    answer: dict[str, Any] = {"is_compatible": not problems}
    return answer | {"messages": problems} if verbose else answer

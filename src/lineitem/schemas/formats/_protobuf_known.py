"""Files that every Protobuf schema may import: Google's well-known types, and the two decimals in use."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

_GOOGLE = (
    any_pb2, api_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, source_context_pb2, struct_pb2,
    timestamp_pb2, type_pb2, wrappers_pb2,
)  # fmt: skip
_TEXTS = {
    "google/type/decimal.proto": 'syntax = "proto3"; package google.type; message Decimal { string value = 1; }',
    "confluent/type/decimal.proto": 'syntax = "proto3"; package confluent.type; '
    "message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }",
}
"""As published by Google (googleapis) and Confluent (schema-registry), without comments and options of languages."""


def _decimal(name: str, package: str, *fields: tuple[str, int]) -> FileDescriptorProto:
    made = FileDescriptorProto(name=name, package=package, syntax="proto3")
    message = made.message_type.add(name="Decimal")
    for number, (field, kind) in enumerate(fields, start=1):
        message.field.add(name=field, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    return made


def _known() -> dict[str, FileDescriptorProto]:
    found = {}
    for module in _GOOGLE:
        one = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        found[one.name] = one
    kinds = FieldDescriptorProto
    google, confluent = _TEXTS
    found[google] = _decimal(google, "google.type", ("value", kinds.TYPE_STRING))
    found[confluent] = _decimal(
        confluent, "confluent.type",
        ("value", kinds.TYPE_BYTES), ("precision", kinds.TYPE_UINT32), ("scale", kinds.TYPE_INT32),
    )  # fmt: skip
    return found


_FILES = _known()


def is_known(name: str) -> bool:
    """Whether a file need not be brought along."""
    return name in _FILES


def texts(files: Iterable[str]) -> dict[str, str]:
    """The decimals' .proto texts, which the compiler does not bring as it does Google's well-known types."""
    return {name: text for name, text in _TEXTS.items() if name not in files}


def needed(*files: FileDescriptorProto) -> list[FileDescriptorProto]:
    """Known files that ``files`` import, directly or not."""
    found: dict[str, FileDescriptorProto] = {}
    todo = [name for one in files for name in one.dependency]
    while todo:
        name = todo.pop()
        if name in _FILES and name not in found:
            found[name] = _FILES[name]
            todo += _FILES[name].dependency
    return list(found.values())

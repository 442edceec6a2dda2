"""Protocol Buffers: .proto texts, or a base64 FileDescriptorProto as Kafka clients register it; messages in binary.

``data`` has the fields' names as the schema writes them. Whole numbers are JSON numbers whatever their width; a float is its
shortest decimal; ``google.type.Decimal`` and ``confluent.type.Decimal`` are numbers; times are RFC 3339 texts; a field
that cannot say whether it was set (proto3 without ``optional``) is there even when it is 0.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from lineitem.schemas.formats import _buf, _protobuf_known
from lineitem.schemas.formats._protobuf_values import check_message, floats_in, json_of
from lineitem.schemas.model import BadSchema, Schema, Unreadable

NAME = "schema.proto"
"""What every schema's own file is called, so that two versions are one file at two times."""
_INDEXES_MAX = 32
_VARINT_SHIFT_MAX = 28
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,500}")


@dataclass(frozen=True, slots=True)
class Protobuf:
    """A Protobuf schema, compiled. ``own``: its file's descriptor; ``others``: those it imports."""

    canonical: str
    warnings: Sequence[str]
    own: FileDescriptorProto
    others: tuple[FileDescriptorProto, ...]
    messages: tuple[Descriptor, ...]

    def decode(self, payload: bytes) -> Any:
        """A message behind its index list: which message of the file it is."""
        indexes, at = _indexes(payload)
        try:
            found = self.messages[indexes[0]]
            for index in indexes[1:]:
                found = found.nested_types[index]
        except IndexError:
            raise Unreadable(f"the schema has no message {indexes}") from None
        message = message_factory.GetMessageClass(found)()
        try:
            message.ParseFromString(payload[at:])
        except DecodeError:
            raise Unreadable(f"the bytes are no message {found.full_name}") from None
        return json_of(message)

    def problems(self, data: Any) -> list[str]:
        """What keeps JSON ``data`` from being the file's first message."""
        return list(check_message(data, self.messages[0], "data"))

    def image(self) -> bytes:
        """As a FileDescriptorSet."""
        found = FileDescriptorSet(file=[*self.others, self.own])
        for one in found.file:
            for field in _fields(one):
                field.json_name = field.json_name or _camel(field.name)
        return bytes(found.SerializeToString())


def _indexes(payload: bytes) -> tuple[list[int], int]:
    """The message index list (a count and so many zigzag varints; a count of 0 stands for [0]) and where the message begins."""
    count, at = _varint(payload, 0)
    if count == 0:
        return [0], at
    if not 0 < count <= _INDEXES_MAX:
        raise Unreadable(f"a message index list of {count} entries")
    indexes = []
    for _ in range(count):
        index, at = _varint(payload, at)
        if index < 0:
            raise Unreadable(f"the schema has no message {index}")
        indexes.append(index)
    return indexes, at


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(payload) or shift > _VARINT_SHIFT_MAX:
            raise Unreadable("the message index list is cut off")
        byte = payload[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def parse(schema: Schema) -> Protobuf:
    """Understand a Protobuf schema. Raises BadSchema."""
    needs = dict(schema.needs)
    for name in needs:
        if not _PATH.fullmatch(name) or ".." in name:
            raise BadSchema([f"{name!r} is no path to import"])
    described = {name: _described(text) for name, text in needs.items()}
    own = _described(schema.text)
    others = {name: one for name, one in described.items() if one is not None}
    if own is None:
        if others:
            raise BadSchema([f"{min(others)} is referred to as a descriptor, which a .proto text cannot import"])
        own, others = _compiled({NAME: schema.text, **needs})
    elif len(others) < len(needs):
        _, others = _compiled({NAME: 'syntax = "proto3";', **needs})
    for name, one in others.items():
        one.name = name
    own.name = NAME
    try:
        messages = _linked(own, others)
    except (TypeError, ValueError, KeyError) as error:
        raise BadSchema([str(error).strip() or "the descriptor does not link"]) from None
    if not messages:
        raise BadSchema(["the schema has no message"])
    named = [(name, text) for name, text in sorted(needs.items())]
    plain = FileDescriptorProto.FromString(own.SerializeToString())
    plain.ClearField("name")
    canonical = _base64(plain) + "".join(f" {name} {_base64(others[name])}" for name, _ in named if name in others)
    imports = tuple(others.values()) + tuple(_protobuf_known.needed(own, *others.values()))
    warnings = [f"{place} is a binary float, billed as its shortest decimal" for place in floats_in(messages)]
    return Protobuf(canonical, warnings, own, imports, messages)


def descriptor_text(schema: Schema) -> str:
    """The schema as a base64 FileDescriptorProto, which clients ask for with ``format=serialized``."""
    return _base64(parse(schema).own)


def _base64(one: FileDescriptorProto) -> str:
    return b64encode(one.SerializeToString(deterministic=True)).decode()


def _described(text: str) -> FileDescriptorProto | None:
    """A base64 FileDescriptorProto; None for a text that is none."""
    try:
        found = FileDescriptorProto.FromString(b64decode(text.strip(), validate=True))
    except (binascii.Error, DecodeError, ValueError):
        return None
    return _plain(found)


def _compiled(files: dict[str, str]) -> tuple[FileDescriptorProto, dict[str, FileDescriptorProto]]:
    image, problems = _buf.compiled(NAME, files | _protobuf_known.texts(files))
    if problems:
        raise BadSchema(problems)
    found = {one.name: _plain(one) for one in FileDescriptorSet.FromString(image).file}
    return found.pop(NAME), {name: one for name, one in found.items() if not _protobuf_known.is_known(name)}


def _plain(one: FileDescriptorProto) -> FileDescriptorProto:
    """Without what does not change the meaning: comments, places, and JSON names that follow from the names."""
    one.ClearField("source_code_info")
    if one.syntax == "proto2":
        one.ClearField("syntax")
    for field in _fields(one):
        if field.json_name == _camel(field.name):
            field.ClearField("json_name")
    return one


def _fields(file: FileDescriptorProto) -> Iterator[FieldDescriptorProto]:
    """Every field of every message, nested ones too."""
    todo = list(file.message_type)
    while todo:
        message = todo.pop()
        todo += message.nested_type
        yield from message.field


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _linked(own: FileDescriptorProto, others: dict[str, FileDescriptorProto]) -> tuple[Descriptor, ...]:
    pool = DescriptorPool()
    waiting = {one.name: one for one in (*_protobuf_known.needed(own, *others.values()), *others.values(), own)}
    while waiting:
        ready = [one for one in waiting.values() if not any(name in waiting for name in one.dependency)]
        if not ready:
            raise ValueError("files import each other in a circle")
        for one in ready:
            pool.Add(one)
            del waiting[one.name]
    file = pool.FindFileByName(NAME)
    return tuple(file.message_types_by_name[one.name] for one in own.message_type)


def unreadable(reader: Protobuf, writer: Protobuf) -> list[str]:
    """Why messages of ``writer`` would not be read by ``reader``, or under other names."""
    if reader.canonical == writer.canonical:
        return []
    return _buf.broken(reader.image(), writer.image())

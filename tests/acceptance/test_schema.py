"""`lineitem schema` as people and Kafka clients meet it: the real command, the real client library, two processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from tests.acceptance.command import CATALOG, Command, line, ndjson

AVRO = """{"type": "record", "name": "Completion", "namespace": "acme", "fields": [
  {"name": "tokens", "type": "long"},
  {"name": "cost", "type": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 9}}
]}
"""
JSON = (
    '{"title": "Completion", "type": "object", "properties": {"tokens": {"type": "integer"}}, "required": ["tokens"]}'
)
SUBJECT = "llm.completion-value"


@contextmanager
def served(command: Command, listen: str = "127.0.0.1:0") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a registry that runs meanwhile, and its process; SIGTERM ends it well."""
    process = command.start("schema", "serve", "--listen", listen)
    assert process.stderr is not None
    said = process.stderr.readline().decode()
    found = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert found, said
    try:
        yield found[0], process
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert (process.returncode, b"Traceback" in rest) == (0, False), rest


@pytest.fixture(scope="module")
def registry(lineitem: Command) -> Iterator[str]:
    """Its registry, served."""
    with served(lineitem) as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(registry: str) -> Iterator[SchemaRegistryClient]:
    """Confluent's client of it."""
    with SchemaRegistryClient({"url": registry}) as made:
        yield made


def within(topic: str) -> SerializationContext:
    return SerializationContext(topic, MessageField.VALUE)


def usage_class() -> Any:
    """A message of a file that nobody generated code for."""
    file = FileDescriptorProto(name="acme_usage.proto", package="acme", syntax="proto3")
    for name in ("Other", "Usage"):
        field = file.message_type.add(name=name).field.add(name="tokens", number=1, label=1)
        field.type = FieldDescriptorProto.TYPE_INT64
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("acme.Usage"))


def test_clients_work_unchanged(lineitem: Command, client: SchemaRegistryClient, tmp_path: Path) -> None:
    """The three serializers of Confluent's client register, encode and decode; what they encoded is billed."""
    own, usage = client, usage_class()
    ways: list[tuple[Any, Any, Any]] = [
        (AvroSerializer(own, AVRO), AvroDeserializer(own), {"tokens": 3, "cost": Decimal("0.000000001")}),
        (JSONSerializer(JSON, own), JSONDeserializer(JSON, schema_registry_client=own), {"tokens": 4}),
        (ProtobufSerializer(usage, own), ProtobufDeserializer(usage, {}, own), usage(tokens=5)),
    ]
    records = []
    for number, (encode, decode, value) in enumerate(ways):
        context = within(f"topic-{number}")
        encoded = encode(value, context)
        assert decode(encoded, context) == value
        records.append(line(f"wired {number}", data=..., data_base64=b64encode(encoded).decode()))
    done = lineitem.json("ingest", ndjson(tmp_path / "w.ndjson", records))
    assert (done["itemized"], done["dead_lettered"]) == (3, 0)
    billed = {one["event_id"]: one["quantity"] for one in lineitem.line_items()}
    assert [billed[f"wired {number}"] for number in range(3)] == ["3", "4", "5"]
    item = next(one for one in lineitem.line_items() if one["event_id"] == "wired 0")
    (event,) = lineitem.json("explain", item["id"])["events"]["items"]
    assert event["data"] == {"tokens": 3, "cost": "0.000000001"}
    assert event["dataschema"].startswith("/schemas/ids/")
    assert lineitem.json("verify", "--deep")["findings"] == []


def test_the_rest_answers_as_confluents(client: SchemaRegistryClient) -> None:
    """Look-ups, levels, and the codes that clients act on."""
    own: Any = client
    id_ = own.register_schema("r-value", Schema(AVRO, "AVRO"))
    assert json.loads(own.get_schema(id_).schema_str or "") == json.loads(AVRO)
    assert own.lookup_schema("r-value", Schema(AVRO, "AVRO")).version == 1
    assert (own.get_versions("r-value"), own.get_latest_version("r-value").schema_id) == ([1], id_)
    assert set(own.get_schema_types()) == {"JSON", "AVRO", "PROTOBUF"}
    assert "r-value" in own.get_subjects()
    assert own.set_compatibility("r-value", "FULL") == {"compatibility": "FULL"}
    assert own.get_compatibility("r-value") == "FULL"
    assert own.get_compatibility() == "BACKWARD"
    thousandfold = Schema(AVRO.replace('"scale": 9', '"scale": 6'), "AVRO")
    assert own.test_compatibility("r-value", thousandfold) is False
    assert own.test_compatibility("r-value", Schema(AVRO, "AVRO")) is True
    refused: list[tuple[Any, int, int]] = [
        (lambda: own.get_versions("none"), 404, 40401),
        (lambda: own.get_version("r-value", 7), 404, 40402),
        (lambda: own.get_schema(999), 404, 40403),
        (lambda: own.lookup_schema("r-value", Schema(JSON, "JSON")), 404, 40403),
        (lambda: own.register_schema("r-value", thousandfold), 409, 409),
        (lambda: own.register_schema("r-value", Schema("nonsense", "AVRO")), 422, 42201),
        (lambda: own.register_schema("r-value", Schema("nonsense", "PROTOBUF")), 422, 42201),
        (lambda: own.register_schema("r-value", Schema("{}", "THRIFT")), 422, 42201),
        (lambda: own.set_compatibility("r-value", "WHAT"), 422, 42203),
        (lambda: own.delete_subject("r-value"), 405, 405),
    ]
    for call, status, code in refused:
        with pytest.raises(SchemaRegistryError) as error:
            call()
        assert (error.value.http_status_code, error.value.error_code) == (status, code), error.value


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/subjects/r-value/versions/0", None, 422, 42202),
        ("/subjects/r-value/versions/x", None, 422, 42202),
        ("/nothing", None, 404, 404),
        ("/subjects/r-value/versions", b"{", 422, 422),
        ("/subjects/r-value/versions", b"{}", 422, 422),
        ("/subjects/r-value/versions", b'{"schema": "\\"string\\"", "ruleSet": {"a": 1}}', 422, 42201),
        ("/subjects/" + "s" * 600 + "/versions", b'{"schema": "\\"string\\""}', 422, 42208),
        ("/subjects/r-value/versions", b" " * (5 << 20), 413, 413),
    ],
)
def test_what_is_sent_wrong(
    registry: str, client: SchemaRegistryClient, path: str, body: bytes | None, status: int, code: int
) -> None:
    """Each is answered with a code and a sentence, never a page or a traceback."""
    client.register_schema("r-value", Schema(AVRO, "AVRO"))
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = Request(registry + path, body, headers)  # noqa: S310 - our own process
    with pytest.raises(HTTPError) as error:
        urlopen(request, timeout=30)  # noqa: S310
    with error.value as answer:
        document = json.loads(answer.read())
    assert (error.value.code, document["error_code"]) == (status, code)
    assert document["message"]


def test_a_registry_elsewhere(lineitem: Command, registry: str, client: SchemaRegistryClient, tmp_path: Path) -> None:
    """A namespace takes its schemas from another registry, and needs it no more for what it has read; while that is away,
    events wait with a code of their own and are tried again by themselves."""
    payload = AvroSerializer(client, AVRO)({"tokens": 7, "cost": Decimal(1)}, within("elsewhere"))
    record = line("one", data=..., data_base64=b64encode(payload).decode())
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    other = ("--namespace", "elsewhere")
    here = Command(lineitem.data_dir, {"LINEITEM_SCHEMA_REGISTRY": registry})
    gone = Command(lineitem.data_dir, {"LINEITEM_SCHEMA_REGISTRY": "http://127.0.0.1:9", "LINEITEM_RETRY": "0"})
    here.json("catalog", "publish", tmp_path / "catalog.yaml", *other)
    assert gone.json("ingest", ndjson(tmp_path / "a.ndjson", [record]), *other)["dead_lettered"] == 1
    (letter,) = gone.json("dlq", "list", *other)["dead_letters"]
    assert letter["reason"] == "registry_away"
    retried = here.json("ingest", ndjson(tmp_path / "b.ndjson", [line("two")]), *other)["retried"]
    assert (retried["tried"], retried["replayed"]) == (1, 1)
    assert lineitem.json("verify", "--deep")["findings"] == []
    assert {one["event_id"]: one["quantity"] for one in lineitem.line_items(*other)} == {"one": "7", "two": "5"}


def test_registering_and_checking(lineitem: Command, tmp_path: Path) -> None:
    """From the first file to one that may not follow it, each problem with its line; sample events; what is asked."""
    command, own = lineitem, ("--namespace", "checked")
    file = tmp_path / "llm.completion.avsc"
    file.write_text(AVRO)
    assert command.json("schema", "check", file, *own)["ok"]
    made = command.json("schema", "register", file, *own)
    assert made == {"subject": SUBJECT, "version": 1, "id": 1, "registered": True, "warnings": []}
    assert command.json("schema", "register", file, *own)["registered"] is False
    wrong = tmp_path / "wrong.avsc"
    wrong.write_text(AVRO.replace('"scale": 9', '"scale": 6'))
    found = command.json("schema", "check", wrong, "--subject", SUBJECT, *own, code=1)
    assert found["files"][0]["problems"][0].startswith(f"{wrong}:3: against version 1, data/cost: decimal(18, 9)")
    assert f"{wrong}:3: " in command.refused("schema", "register", wrong, "--subject", SUBJECT, *own)
    events = ndjson(tmp_path / "e.ndjson", [line("a", data={"tokens": 1, "cost": 1}), line("b"), line("c", type="x")])
    found = command.json("schema", "check", file, "--events", events, *own, code=1)["files"][0]
    assert (found["events"], found["events_skipped"]) == (2, 1)
    assert found["problems"] == [f"{events}:2: data/cost: is missing"]
    asked = ("schema", "mode", SUBJECT, "--compatibility", "full", "--enforce", "yes")
    assert command.json(*asked, *own) == {"subject": SUBJECT, "compatibility": "FULL", "enforce": "yes"}
    (row,) = command.json("schema", "list", *own)["schemas"]
    assert (row["compatibility"], row["enforce"], row["format"]) == ("FULL", "yes", "AVRO")
    assert command.run("schema", "show", SUBJECT, *own).out == AVRO + "\n"
    assert command.json("verify")["findings"] == []


def test_calls_that_are_wrong(lineitem: Command, tmp_path: Path) -> None:
    """Each with a sentence and the right code."""
    command, file = lineitem, tmp_path / "a.avsc"
    file.write_text('{"type":\n "record"')
    assert f"{file}:2: " in command.refused("schema", "register", file)
    assert "cannot tell" in command.refused("schema", "register", tmp_path / "a.txt", code=2)
    assert "no reference" in command.refused("schema", "register", file, "--reference", "x", code=2)
    assert "no subject" in command.refused("schema", "show", "nothing")
    assert "cannot listen" in command.refused("schema", "serve", "--listen", "203.0.113.1:1")

"""What deploy/ offers fits together: its commands are lineitem's, its addresses lead somewhere, its files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lineitem.adapters.address import parse_address
from lineitem.cli.main import cli

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("lineitem:")]


def _parsed(words: list[str]) -> dict[str, Any]:
    """The options of a lineitem command line, as the program itself reads them."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    return command.make_context("lineitem", words).params


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one(name: str) -> None:
    """With options it has, and files that are there."""
    words = shlex.split(SERVICES[name]["command"].replace("/examples/", f"{ROOT}/examples/"))
    assert _parsed(words)
    for word in words:
        assert not word.startswith("/") or Path(word).exists()


def test_the_worker_finds_what_the_others_offer() -> None:
    """The broker's listener and topic, the server's user and database."""
    options = _parsed(shlex.split(SERVICES["worker"]["command"]))
    address = parse_address(options["source"], "kafka", 9092)
    kafka = SERVICES["kafka"]["environment"]
    assert f"://{address.servers}" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert f"--topic {address.topic} " in SERVICES["topic"]["command"]
    postgres = SERVICES["postgres"]["environment"]
    user, database, password = (postgres[f"POSTGRES_{name}"] for name in ("USER", "DB", "PASSWORD"))
    assert SERVICES["worker"]["environment"]["LINEITEM_DATABASE_URL"] == (
        f"postgresql://{user}:{password}@postgres:5432/{database}"
    )


def test_nobody_waits_for_what_cannot_come() -> None:
    """Who is waited for to be healthy says when it is; who is waited for to end is not started again."""
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"


def test_every_volume_and_file_exists() -> None:
    """Named volumes are declared, folders are there, ports are open to this machine alone."""
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_image_is_made_of_what_is_here() -> None:
    """Every file copied exists, and the client's pin is where the build looks for it."""
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    pin = re.search(
        r"^confluent-kafka==.*?[^\\]$", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE | re.DOTALL
    )
    assert pin is not None
    assert "--hash=sha256:" in pin[0]
    assert COMPOSE["x-lineitem"]["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}


def test_kubernetes_runs_what_the_program_knows() -> None:
    """The worker's arguments are options it has; what scales it looks at the group and the topic it reads."""
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "worker.yaml").read_text()))
    kinds = {one["kind"]: one for one in documents}
    container = kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    options = _parsed(container["args"])
    address = parse_address(options["source"], "kafka", 9092)
    (trigger,) = kinds["ScaledObject"]["spec"]["triggers"]
    assert kinds["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == kinds["Deployment"]["metadata"]["name"]
    assert trigger["authenticationRef"]["name"] == kinds["TriggerAuthentication"]["metadata"]["name"]
    looked_at = (trigger["metadata"][name] for name in ("bootstrapServers", "topic", "consumerGroup"))
    assert tuple(looked_at) == (address.servers, address.topic, options["group"])
    mounts = {one["name"] for one in container["volumeMounts"]}
    assert mounts == {one["name"] for one in kinds["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    assert container["image"] == SERVICES[OURS[0]]["image"]

"""A real Prometheus for tests: Debian's binaries, those of the system or unpacked once into the environment's folder."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from lineitem.kit.embedded_folder import within
from tests.faults.broker import die_with_parent, free_ports

HOME = Path(sys.prefix) / "prometheus"
_PATIENCE_S = 30


class NoPrometheus(Exception):
    """Why there is none here."""


def binary(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``. Raises NoPrometheus where it is missing and cannot be had."""
    HOME.mkdir(exist_ok=True)
    unpacked = HOME / "usr" / "bin" / name
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = shutil.which(name) or (str(unpacked) if unpacked.exists() else None)
        if found is None:
            _unpack()
    return found or str(unpacked)


def _unpack() -> None:
    """Without installing: the package would start a service."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoPrometheus("Prometheus is not installed and there is no apt-get")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - apt downloads as a user of its own
        got = subprocess.run(
            ["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, text=True, check=False
        )
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if got.returncode or not packages:
            raise NoPrometheus(f"apt-get could not download prometheus: {got.stderr.strip()[-300:]}")
        subprocess.run(["dpkg-deb", "-x", packages[0], HOME], check=True, capture_output=True)


def get(url: str, accept: str = "") -> tuple[int, str, bytes]:
    """Status, media type and body."""
    try:
        with urlopen(Request(url, headers={"Accept": accept}), timeout=10) as answer:  # noqa: S310 - our own server
            return answer.status, answer.headers["Content-Type"], answer.read()
    except HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def check_metrics(text: bytes) -> str:
    """What promtool has to say about metrics as text; nothing, if all is well."""
    run = subprocess.run([binary("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    return (run.stdout + run.stderr).decode() if run.returncode else ""


class Prometheus:
    """A running server and what is asked of it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[Any]:
        """The values of an expression now, as text."""
        return [one["value"][1] for one in self._ask(f"query?query={quote(expression)}")["result"]]

    def exemplars(self, name: str) -> list[Any]:
        """Exemplars of a metric."""
        return list(self._ask(f"query_exemplars?query={quote(name)}&start=0&end=9999999999"))

    def _ask(self, question: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{question}", timeout=10) as answer:  # noqa: S310 - our own server
            return json.load(answer)["data"]


@contextmanager
def scraping(folder: Path, target: str) -> Iterator[Prometheus]:
    """A server that scrapes ``target`` (an URL) every half second."""
    address = urlsplit(target)
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 500ms}\nscrape_configs:\n"
        f"  - {{job_name: lineitem, metrics_path: {address.path}, static_configs: [{{targets: ['{address.netloc}']}}]}}\n"
    )
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    command = [
        binary("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={listen}", "--enable-feature=exemplar-storage", "--log.level=error",
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, preexec_fn=die_with_parent)
    try:
        server = Prometheus(f"http://{listen}")
        assert within(_PATIENCE_S, lambda: process.poll() is not None or _up(server))
        assert process.poll() is None, "it did not start"
        yield server
    finally:
        process.kill()
        process.wait()


def _up(server: Prometheus) -> bool:
    try:
        return bool(server.query("up"))
    except OSError:
        return False

"""The real command line as a subprocess: what it answered, with what every answer must be checked at once."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("lineitem")
"""The console script of this environment."""
CATALOG = """
currency: USD
meters:
  - {id: tokens, event_type: llm.completion, aggregation: sum, value: data.tokens, unit: token}
  - {id: requests, event_type: http.request, aggregation: count, filter: 'data.status < 500'}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2000-01-01T00:00:00Z
    prices:
      - {id: token, meter: tokens, model: per_unit, unit_price: "0.0000025", itemize: each}
      - {id: web, meter: requests, model: per_unit, unit_price: "0.002", itemize: each}
accounts:
  defaults: {pricebook: standard, timezone: UTC, billing: monthly}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run of the program came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that stands alone on stdout."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON Lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Command:
    """Runs ``lineitem`` with one data folder."""

    data_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start it and do not wait."""
        environment = {**os.environ, **self.environment, **options.pop("env", {})}
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "preexec_fn": _heed_ctrl_c, **options}
        command = [PROGRAM, "--data-dir", self.data_dir, *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)

    def run(self, *arguments: str | Path, stdin: bytes | None = None, **options: Any) -> Answer:
        """Run it to its end. Whatever it was asked, it must not show a traceback or call its answer a defect."""
        if stdin is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **options)
        out, err = process.communicate(stdin, timeout=120)
        answer = Answer(process.returncode, out.decode(), err.decode())
        assert "Traceback" not in answer.err, answer.err
        assert "unexpected error" not in answer.err, answer.err
        return answer

    def json(self, *arguments: str | Path, code: int = 0, **options: Any) -> Any:
        """Run it with ``--json``; stdout must be one document and nothing else."""
        answer = self.run(*arguments, "--json", **options)
        assert answer.code == code, answer
        return answer.document

    def refused(self, *arguments: str | Path, code: int = 1, **options: Any) -> str:
        """Run it with ``--json``; it must fail with ``code``, say nothing on stdout and a sentence on stderr."""
        answer = self.run(*arguments, "--json", **options)
        assert (answer.code, answer.out) == (code, ""), answer
        assert answer.err.strip(), "it failed without a word"
        return answer.err

    def line_items(self, *arguments: str) -> list[dict[str, Any]]:
        """All line items, or those asked for."""
        answer = self.run("line-items", *arguments, "--json")
        assert answer.code == 0, answer
        return answer.lines


def event(event_id: str, tokens: object = 5, **attributes: object) -> dict[str, object]:
    """A good event, with ``attributes`` replaced, or removed where they are ``...``."""
    whole: dict[str, object] = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/gateway",
        "type": "llm.completion",
        "subject": "acme",
        "time": "2026-01-01T00:00:00Z",
        "data": {"tokens": tokens},
    } | attributes
    return {name: value for name, value in whole.items() if value is not ...}


def line(event_id: str, tokens: object = 5, **attributes: object) -> bytes:
    """``event`` as JSON; ``tokens`` given as bytes stands there as it is."""
    if isinstance(tokens, bytes):
        return json.dumps(event(event_id, "@", **attributes)).encode().replace(b'"@"', tokens)
    return json.dumps(event(event_id, tokens, **attributes)).encode()


def ndjson(path: Path, lines: Iterable[bytes]) -> Path:
    """Write lines to a file."""
    path.write_bytes(b"".join(one + b"\n" for one in lines))
    return path


def _heed_ctrl_c() -> None:
    """A test run in the background of a shell ignores SIGINT, and what it starts inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def without_rights() -> None:
    """For a child process: root keeps no right to pass by the modes of files."""
    if os.geteuid() == 0:
        for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            assert ctypes.CDLL(None).prctl(24, right, 0, 0, 0) == 0  # PR_CAPBSET_DROP

"""``lineitem metrics``: what stands in the ledger as metrics, for jobs that are gone before they could be scraped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineitem.cli.output import Scope, ledger_command, print_json

if TYPE_CHECKING:
    from lineitem.observability.recorder import Recorder


@click.command()
@click.option(
    "--source", metavar="URL", help="Ask this topic for its ends, too, so that the lag is known: kafka://host/topic"
)
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings of the Kafka client, as for `worker`."
)
@click.option(
    "--write", type=click.Path(path_type=Path), metavar="FILE",
    help="Put them into this file at once, whole: for node_exporter's textfile collector.",
)  # fmt: skip
@ledger_command
def metrics(source: str | None, config: Path | None, write: Path | None, scope: Scope) -> None:
    """Print what stands in the ledger as metrics: totals, dead letters, positions, lag.

    In Prometheus' text format. Positions are those of --namespace, everything else of the whole ledger. A worker shows its own
    figures while it runs: `lineitem worker --metrics-listen`.
    """
    from lineitem.adapters.prometheus.exposition import Exposition

    with scope.app() as app:
        recorder = app.measure(scope.namespace, source, config)
    text, _ = Exposition(recorder, process=False).text()
    if write is not None:
        _replace(write, text)
    if scope.as_json:
        print_json({"metrics": _documents(recorder)})
    elif write is None:
        click.echo(text.decode(), nl=False)


def _documents(recorder: Recorder) -> list[dict[str, Any]]:
    return [
        {
            "name": metric.name,
            "kind": metric.kind.value,
            "unit": metric.unit,
            "labels": {label.name: value for label, value in zip(metric.labels, labels, strict=True)},
            "value": series.value,
        }
        for metric, held in recorder.snapshot()
        for labels, series in held
    ]


def _replace(path: Path, text: bytes) -> None:
    """Write it beside and rename it: a collector must never read half a file. Raises EnvironmentProblem."""
    from lineitem.core.errors import EnvironmentProblem

    beside = path.with_name(f".{path.name}.{os.getpid()}")  # the collector reads *.prom only
    try:
        beside.write_bytes(text)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise EnvironmentProblem(
            f"cannot be written: {error.strerror}", where=str(path), do="Name another file."
        ) from error

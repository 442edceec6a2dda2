"""``lineitem ingest``: files of usage into the ledger."""

from __future__ import annotations

from pathlib import Path

import click

from lineitem.cli.backfill import check_name
from lineitem.cli.canary import check_canaries
from lineitem.cli.dlq import retry_letters, retrying
from lineitem.cli.output import Scope, fields, ledger_command, print_json, progress_bar, say
from lineitem.cli.throttle import release_waiting


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--format", "format_", help="cloudevents, csv, access-log or parquet.  [default: told from the file]")
@click.option("--map", "map_", type=click.Path(path_type=Path), help="Mapping file: which columns mean what.")
@click.option(
    "--source", default="files", show_default=True, help="Name of the stream; fills `source` where it is missing."
)
@click.option(
    "--batch-size", default=100_000, show_default=True, type=click.IntRange(1, 1_000_000), help="Records a batch."
)
@click.option("--backfill", metavar="NAME", help="Bring these events in as part of a backfill, however old they are.")
@click.option(
    "--two-processes/--one-process", default=None, help="Prepare batches in a second process.  [default: from 32 MB on]"
)
@retrying
@ledger_command
def ingest(
    files: tuple[Path, ...],
    format_: str | None,
    map_: Path | None,
    source: str,
    batch_size: int,
    backfill: str | None,
    two_processes: bool | None,
    retry: bool,
    scope: Scope,
) -> None:
    """Read usage files into the ledger, exactly once.

    Every record is accounted for: itemized, pending, duplicate, dead-lettered or not billable. An interrupted file goes
    on where it stopped; a file read again adds nothing. `--source` names the place the records come from: lines
    without an id are identified by source, position and content, so give two servers' logs two names.

    Events older than the catalog's `horizon_days` are dead letters; `--backfill NAME` brings them in, as something that
    `lineitem backfill` shows and can revert as one.
    """
    from lineitem.flow import Summary
    from lineitem.ingest.events import BatchLimits
    from lineitem.kit.process import tune_for_batches

    tune_for_batches()
    if backfill is not None:
        check_name(backfill)
    total = Summary()
    with scope.app() as app:
        if backfill is not None:
            app.begin_backfill(scope.namespace, backfill)
        pipeline = app.pipeline(scope.namespace)
        for path in files:
            with app.source(path, format_, map_, source, backfill) as found:
                size = path.stat().st_size
                with progress_bar(path.name, size, quiet=scope.as_json) as show:
                    limits = BatchLimits(batch_size)
                    done = app.ingest(pipeline, found, limits, lambda position, _: show(position), two_processes, say)
            if done.resumed_at:
                say(f"{path}: went on at position {done.resumed_at}, where an earlier run stopped")
            total.counts += done.counts
            total.line_items += done.line_items
            total.batches += done.batches
        retried = retry_letters(app, scope.namespace, wanted=retry) | release_waiting(app, scope, wanted=retry)
        check_canaries(app, scope.namespace)
    if scope.as_json:
        print_json(total.document() | retried)
    else:
        fields({name.replace("_", " "): f"{value:>12,}" for name, value in total.document().items()})
        if total.counts.dead_lettered:
            say("Some records were set aside: `lineitem dlq list` says why.")

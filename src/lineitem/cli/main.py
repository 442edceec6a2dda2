"""The entry point: finds the command, imports only what it needs, turns every error into a sentence and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

import click

from lineitem import __version__
from lineitem.core.errors import LineitemError

_COMMANDS = {
    "demo": ("demo", "The main job on real sample usage, narrated, twice."),
    "catalog": (
        "catalog",
        "Check, publish, compare and show catalogs: meters, prices, accounts; try drafts on past usage.",
    ),
    "canary": ("canary", "Bill some accounts by new prices, and see what the others would have charged."),
    "ingest": ("ingest", "Read usage files into the ledger, exactly once."),
    "backfill": ("backfill", "Named backfills: what each brought in; revert one as a whole."),
    "replay": ("replay", "Read usage again, from raw segments or from Kafka; bills only what is missing."),
    "worker": (
        "worker",
        "Read a Kafka topic or a NATS stream into the ledger, exactly once, with any number of workers.",
    ),
    "line-items": ("ledger", "List priced line items."),
    "usage": ("ledger", "What an account used and owes in a period so far."),
    "quote": ("quote", "What a quantity would cost under a price."),
    "bill": ("billing", "Make the invoices of a period."),
    "invoice": ("billing", "Show invoices and write them as PDF."),
    "grant": ("grants", "Prepaid credit of accounts: add, list, take back what is left."),
    "fx": ("fx", "Exchange rates by day and source, for invoices in one currency."),
    "explain": ("ledger", "Why a line item or invoice says what it says, down to the raw events."),
    "verify": ("ledger", "Recompute the ledger and name whatever was altered."),
    "proof": ("ledger", "Prove that one line item is in the signed ledger."),
    "retract": ("ledger", "Say that an event did not happen; totals are folded again without it."),
    "dlq": ("dlq", "Dead letters: what was set aside and why; mend, replay, discard."),
    "gaps": ("gaps", "Gaps: events that a producer numbered and that never arrived; list, show, waive."),
    "throttle": ("throttle", "Pause or limit accounts, event types and sources while usage comes in."),
    "schema": ("schema", "Schemas of events: register, check against what is registered, serve to Kafka clients."),
    "tags": ("tags", "How well line items are tagged, how that moved, amounts by cost centre."),
    "period": ("period", "Close and show posting periods."),
    "metrics": ("metrics", "What stands in the ledger, in Prometheus' text format."),
    "doctor": ("doctor", "Check the machine, the database and the data folder, and say what to do."),
    "completion": ("completion", "Print a shell's completion script."),
}


class _Lazy(click.Group):
    """Knows its commands by name and imports one when it is used: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"lineitem.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a guess at what a mistyped name meant."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="lineitem")
def cli() -> None:
    """Usage events in; priced, immutable, explainable line items out.

    Start with `lineitem demo`. A ledger lives in ./.lineitem unless --data-dir or LINEITEM_DATABASE_URL says otherwise.
    """


_GLOBAL_WITH_VALUE = ("--data-dir", "--namespace")


def _options_last(arguments: Sequence[str]) -> list[str]:
    """Allow ``lineitem --data-dir X --json verify``: options of every command may stand before it."""
    rest = list(arguments)
    moved: list[str] = []
    while rest and rest[0].startswith("--"):
        name = rest[0].partition("=")[0]
        if name in _GLOBAL_WITH_VALUE and "=" not in rest[0] and len(rest) > 1:
            moved += [rest.pop(0), rest.pop(0)]
        elif name in _GLOBAL_WITH_VALUE or name == "--json":
            moved.append(rest.pop(0))
        else:
            break
    # Without a command behind them (`--help`, `--version`, nothing) there is no one to move them to.
    return rest + moved if rest and not rest[0].startswith("-") else rest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 could not finish or found something wrong, 2 the call is wrong."""
    try:
        result = cli.main(
            _options_last(sys.argv[1:] if arguments is None else arguments), prog_name="lineitem", standalone_mode=False
        )
        sys.stdout.flush()
        return int(result or 0)
    except LineitemError as error:
        click.echo(f"lineitem: {error}", err=True)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        error.show()
        return 2
    except UnicodeEncodeError as error:
        if not all("\udc80" <= character <= "\udcff" for character in error.object[error.start : error.end]):
            return _bug(error)
        click.echo("lineitem: an argument holds bytes that are not UTF-8\n  Write it as UTF-8 text.", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("lineitem: stopped; run the same command again, it goes on where it stopped.", err=True)
        return 130
    except (BrokenPipeError, SystemExit):
        # The reader of our output has gone (`| head`), which click and rich turn into SystemExit. Neither 0 nor 1 would
        # be true of `verify`, so we end as a program ends that SIGPIPE kills.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _bug(error)
        click.echo(f"lineitem: the answer could not be written: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        return _bug(error)


def _bug(error: Exception) -> int:
    """Bad code, not bad data: keep the traceback for a report, show people one line."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="lineitem-error-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    click.echo(
        f"lineitem: an unexpected error, {type(error).__name__}: {error}\n"
        f"  This is a defect in lineitem. Please report it with {file.name}; no batch was written in part.",
        err=True,
    )
    return 1


def entry() -> None:
    """The console script."""
    _standard_streams()
    sys.exit(main())


def _standard_streams() -> None:
    """Answers are UTF-8 whatever the locale; a stream that was closed is /dev/null, lest a file of ours take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - open as long as we run
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]


if __name__ == "__main__":
    entry()

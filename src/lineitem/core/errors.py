"""Every error lineitem raises, in one tree.

    LineitemError                  what was wrong, where, what to do      exit code 1
    ├── UsageError                 the call itself is wrong               exit code 2
    ├── InputError                 a file or value a person wrote is wrong
    │   ├── CatalogError           a catalog file; carries every problem with its line
    │   └── MappingError           a mapping file
    ├── EnvironmentProblem         the machine: disk, permissions, a server that is away
    │   └── DatabaseUnavailable    the ledger's PostgreSQL cannot be reached or started
    ├── Refused                    a rule of the ledger forbids it (closed period, price reaching back, ...)
    ├── Conflict                   somebody else got there first; the caller rolls back and tries again
    │   ├── PositionMoved          compare-and-set of a source position touched no row
    │   └── CatalogMoved           the catalog revision used is no longer current
    └── IntegrityError             the ledger does not say what it said before

Bad *data* is never one of these: a bad record is a dead letter with a reason code (``core.reasons``).
"""

from __future__ import annotations


class LineitemError(Exception):
    """Base of all errors. ``what`` went wrong, ``where``, and what to ``do`` about it; all three are for people."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.do}" if self.do else text


class UsageError(LineitemError):
    """The command line or call is wrong."""

    exit_code = 2


class InputError(LineitemError):
    """A file or value a person wrote is wrong."""


class CatalogError(InputError):
    """A catalog file is wrong. ``problems`` holds one ``file:line: text`` entry per defect, in file order."""

    def __init__(self, problems: list[str], *, where: str = "", do: str = "") -> None:
        super().__init__("\n".join(problems), where=where, do=do)
        self.problems = problems


class MappingError(InputError):
    """A mapping file is wrong, or does not fit the data it maps."""


class EnvironmentProblem(LineitemError):
    """The machine is in the way: disk, permissions, limits."""


class DatabaseUnavailable(EnvironmentProblem):
    """The ledger's PostgreSQL cannot be reached or started."""


class Refused(LineitemError):
    """A rule of the ledger forbids it."""


class Conflict(LineitemError):
    """Somebody else got there first; nothing was written."""


class PositionMoved(Conflict):
    """Another process moved the source position; this batch is abandoned."""


class CatalogMoved(Conflict):
    """The catalog revision used for rating is no longer the current one."""


class IntegrityError(LineitemError):
    """What is stored is not what was written."""

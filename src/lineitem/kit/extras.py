"""Modules of ours whose libraries are optional extras: loaded when used, and what to install where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from lineitem.core.errors import EnvironmentProblem


def load(module: str, extra: str, what: str, *, otherwise: str = "") -> Any:
    """Our ``module``, which imports the libraries of ``extra``. ``what`` needs them; ``otherwise``: what else one may do.

    Raises EnvironmentProblem where one is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "lineitem").startswith("lineitem"):
            raise  # ours: a defect
        raise EnvironmentProblem(
            f"{what} needs a package that is not installed: {error.name}", do=to_install(extra) + otherwise
        ) from error


def to_install(extra: str) -> str:
    """What to type; in a clone the package is not fetched from an index."""
    return f"pip install 'lineitem[{extra}]'; in a clone: .venv/bin/pip install -e '.[{extra}]'"

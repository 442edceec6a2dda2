"""Whom a boolean flag of a flagd file chooses: OpenFeature with the flagd provider reading the file, no daemon, no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lineitem.core.errors import EnvironmentProblem, InputError, UsageError
from lineitem.kit.extras import to_install

_DOMAIN = "lineitem-canary"


class FlagFile:
    """``FlagFile(path, flag)(accounts)``: those of ``accounts`` for which the flag is true; an account's id is the
    targeting key. 45-90 us an account. The file is read once, when it is called.
    """

    def __init__(self, path: Path, flag: str) -> None:
        self._path, self._flag = path, flag

    def __call__(self, accounts: Sequence[str]) -> list[str]:
        """Raises InputError for a file or a flag that is not there or cannot be evaluated, UsageError for a flag that is
        not boolean, EnvironmentProblem where the extra ``flags`` is not installed.
        """
        try:
            from openfeature import api
            from openfeature.contrib.provider.flagd import FlagdProvider
            from openfeature.contrib.provider.flagd.config import ResolverType
            from openfeature.evaluation_context import EvaluationContext
        except ImportError as error:
            raise EnvironmentProblem(
                "feature flags need a package that is not installed", do=to_install("flags")
            ) from error
        self._look()
        provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(self._path))
        api.set_provider_and_wait(provider, _DOMAIN)
        try:
            client = api.get_client(_DOMAIN)
            found = []
            for account in accounts:
                context = EvaluationContext(targeting_key=account)
                details = client.get_boolean_details(self._flag, False, context)
                if details.error_code is not None:
                    raise InputError(
                        f"the flag {self._flag!r} cannot be evaluated for account {account!r}: "
                        f"{details.error_message or details.error_code}",
                        where=str(self._path),
                        do="Correct the flag; https://flagd.dev describes the file.",
                    )
                if details.value:
                    found.append(account)
            return found
        finally:
            api.shutdown()

    def _look(self) -> None:
        """What the provider would answer with a default instead of an error."""
        where = str(self._path)
        try:
            document = json.loads(self._path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", where=where, do="Name a flagd file.") from error
        except ValueError as error:
            raise InputError(f"is no JSON: {error}", where=where, do="Name a flagd file (JSON).") from error
        flags = document.get("flags") if isinstance(document, dict) else None
        if not isinstance(flags, dict) or self._flag not in flags:
            names = ", ".join(sorted(flags)[:5]) if isinstance(flags, dict) else "none"
            raise InputError(f"has no flag {self._flag!r}; it has {names}", where=where, do="Name one of its flags.")
        flag = flags[self._flag]
        variants = flag.get("variants") if isinstance(flag, dict) else None
        if not isinstance(variants, dict) or not all(isinstance(value, bool) for value in variants.values()):
            raise UsageError(
                f"the flag {self._flag!r} is not boolean", do="A canary needs a flag whose variants are true and false."
            )

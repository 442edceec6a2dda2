"""Under which account the embedded PostgreSQL runs; PostgreSQL itself refuses to run as root.

Nothing here changes the mode of a folder, and the owner only of what ``kit.embedded`` made itself.

    who we are                          the server runs as
    an ordinary account                 that account
    an account without a passwd entry   itself, called by another name inside a user namespace (initdb wants a name)
    root, folder of another account     that account, so that it can go on without root
    root, folder of root                root, but called by another name inside a user namespace and without any
                                        capability: PostgreSQL is content, no file changes hands, and folders only
                                        root may enter (its home, a virtualenv in it) need no opening
    the same, namespaces forbidden      an account number nobody has, which the server's folder is given to
    (the usual container)

When the path to the server's folder or to the program is closed to an account we switch to, the server keeps the one
capability that gets it through (CAP_DAC_OVERRIDE). It may then touch no more files than the root process it serves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lineitem.core.errors import DatabaseUnavailable

# From linux/sched.h, linux/prctl.h and linux/capability.h.
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

_UNUSED_UIDS = range(58_200, 58_300)
"""Where an account number without an owner is looked for: below 65536, because containers often map no more."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """Who the server is.

    ``uid`` and ``gid`` own its files as seen from here. ``logins`` are the account names, as the server sees them, that
    may connect. ``inside`` is the number it goes by within its own namespace (``namespace`` only).
    """

    how: Literal["same", "namespace", "switch"]
    uid: int
    gid: int
    logins: tuple[str, ...]
    inside: int = 0
    passes_closed_folders: bool = False

    def enter(self) -> None:
        """Become this account for good. For the short time between fork and exec; raises OSError."""
        if self.how == "namespace":
            _called(_libc.unshare(_CLONE_NEWUSER))
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{self.inside} {self.uid} 1"),
                ("gid_map", f"{self.inside} {self.gid} 1"),
            ):
                Path("/proc/self", name).write_text(text)
            _keep_capabilities(0)
        elif self.how == "switch":
            if self.passes_closed_folders:
                # initdb asks access(2) whether it may run a program, and access(2) forgets capabilities without this. Where a
                # container took the right to set it, only programs in folders that are open to all can be run.
                _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
                _called(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
            if self.passes_closed_folders:
                _keep_capabilities(1 << _CAP_DAC_OVERRIDE)
                _called(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))

    def for_initdb(self) -> Account:
        """The account initdb runs as: this one, or one with a name when it has none (the files change hands after)."""
        if self.how != "switch" or _name(self.uid) is not None:
            return self
        uid = _named_uid()
        if uid is None:
            raise _no_account("this machine knows no account but root")
        return Account("switch", uid, uid, self.logins, passes_closed_folders=True)

    def take(self, path: Path) -> None:
        """Give ``path``, which we have just made, and all below it to the server."""
        if self.how != "switch":
            return
        os.lchown(path, self.uid, self.gid)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.lchown(os.path.join(folder, name), self.uid, self.gid)


def choose(folder: Path, program: Path) -> Account:
    """The account for a server whose files lie in ``folder`` (existing) and whose executable is ``program``.

    Raises DatabaseUnavailable when no account can be had that PostgreSQL accepts and that reaches both.
    """
    euid, egid = os.geteuid(), os.getegid()
    if euid != 0:
        name = _name(euid)
        if name is not None:
            return Account("same", euid, egid, _distinct(name, _name(0)))
        candidates = _renamed(euid, egid)
    else:
        owner = folder.stat()
        if owner.st_uid != 0:
            candidates = _switched(owner.st_uid, owner.st_gid)
        else:
            unused = next(uid for uid in _UNUSED_UIDS if _name(uid) is None)
            candidates = [*_renamed(euid, egid), *_switched(unused, unused)]
    for candidate in candidates:
        if _reaches(candidate, folder, program):
            return candidate
    raise _no_account(
        "PostgreSQL refuses to run as root, and this machine allows neither a user namespace nor changing accounts"
        if euid == 0
        else f"the account with number {euid} has no name, which PostgreSQL needs to create a database"
    )


def end_with_parent(signal_number: int, parent: int) -> None:
    """Have the kernel send ``signal_number`` to this process when ``parent`` dies. After ``enter``, which resets it."""
    if sys.platform != "linux":
        return
    _called(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0))
    if os.getppid() != parent:  # it died before the request was in place
        os._exit(1)


def _renamed(uid: int, gid: int) -> list[Account]:
    inside = _named_uid()
    name = None if inside is None else _name(inside)
    if sys.platform != "linux" or inside is None or name is None:
        return []
    return [Account("namespace", uid, gid, (name,), inside=inside)]


def _switched(uid: int, gid: int) -> list[Account]:
    logins = _distinct(_name(0), _name(uid))
    plain = Account("switch", uid, gid, logins)
    if sys.platform != "linux":
        return [plain]
    return [plain, Account("switch", uid, gid, logins, passes_closed_folders=True)]


def _reaches(account: Account, folder: Path, program: Path) -> bool:
    """Whether a process can become ``account`` here and then get to both; tried in a child that is thrown away."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            account.enter()
            folder.stat()
            os.close(os.open(program, os.O_RDONLY))
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _named_uid() -> int | None:
    """The first ordinary account number with a name.

    Never the overflow number: inside a namespace every stranger appears under it, and it must not be let in.
    """
    return next((uid for uid in range(1, 1000) if _name(uid) is not None), None)


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _distinct(*names: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _keep_capabilities(mask: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; then the high halves
    _called(_libc.capset(header, sets))


def _called(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _no_account(what: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"cannot start the embedded PostgreSQL: {what}",
        do="Run lineitem as an ordinary account with a name, or set LINEITEM_DATABASE_URL to a server of your own.",
    )

"""Named places where a fault test makes its process die or stand still; without the variable they do nothing.

``LINEITEM_FAILPOINT=before_commit@3`` kills the process, as ``kill -9`` does, when it comes to ``before_commit`` for
the third time; ``stop:before_commit`` stops it there until somebody sends SIGCONT.
"""

from __future__ import annotations

import os
import re
import signal
import threading

_SPEC = re.compile(r"(?:(kill|stop):)?([a-z_]+)(?:@([1-9][0-9]*))?")
_armed = _SPEC.fullmatch(os.environ.get("LINEITEM_FAILPOINT", ""))
_passed = 0
_lock = threading.Lock()


def failpoint(name: str) -> None:
    """A place worth dying at; the name is known to ``tests/faults`` alone."""
    if _armed is not None and _armed[2] == name:
        _reach(_armed[1] or "kill", int(_armed[3] or 1))


def _reach(action: str, wanted: int) -> None:
    global _passed
    with _lock:
        _passed += 1
        reached = _passed == wanted
    if reached:
        os.kill(os.getpid(), signal.SIGSTOP if action == "stop" else signal.SIGKILL)

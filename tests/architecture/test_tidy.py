"""House rules that a linter does not know: docstrings, exact numbers, SQL in files, nothing of one machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.source import ROOT, modules, repository_files, room, shown

EXACT_ROOMS = frozenset({"core", "catalog", "schemas", "ingest", "rate", "ledger", "billing"})
# (file, function): why a binary float is right there. Nothing that becomes a quantity or an amount belongs here.
FLOATS_ALLOWED: dict[tuple[str, str], str] = {
    ("src/lineitem/ingest/formats/parquet.py", "_float_values"): "a producer's float column, turned into decimals here",
    ("src/lineitem/schemas/values.py", "from_double"): "a producer's double, turned into a decimal here",
    ("src/lineitem/schemas/values.py", "from_single"): "a producer's single, turned into a decimal here",
    ("src/lineitem/schemas/formats/avro.py", "_floats"): "defaults in a schema, which only a library looks at",
}
EXECUTORS = frozenset({"execute", "executemany", "copy", "stream"})


def _walk(tree: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Every node below ``tree`` with the name of the innermost function around it."""
    for child in ast.iter_child_nodes(tree):
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield child, inner
        if not _refuses_floats(child):
            yield from _walk(child, inner)


def _is_float(node: ast.AST) -> bool:
    match node:
        case ast.Name(id="float") | ast.Attribute(attr="float16" | "float32" | "float64" | "double" | "longdouble"):
            return True
        case ast.Constant(value=float()):
            return True
    return False


def _refuses_floats(node: ast.AST) -> bool:
    """``isinstance(value, float)`` is how a float is kept out, not a use of one."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"


def test_every_module_opens_with_its_purpose() -> None:
    """The first thing in a module is one sentence that says what it is for."""
    silent = []
    for path, tree in modules().items():
        first_line = (ast.get_docstring(tree) or "").partition("\n")[0].strip()
        if tree.body and not first_line.endswith((".", "!", "?", ":")):
            silent.append(shown(path))
    assert not silent


def test_no_module_is_without_content() -> None:
    """An `__init__.py` says what its folder holds."""
    assert [shown(path) for path, tree in modules().items() if not tree.body] == []


def test_no_binary_float_where_money_passes() -> None:
    """No `float`, no floating-point dtype, no float literal in the rooms that quantities and amounts pass.

    `/` is not looked at: between fractions and decimals it is exact, and mypy sees the float it makes of two integers.
    """
    found = [
        f"{shown(path, getattr(node, 'lineno', None))} in {function or 'module'}"
        for path, tree in modules().items()
        if room(path) in EXACT_ROOMS
        for node, function in _walk(tree)
        if _is_float(node) and (shown(path), function) not in FLOATS_ALLOWED
    ]
    assert not found, "exact numbers only, or an entry with its reason in FLOATS_ALLOWED"


def test_sql_is_never_put_together_from_strings() -> None:
    """What is passed to execute, executemany or copy is a value loaded from a file or a constant, not glued text."""
    glued = []
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in EXECUTORS:
                first = node.args[0] if node.args else None
                formatted = (
                    isinstance(first, ast.Call)
                    and isinstance(first.func, ast.Attribute)
                    and first.func.attr == "format"
                    and isinstance(first.func.value, ast.Constant | ast.JoinedStr)
                )
                if isinstance(first, ast.JoinedStr | ast.BinOp) or formatted:
                    glued.append(shown(path, node.lineno))
    assert not glued


def test_no_sleep_waits_for_others() -> None:
    """Waiting for a state asks for that state; only kit.embedded, which polls a server it starts, may pause between."""
    sleeping = [
        shown(path, node.lineno)
        for path, tree in modules().items()
        if not (room(path) == "kit" and path.stem.startswith("embedded"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}
    ]
    assert not sleeping


# Written in pieces so that this file does not find itself.
_FOREIGN = {
    "a path of one machine": re.compile(
        r"(?<![\w.])/(?:" + "|".join(["wo" + "rk", "fa" + "rm", "ho" + "me/\\w", "Us" + "ers/\\w", "ro" + "ot"]) + ")/"
    ),
    "a package registry's host": re.compile(
        "|".join(
            [
                r"py" + r"pi\.org",
                r"python" + r"hosted\.org",
                r"registry\.npm" + "js",
                r"crates\." + "io",
                r"proxy\.gol" + "ang",
            ]
        )
    ),
    "a resolver's lock file": re.compile(r"\b(?:uv|poetry|pdm)\." + "lock"),
}


@pytest.mark.parametrize("what", sorted(_FOREIGN))
def test_nothing_of_one_machine(what: str) -> None:
    """No file names a path of the machine it was written on, a registry's host or a resolver's lock file."""
    found = []
    for path in repository_files():
        # The samples are other people's requests, kept as they were made.
        if path.is_relative_to(ROOT / "src" / "lineitem" / "data" / "samples") and path.suffix != ".md":
            continue
        text = path.read_bytes().decode(errors="replace")
        found += [shown(path, text.count("\n", 0, hit.start()) + 1) for hit in _FOREIGN[what].finditer(text)]
    assert not found


def test_no_lock_file_of_a_resolver() -> None:
    """Dependencies are pinned by requirements/*.txt alone."""
    assert [shown(path) for path in repository_files() if path.suffix == ".lock"] == []


def test_pinned_with_hashes_and_no_addresses() -> None:
    """Every line of a requirements file is a pin, a hash or a comment; every pin has a hash."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        pins = re.split(r"\n(?=\S)", path.read_text().strip())
        assert pins
        for pin in pins:
            assert re.match(
                r"^[a-z0-9.\-]+(\[[a-z,]+\])?==[^\s]+( ; [^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", pin
            ), pin[:80]
            assert "://" not in pin

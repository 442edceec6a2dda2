"""Mapping files: what they may say, and complaints that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lineitem.core.errors import MappingError
from lineitem.ingest.mapping import FieldMapping, Spec, TimeSpec, by_name, fitted, parse_mapping

MAPS = Path(__file__).parents[2] / "examples" / "maps"
GOOD = """
type: {const: order}
subject: {template: "{region}-{tenant}"}
time: {column: at, format: iso, timezone: Europe/Paris}
id: Order
data:
  n: {column: Qty, type: integer, default: "1"}
  country: Country
delimiter: ";"
"""


def test_a_mapping_says_where_things_come_from() -> None:
    """Each form of the grammar; and the JSON it is kept as gives it back."""
    mapping = parse_mapping(GOOD)
    assert mapping == FieldMapping(
        type=Spec(const="order"),
        subject=Spec(template="{region}-{tenant}"),
        time=TimeSpec("at", "iso", "Europe/Paris"),
        id=Spec(column="Order"),
        data={"n": Spec(column="Qty", type="integer", default="1"), "country": Spec(column="Country")},
        delimiter=";",
    )
    assert FieldMapping.from_settings(json.loads(json.dumps(mapping.to_settings()))) == mapping


@pytest.mark.parametrize("path", sorted(MAPS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_mappings(path: Path) -> None:
    """Every shipped example can be read."""
    assert parse_mapping(path.read_text(), path.name).type is not None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("type: {const: a}\nsubjct: b\n", 2, "unknown key 'subjct'"),
        ("type: a\ntype: b\n", 2, "twice"),
        ("type: {const: a, column: b}\n", 1, "exactly one"),
        ("type:\n  const: a\n  colour: b\n", 3, "unknown key 'colour'"),
        ("subject: {template: fixed}\n", 1, "names no column"),
        ("time: {format: iso}\n", 1, "needs a column"),
        ("time: {column: t, format: soon}\n", 1, "not a time format"),
        ("time: {column: t, timezone: Mars/Base}\n", 1, "unknown time zone"),
        ("time: {column: t, format: '%Y-%m-%d'}\n", 1, "needs a timezone"),
        ("time: {column: t, format: unix, timezone: UTC}\n", 1, "leave timezone away"),
        ("data:\n  n: {column: q, type: float}\n", 2, "unknown type 'float'"),
        ("data: [a]\n", 1, "expected keys"),
        ("type: ~\n", 1, "expected a text"),
        ("type: [a\n", 2, "not YAML"),
        ("delimiter: ab\n", 1, "cannot be a delimiter"),
        ("- a\n", 1, "expected keys"),
    ],
)
def test_complaints_name_the_line(text: str, line: int, words: str) -> None:
    """A mapping that is wrong is refused, with file, line and what to do."""
    with pytest.raises(MappingError) as caught:
        parse_mapping(text, "map.yaml")
    assert caught.value.where == f"map.yaml:{line}"
    assert words in caught.value.what


def test_an_empty_mapping_is_refused() -> None:
    """Nothing is not a mapping."""
    with pytest.raises(MappingError, match="empty"):
        parse_mapping("# only a comment\n")


def test_fitting_names_the_columns_there_are() -> None:
    """A column that does not exist stops the ingest before anything is read."""
    with pytest.raises(MappingError, match=r"'Order', 'Qty', 'at'.*'Country', 'region', 'tenant'"):
        fitted(parse_mapping(GOOD), ["Country", "region", "tenant"], "csv header")


def test_without_a_mapping_names_decide() -> None:
    """Columns called like attributes are those; the rest is data; what is missing is shown with an example."""
    present = ["id", "type", "subject", "time", "data.model", "tokens"]
    mapping = fitted(by_name(present), present, "csv header")
    assert mapping.id == Spec(column="id")
    assert mapping.data == {"model": Spec(column="data.model"), "tokens": Spec(column="tokens")}
    with pytest.raises(MappingError, match="subject, time come from") as caught:
        fitted(by_name(["type"]), ["type"], "csv header")
    assert "--map" in caught.value.do

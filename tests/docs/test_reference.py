"""The reference is complete: every key, format, field, command and option is on its page."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from lineitem.catalog import load
from lineitem.catalog.currency_fields import CONVERSION_KEYS, CURRENCY_KEYS
from lineitem.catalog.model import Aggregation, ConversionDate, Itemize, Missing, Normalize, Rounding, Unknown
from lineitem.catalog.price_doc import COMMON_FIELDS, MODEL_FIELDS
from lineitem.catalog.price_fields import FIELD_MEANINGS
from lineitem.catalog.tag_reader import COST_CENTER_KEYS, TAG_KEYS
from lineitem.cli.main import cli
from lineitem.ingest.formats import FORMATS
from lineitem.ingest.formats.access_log import FIELDS
from lineitem.ingest.mapping import ATTRIBUTES, TimeSpec
from lineitem.ingest.time_formats import TIME_FORMATS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def _code(page: str) -> set[str]:
    """Every word that stands in code on a page."""
    text = (REFERENCE / page).read_text()
    spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```.*?^```$|^ {4}.+$", text, re.MULTILINE | re.DOTALL)
    return {word for span in spans for word in re.findall(r"[A-Za-z_][\w-]*", span)}


def test_every_key_of_a_catalog_is_documented() -> None:
    """What the loader reads is what the page lists."""
    keys = {*load._TOP_KEYS, *load._METER_KEYS, *load._PRICEBOOK_KEYS, *load._DEFAULTS_KEYS, *load._ACCOUNT_KEYS}
    keys |= {*load._OVERRIDE_KEYS, *load._PUBLISHING_KEYS, *load._APPROVAL_KEYS, *TAG_KEYS, *COST_CENTER_KEYS}
    keys |= {*COMMON_FIELDS, *MODEL_FIELDS, "up_to", "divide_by", "round"}
    keys |= {
        option.value
        for options in (Aggregation, Itemize, Rounding, Normalize, Missing, Unknown, ConversionDate)
        for option in options
    }
    keys |= {*CURRENCY_KEYS, *CONVERSION_KEYS}
    assert keys - _code("catalog.md") == set()


@pytest.mark.parametrize("name", MODEL_FIELDS)
def test_every_key_of_a_price_is_on_its_models_page(name: str) -> None:
    """Each model has its page with every key it reads, and each key has a meaning; none is explained that nothing reads."""
    fields = MODEL_FIELDS[name]
    assert {*fields.keys, *fields.tier} - _code(f"models/{name}.md") == set()
    read = {key for one in MODEL_FIELDS.values() for key in (*one.keys, *one.tier)}
    assert set(FIELD_MEANINGS) - read == {"up_to", "when", "prefix", "name", "increment"}


def test_every_key_of_a_mapping_is_documented() -> None:
    """Attributes, origins, time formats and value types."""
    keys = {*ATTRIBUTES, *TIME_FORMATS, *TimeSpec.__struct_fields__, "time", "data", "delimiter"}
    keys |= {"column", "const", "template", "default", "string", "integer", "decimal", "boolean"}
    assert keys - _code("mapping.md") == set()


def test_every_format_is_documented() -> None:
    """Each format has its section, its endings, and an access log's fields are listed."""
    text = (REFERENCE / "formats.md").read_text()
    assert [name for name in FORMATS if f"\n## {name}\n" not in text] == []
    assert [suffix for one in FORMATS.values() for suffix in one.suffixes if f"`{suffix}`" not in text] == []
    assert set(FIELDS) - _code("formats.md") == set()


def _commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", one) for inner, one in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), _commands(), ids=[name for name, _ in _commands()])
def test_every_command_and_option_says_what_it_does(name: str, command: click.Command) -> None:
    """Help for each command and option; each command has its section on the page (`make reference`)."""
    assert command.help
    silent = [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not (option.help or option.hidden)
    ]
    assert silent == []
    page = (REFERENCE / "cli.md").read_text()
    assert re.search(rf"^###? lineitem {re.escape(name)}$", page, re.MULTILINE)
    own = [option for option in command.params if option.name not in ("data_dir", "namespace", "as_json")]
    section = page.partition(f" lineitem {name}\n\n")[2].partition("\n## ")[0]
    assert [o.name for o in own if isinstance(o, click.Option) and o.opts[-1] not in section] == []

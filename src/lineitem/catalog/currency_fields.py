"""Reads what a catalog says about money: currencies of its own, and how an invoice comes to be in one currency."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lineitem.catalog.currencies import CODE_PATTERN, CODE_RULE, currency_problem, is_iso
from lineitem.catalog.fields import Fields, unique
from lineitem.catalog.model import Conversion, ConversionDate, OwnCurrency
from lineitem.catalog.price_reader import shorten
from lineitem.catalog.yaml_lines import KeyPath
from lineitem.core.limits import AMOUNT_SCALE

CURRENCY_KEYS = ("code", "name", "exponent", "symbol")
CONVERSION_KEYS = ("source", "date", "max_age_days", "pivot")
AGE_DAYS_MAX = 366
"""How old a rate may be allowed to be."""


@dataclass(frozen=True, slots=True)
class Money:
    """What an account may ask for: the catalog's ``own`` currencies, and whether a rule ``converts``."""

    own: frozenset[str]
    converts: bool


def read_currencies(top: Fields) -> tuple[OwnCurrency, ...]:
    """The entries of ``currencies``, sorted by code."""
    found: list[OwnCurrency] = []
    codes: list[tuple[str, KeyPath]] = []
    for item, path in top.items("currencies"):
        fields = Fields(item, path, top.problems, CURRENCY_KEYS)
        code = _code(fields)
        if fields.require("exponent", "2") and code:
            exponent = fields.integer("exponent", 0, AMOUNT_SCALE, 0)
            found.append(OwnCurrency(code, exponent, fields.text("name", chars_max=64), _symbol(fields)))
            codes.append((code, (*path, "code")))
    unique(codes, top.problems, lambda code: f"the currency {code!r}")
    return tuple(sorted(found, key=lambda one: one.code))


def _code(fields: Fields) -> str:
    if not fields.require("code", "XCR"):
        return ""
    code = fields.text("code")
    if code and not CODE_PATTERN.fullmatch(code):
        fields.at("code", f"{shorten(code)} cannot be the code of a currency; {CODE_RULE}")
        return ""
    if code and is_iso(code):
        fields.at("code", f"{code} is an ISO 4217 code, whose decimals are fixed; choose another code")
        return ""
    return code


def _symbol(fields: Fields) -> str:
    return fields.text("symbol", chars_max=8)


def read_conversion(top: Fields, own: Collection[str]) -> Conversion | None:
    """The rule ``conversion``; None where there is none or it is wrong."""
    if "conversion" not in top:
        return None
    fields = Fields(top.raw("conversion"), ("conversion",), top.problems, CONVERSION_KEYS)
    source = fields.identifier("source", "ecb")
    if fields.raw("date") == "event_time":
        text = "event_time is not supported: an invoice line has one rate; use period_end or invoice_date"
        fields.at("date", text)
        return None
    date = fields.choice("date", ConversionDate)
    if not fields.require("max_age_days", "5") or not source or date is None:
        return None
    age = fields.integer("max_age_days", 0, AGE_DAYS_MAX, 0)
    return Conversion(source, date, age, read_code(fields, "pivot", own))


def read_invoice_currency(fields: Fields, default: str | None, money: Money) -> str | None:
    """The currency of an account's one invoice, which needs a rule to convert by."""
    if "invoice_currency" not in fields:
        return default
    if not money.converts:
        fields.at("invoice_currency", "no rule says by which rates to convert; add `conversion`")
    return read_code(fields, "invoice_currency", money.own)


def read_code(fields: Fields, key: str, own: Collection[str]) -> str | None:
    """A currency amounts can be in; None where it is not named or wrong."""
    code = fields.text(key)
    defect = currency_problem(code, own) if code else None
    if defect:
        fields.at(key, f"{defect}; use a code such as EUR, or one of `currencies`")
        return None
    return code or None

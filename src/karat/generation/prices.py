"""What a token costs: a dated table of well-known models, which a user's own file goes before. Calls nobody.

A price that is not known is None, never a guess: who has set a cap in dollars must be told so.
"""

from __future__ import annotations

import ipaddress
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from karat.errors import InputError
from karat.generation.base import Price, Request, most_tokens_in

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# `gpt-4o-mini-2024-07-18`, `claude-haiku-4-5-20251001`: a dated name is priced as the one without a date.
_DATE = re.compile(r"[-@](20\d\d-?\d\d-?\d\d)$")
_FORM = '[models]\n"my-model" = [0.15, 0.60]'


@dataclass(frozen=True)
class Rates:
    """USD per million tokens, and where and when the prices were read; batch: None where there is none."""

    tokens_in: float
    tokens_out: float
    batch_in: float | None = None
    batch_out: float | None = None
    source: str = ""
    read: str = ""

    def cost(self, tokens_in: int, tokens_out: int, *, batch: bool = False) -> float:
        """What so many tokens cost in USD; in the batch API at the full price where no other is known."""
        dear_in, dear_out = self.tokens_in, self.tokens_out
        if batch and self.batch_in is not None and self.batch_out is not None:
            dear_in, dear_out = self.batch_in, self.batch_out
        return (tokens_in * dear_in + tokens_out * dear_out) / 1e6


def most_of(request: Request, rates: Rates | None) -> Price:
    """The most that a request can cost, its schema included; `usd` is nan where no price is known."""
    tokens_in = most_tokens_in(request)
    if request.schema:
        tokens_in += len(orjson.dumps(dict(request.schema))) // 2
    usd = math.nan if rates is None else rates.cost(tokens_in, request.max_tokens)
    return Price(tokens_in + request.max_tokens, usd)


FREE = Rates(0.0, 0.0, 0.0, 0.0, "a server of one's own")


def known(
    model: str,
    *,
    url: str = "",
    price_in: float | None = None,
    price_out: float | None = None,
    prices: str | Path | None = None,
) -> Rates | None:
    """The prices of a model, or None where they are not known.

    What the user says goes first (`price_in` and `price_out`, then the file `prices`), then the shipped table
    by the server that `url` names. Servers on this machine and in private networks cost nothing. Without a
    url, `vendor/model` is looked up with that vendor, and a bare name with all. Raises InputError for a file
    that cannot be read.
    """
    if price_in is not None and price_out is not None:
        return Rates(price_in, price_out, source="settings price_in and price_out")
    found = _find(_own(str(prices)), model, url) if prices else None
    if found is None:
        found = FREE if url and is_own(url) else _find(_shipped(), model, url)
    if found is not None and (price_in is not None or price_out is not None):
        return Rates(
            found.tokens_in if price_in is None else price_in,
            found.tokens_out if price_out is None else price_out,
            source=found.source,
            read=found.read,
        )
    return found


def is_own(url: str) -> bool:
    """True for a server on this machine or in a private network: its host name or address says so."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # A name without a dot is found only in a network of one's own, as those of containers are.
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))
    return address.is_loopback or address.is_private or address.is_link_local or address.is_unspecified


def _find(table: Mapping[str, Any], model: str, url: str) -> Rates | None:
    host = (urlsplit(url).hostname or "").lower()
    vendor, slash, rest = model.partition("/")
    anywhere = {"models": table["models"]} if "models" in table else {}
    sections = {name: section for name, section in table.items() if name != "models"}
    tries = [(anywhere, model)] if anywhere else []
    if host:
        tries += [(s, model) for s in sections.values() if host in s.get("hosts", ())]
    elif slash and vendor in sections:
        tries += [(sections[vendor], rest)]
    else:
        tries += [(section, model) for section in sections.values()]
    for section, name in tries:
        for candidate in (name, _DATE.sub("", name)):
            if candidate in section["models"]:
                return _rates(section, section["models"][candidate])
    return None


def _rates(section: Mapping[str, Any], row: list[float]) -> Rates:
    batch = section.get("batch")
    cheap = row[2:4] if len(row) == 4 else [row[0] * batch, row[1] * batch] if batch else [None, None]
    return Rates(row[0], row[1], cheap[0], cheap[1], section.get("source", ""), str(section.get("read", "")))


@cache
def _shipped() -> Mapping[str, Any]:
    return _checked(files("karat.generation").joinpath("prices.toml").read_text("utf-8"), "prices.toml")


@cache
def _own(path: str) -> Mapping[str, Any]:
    try:
        return _checked(Path(path).read_text("utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a file of prices ({error}); give a TOML file") from None


def _checked(text: str, where: str) -> Mapping[str, Any]:
    """The table, when every section of it has models and every model two or four numbers."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: no TOML ({error}); write lines like {_FORM!r}") from None
    for name, section in table.items():
        models = section if name == "models" else section.get("models") if isinstance(section, dict) else None
        if not isinstance(models, dict):
            raise InputError(f"{where}: the section {name!r} has no table of models; write {_FORM!r}")
        for model, row in models.items():
            numbers = isinstance(row, list) and all(type(n) in (int, float) and n >= 0 for n in row)
            if not numbers or len(row) not in (2, 4):
                raise InputError(
                    f"{where}: the price of {model!r} is {row!r}; write USD per million tokens [in, out], or "
                    "[in, out, batch in, batch out]"
                )
    return table

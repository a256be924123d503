"""Prices: the user's word, the user's file, the dated table - and never a guess."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from karat.errors import InputError
from karat.generation import prices
from karat.generation.prices import is_own, known

OPENAI = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("model", "url", "row", "batch"),
    [
        # as the vendors' pages said in November 2026: input, output, and half of both in the batch API
        ("gpt-4o-mini", OPENAI, (0.15, 0.60), (0.075, 0.30)),
        ("gpt-4o-mini-2024-07-18", OPENAI, (0.15, 0.60), (0.075, 0.30)),
        ("gpt-4o-2024-05-13", OPENAI, (5.0, 15.0), (2.5, 7.5)),
        ("gpt-5-nano", OPENAI, (0.05, 0.40), (0.025, 0.20)),
        ("gpt-5-nano", "", (0.05, 0.40), (0.025, 0.20)),
        ("openai/gpt-5-nano", "", (0.05, 0.40), (0.025, 0.20)),
        ("anthropic/claude-haiku-4-5-20251001", "", (1.0, 5.0), (0.5, 2.5)),
        ("openai/gpt-oss-120b", "https://api.groq.com/openai/v1", (0.15, 0.60), (0.075, 0.30)),
        ("groq/openai/gpt-oss-20b", "", (0.075, 0.30), (0.0375, 0.15)),
        ("deepseek-v4-flash", "https://api.deepseek.com", (0.3, 1.2), (None, None)),
    ],
)
def test_the_table(
    model: str, url: str, row: tuple[float, float], batch: tuple[float | None, float | None]
) -> None:
    """Found by server and name, with or without the vendor before it and a date behind it."""
    rates = known(model, url=url)
    assert rates is not None
    assert row == (rates.tokens_in, rates.tokens_out)
    assert batch == pytest.approx((rates.batch_in, rates.batch_out))
    assert rates.source.startswith("https://")
    assert datetime.date(2026, 11, 1) <= datetime.date.fromisoformat(rates.read)


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt-99", OPENAI),
        ("gpt-4o-mini", "https://reseller.example.com/v1"),  # who knows what they take
        ("gpt-4o-mini-2024-07-18-beta", OPENAI),
        ("gpt-4o-mini", "https://api.deepseek.com"),
        ("acme/gpt-99", ""),
    ],
)
def test_what_is_not_known_is_not_guessed(model: str, url: str) -> None:
    """A model or a server that the table does not name has no price, which is not a price of nothing."""
    assert known(model, url=url) is None


def test_the_user_goes_before_the_table(tmp_path: Path) -> None:
    """Settings before the file, the file before the table, one of two prices on top of what is known."""
    path = tmp_path / "prices.toml"
    path.write_text(
        '[models]\n"gpt-4o-mini" = [1, 2]\n"local" = [0.5, 0.5, 0.1, 0.2]\n'
        '[acme]\nhosts = ["llm.acme.example"]\nbatch = 0.25\n[acme.models]\n"big" = [4, 8]\n'
    )
    file = known("gpt-4o-mini", url=OPENAI, prices=path)
    assert file is not None and (1, 2) == (file.tokens_in, file.tokens_out)
    assert (file.batch_in, file.batch_out) == (None, None)
    acme = known("big", url="https://llm.acme.example/v1", prices=path)
    assert acme is not None and (4, 8, 1.0, 2.0) == (
        *(acme.tokens_in, acme.tokens_out),
        *(acme.batch_in, acme.batch_out),
    )
    # a server of one's own is free unless its owner says otherwise
    own = known("local", url="http://127.0.0.1:8000/v1", prices=path)
    assert own is not None and 0.5 == own.tokens_in
    table = known("gpt-5-nano", url=OPENAI, prices=path)
    assert table is not None and 0.05 == table.tokens_in
    both = known("gpt-4o-mini", url=OPENAI, price_in=7, price_out=9, prices=path)
    assert both is not None and (7, 9) == (both.tokens_in, both.tokens_out)
    half = known("gpt-5-nano", url=OPENAI, price_in=7)
    assert half is not None and (7, 0.40) == (half.tokens_in, half.tokens_out)
    assert known("nobody", url="https://x.example", price_in=7) is None


def test_what_tokens_cost() -> None:
    """Per million; in the batch API at its price, at the full one where it is not known."""
    rates = prices.Rates(2.0, 8.0, 1.0, 4.0)
    assert 10.0 == rates.cost(1_000_000, 1_000_000)
    assert 5.0 == rates.cost(1_000_000, 1_000_000, batch=True)
    assert 10.0 == prices.Rates(2.0, 8.0).cost(1_000_000, 1_000_000, batch=True)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:11434/v1", True),
        ("http://[::1]:8000", True),
        ("http://0.0.0.0:8000", True),
        ("http://10.1.2.3/v1", True),
        ("http://192.168.0.7:8000", True),
        ("http://172.20.0.2", True),
        ("http://vllm:8000/v1", True),
        ("http://gpu-box.local/v1", True),
        (OPENAI, False),
        ("https://127.0.0.1.example.com", False),
        ("http://172.40.0.2", False),
        ("http://8.8.8.8", False),
        ("https://localhost.evil.com", False),
    ],
)
def test_whose_server_it_is(url: str, own: bool) -> None:
    """This machine, private addresses and names without a dot are one's own, and free."""
    assert own == is_own(url)
    assert (known("anything", url=url) is not None) == own


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml at all", "no TOML"),
        ('[acme]\nhosts = ["x"]\n', "'acme' has no table of models"),
        ('[models]\n"m" = 3\n', "the price of 'm' is 3"),
        ('[models]\n"m" = [1]\n', "write USD per million tokens"),
        ('[models]\n"m" = [1, -2]\n', "write USD per million tokens"),
        ('[models]\n"m" = [1, "2"]\n', "write USD per million tokens"),
        ("x = 1\n", "'x' has no table of models"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The file, the place and the form that is wanted."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        known("m", url=OPENAI, prices=path)
    assert "mine.toml" in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        known("m", prices=tmp_path / "none.toml")


def test_the_shipped_table_is_whole() -> None:
    """Every section says where and when its prices were read, and output is never cheaper than input."""
    table = prices._shipped()
    assert len(table) >= 6
    for section in table.values():
        assert section["source"].startswith("https://")
        assert isinstance(section["read"], datetime.date)
        assert section["hosts"]
        for model, row in section["models"].items():
            assert row[0] <= row[1], model

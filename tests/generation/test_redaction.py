"""Secrets are masked wherever they may be written, and data stays what it is."""

from __future__ import annotations

import gzip
import json
import random
import string
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from karat.generation.redaction import MASK, Redactor


def drawn(alphabet: str, count: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=count))


ALNUM = string.ascii_letters + string.digits
SHAPES = {
    "openai": "sk-" + drawn(ALNUM, 48, 1),
    "openai project": "sk-proj-" + drawn(ALNUM + "_-", 120, 2),
    "anthropic": "sk-ant-api03-" + drawn(ALNUM + "_-", 90, 3),
    "openrouter": "sk-or-v1-" + drawn("0123456789abcdef", 64, 4),
    "hugging face": "hf_" + drawn(ALNUM, 34, 5),
    "groq": "gsk_" + drawn(ALNUM, 52, 6),
    "xai": "xai-" + drawn(ALNUM, 80, 7),
    "github": "ghp_" + drawn(ALNUM, 36, 8),
    "github server": "ghs_" + drawn(ALNUM, 36, 9),
    "github fine": "github_pat_" + drawn(ALNUM + "_", 82, 10),
    "aws": "AKIA" + drawn(string.ascii_uppercase + string.digits, 16, 11),
    "aws session": "ASIA" + drawn(string.ascii_uppercase + string.digits, 16, 12),
    "google": "AIza" + drawn(ALNUM + "_-", 35, 13),
    "slack": "xoxb-" + drawn(string.digits + "-", 24, 14) + drawn(ALNUM, 24, 15),
    "token": f"eyJ{drawn(ALNUM, 30, 16)}.eyJ{drawn(ALNUM, 60, 17)}.{drawn(ALNUM + '_-', 43, 18)}",
}
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join([drawn(ALNUM + "+/", 64, 19)] * 5)
PEM += "\n-----END RSA PRIVATE KEY-----"
AROUND = (
    "{}",
    "key={} and more",
    '{{"a":"{}"}}',
    "密钥{}。",
    "x\n{}\ny",
    "({})",
    "'{}',",
    "Authorization: {}",
)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("around", AROUND)
def test_keys_of_well_known_services_are_masked(name: str, around: str) -> None:
    """Nobody needs to name them: in prose, in JSON, in other scripts, at the ends of a text."""
    secret = SHAPES[name]
    text = around.format(secret)
    assert around.format(MASK) == Redactor().text(text)
    assert around.format(MASK) == Redactor().bytes(text.encode()).decode()


def test_other_shapes() -> None:
    """Bearer tokens, private keys also within JSON and cut short, users and passwords in an address."""
    hide = Redactor().text
    assert f"Authorization: Bearer {MASK}" == hide("Authorization: Bearer abc123.def456_ghi789")
    assert f"bearer {MASK}!" == hide("bearer 0123456789abcdef!")
    assert f"a {MASK} b" == hide(f"a {PEM} b")
    for level in (
        json.dumps({"k": PEM}),
        json.dumps({"k": json.dumps(PEM)}),
        PEM[:200],
        json.dumps(PEM[:200]),
    ):
        left = hide(level)
        assert PEM[40:60] not in left and MASK in left
    assert f"https://{MASK}@host/path" == hide("https://user:pa55word@host/path")
    assert f"redis://{MASK}@h" == hide("redis://:pa55@h")


@pytest.mark.parametrize(
    "text",
    [
        "a task-oriented-dialogue-with-many-hyphens is risk-averse-and-asks-little",
        "the Bearer Certificates of 1920 and the standard bearer",
        "https://example.com:8080/a?b=c and mail to me@example.com, user:name @ 12:30",
        "see http://host/a:b and //x:y@z",
        "snake_case_names_that_go_on_and_on_without_an_end_of_it",
        "sk-learn, sk-SK, hf_hub, gh_pages, xai-based, AKIAK, eyJafjallajökull",
        "Größe 日本語 العربية 😀 — “quotes” — 1.000,50 € -----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "| --- | --- | --- |\n|-----|-----|",
        "",
        "-",
        "_",
        "k-",
    ],
)
def test_what_only_looks_alike_stays(text: str) -> None:
    """Words, addresses, tables and other scripts are not touched."""
    assert text == Redactor(["another-secret-of-mine"]).text(text)
    assert text.encode() == Redactor(["another-secret-of-mine"]).bytes(text.encode())


AWKWARD = [
    'pa"ss\\word-99',
    "schlüssel-größe",
    "tab\there-12345",
    "a/b c&d=e+f12",
    "日本語の秘密の鍵です",
    "😀-secret-😀",
]


@pytest.mark.parametrize("secret", ["plain-secret-value", *AWKWARD])
def test_a_known_secret_is_masked_in_every_form(secret: str) -> None:
    """As it is, in JSON by either library, in JSON within JSON, in an address; JSON stays JSON."""
    redactor = Redactor([secret])
    row = {"told": f"before {secret} after", "n": 1}
    once, ascii = orjson.dumps(row), json.dumps(row).encode()
    twice = orjson.dumps({"body": ascii.decode()})
    for data in (once, ascii, json.dumps({"body": once.decode()}).encode(), twice):
        left = redactor.bytes(data)
        assert json.loads(left), "still JSON"
        unescaped = left.decode()
        for _ in range(2):
            unescaped = json.loads(unescaped)
            if isinstance(unescaped, dict):
                unescaped = next(iter(unescaped.values()))
            assert secret not in unescaped
            if not unescaped.startswith("{"):
                break
        assert MASK in unescaped
        assert left.decode() == redactor.text(data.decode())
    assert f"?k={MASK}" == redactor.text("?k=" + quote(secret, safe=""))


def test_one_secret_within_another() -> None:
    """The longer one goes first, so that nothing of it stays."""
    redactor = Redactor(["abcdefgh", "abcdefgh-and-the-rest"])
    assert f"{MASK} {MASK}" == redactor.text("abcdefgh-and-the-rest abcdefgh")


def test_short_values_do_not_eat_the_data() -> None:
    """A password such as `test` is no reason to take that word out of all records; empty ones neither."""
    assert "a test of nothing" == Redactor(["test", "", "a"]).text("a test of nothing")


def test_real_data_is_not_touched(data_dir: Path) -> None:
    """Of tens of thousands of lines of real data, human and generated, not one is changed."""
    redactor, seen, changed = Redactor(["some-secret-of-mine"]), 0, []
    for path in sorted(data_dir.rglob("*.jsonl.gz")):
        with gzip.open(path) as file:
            for number, line in enumerate(islice(file, 2000)):
                seen += 1
                if redactor.bytes(line) != line or redactor.text(line.decode()) != line.decode():
                    changed.append(f"{path.name}:{number}")
    assert seen > 10_000
    assert [] == changed

"""What the study of translation from scratch promises: sides that share no sentence, and honest verdicts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from karat.curation.base import normalised
from karat.generation.base import Request, Response
from karat.records import from_rows


@pytest.fixture(scope="module")
def study(root: Path) -> ModuleType:
    """The study as a module."""
    path = root / "studies" / "translation.py"
    spec = importlib.util.spec_from_file_location("translation_study", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_sides_share_no_sentence(study: ModuleType, data_dir: Path) -> None:
    """No German and no English sentence stands on two sides; the strong one saw what the weak one did."""
    size = study.PRESETS["small"]
    found = study.split(data_dir / "tatoeba_deu_eng" / "tatoeba_deu_eng.jsonl.gz", size)
    wanted = {"test": 2000, "calibration": 700, "held": 1200, "pool": 4000, "weak": 4000, "strong": 11_000}
    assert wanted == {name: len(side) for name, side in found.items()}
    assert set(found["weak"].ids) < set(found["strong"].ids)
    where: dict[tuple[str, str], str] = {}
    for name in ("test", "calibration", "held", "pool", "strong"):
        for field in ("source", "target"):
            for text in found[name].column(field):
                assert name == where.setdefault((field, normalised(text)), name), text
        sources = [normalised(text) for text in found[name].column("source")]
        assert len(sources) == len(set(sources))


def test_synthetic_records_say_where_they_come_from(study: ModuleType) -> None:
    """A target is the model's, people's is the reference, and an empty answer stays a wrong one."""

    class Shouts:
        async def complete(self, requests: list[Request]) -> list[Response]:
            texts = [request.messages[-1].content.upper() for request in requests]
            return [
                Response(request.id, "" if text == "B" else text, 1, 1, logprob=-0.5)
                for request, text in zip(requests, texts)
            ]

    pairs = from_rows(
        [{"source": "a", "target": "x"}, {"source": "b", "target": "y"}], datatype="translation"
    )
    found = study.translated("weak", Shouts(), pairs, pairs)
    assert ["A", "-"] == found.column("target")
    assert ["x", "y"] == found.column("reference")
    assert [-0.5, -0.5] == found.lineage("logprob")
    assert [[pairs.fingerprint]] * 2 == found.lineage("generator_saw")


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        ({"weak": True, "strong": True}, "confirmed"),
        ({"weak": True, "strong": False}, "confirmed for weak only"),
        ({"weak": False, "strong": False}, "not confirmed"),
        ({"weak": True, "strong": None}, "confirmed (weak)"),
        ({"weak": None, "strong": None}, "not testable here"),
    ],
)
def test_a_claim_is_confirmed_only_where_it_holds(
    study: ModuleType, held: dict[str, bool | None], verdict: str
) -> None:
    """What cannot be told confirms nothing, and one generator does not speak for the other."""
    assert verdict == study._verdict({name: (yes, "") for name, yes in held.items()})

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karat import records, registry
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.generation.base import Message, Request
from karat.records import Records
from karat.training.pairs import pairs
from karat.training.trainers.dpo import Dpo, DpoModel, _ln_nu
from karat.training.wording import ALPACA

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("peft")
from tiny_causal import make_base  # noqa: E402 - needs torch

FAST = "dropout=0,device=cpu,lr=0.005,r=8"
PLACES = "sky grass blood sea leaf rose moon fire".split()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("dpo") / "base")


def planted(n: int, seed: int) -> Records:
    """Pairs in which the response with a kind word is chosen; all else about them is drawn."""
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        kind, unkind = draw.choice(("good", "nice")), draw.choice(("bad", "dull", "rude"))
        about = [" ".join(draw.sample(PLACES, draw.choice((1, 2)))) for _ in range(2)]
        rows.append(
            {
                "id": f"{seed}-{i}",
                "prompt": f"what is {draw.choice(PLACES)}",
                "chosen": f"{about[0]} is {kind}",
                "rejected": f"{about[1]} is {unkind}",
            }
        )
    return records.from_rows(rows, datatype="preference")


@pytest.fixture(scope="module")
def train() -> Records:
    return planted(96, 1)


@pytest.fixture(scope="module")
def held_out() -> Records:
    return planted(120, 2)


@pytest.fixture(scope="module")
def model(base: Path, train: Records) -> DpoModel:
    return dpo(base, "epochs=3").fit(train, seed=1)


def dpo(base: Path, more: str) -> Dpo:
    made = registry.make("trainers", f"dpo:model={base},{FAST},{more}")
    assert isinstance(made, Dpo)
    return made


def right(model: DpoModel, pool: Records) -> float:
    """The share of pairs of which the model prefers the chosen one."""
    answers = model.predict(pool)
    assert answers.gold is not None
    return float(np.mean([said == gold for said, gold in zip(answers.labels, answers.gold)]))


def log_prob(net: Any, tokenizer: Any, prompt: str, response: str) -> float:
    """ln P(response | prompt) by one unpadded forward pass, token by token."""
    asked = tokenizer(ALPACA.format(prompt=prompt))["input_ids"]
    said = [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        scores = net(torch.tensor([asked + said])).logits[0].double().log_softmax(-1)
    return sum(float(scores[len(asked) + i - 1, token]) for i, token in enumerate(said))


def test_a_planted_preference_is_learned(
    model: DpoModel, base: Path, train: Records, held_out: Records
) -> None:
    """Held-out pairs go from chance to above 0.8, the chosen getting the higher reward."""
    untrained = dpo(base, "steps=1,lr=1e-12").fit(train)
    odds = untrained.predict(held_out).probabilities
    assert np.abs(odds - 0.5).max() < 1e-3  # a model that is its own reference has no opinion
    assert right(model, held_out) > 0.8
    found = pairs(held_out)
    signs = np.where(np.array(found.choices) == "a", 1, -1)
    assert (signs * model.differences(found)).mean() > 1
    assert {"a", "b"} == set(found.choices)
    assert model.losses[0][1] == pytest.approx(np.log(2), abs=1e-3)  # a margin of 0 costs ln 2
    assert model.losses[-1][1] < 0.4


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_the_reward_is_the_gain_over_the_reference(
    model: DpoModel, base: Path, train: Records, held_out: Records, loss: str
) -> None:
    """beta times the difference of the log-probabilities under policy and base; of ipo a mean."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if loss == "ipo":
        model = dpo(base, "loss=ipo,beta=0.5,steps=6").fit(train)
    tokenizer = AutoTokenizer.from_pretrained(base)
    reference = AutoModelForCausalLM.from_pretrained(base).eval()
    found = pairs(held_out.slice(0, 5))
    expected = []
    for prompt, a, b in zip(found.prompts, found.a, found.b):
        gains = []
        for text in (a, b):
            gain = log_prob(model.net, tokenizer, prompt, text) - log_prob(reference, tokenizer, prompt, text)
            size = len(tokenizer(text)["input_ids"]) + 1
            gains.append(0.1 * gain if loss == "sigmoid" else 4 * 0.5 * gain / size)
        expected.append(gains[0] - gains[1])
    assert expected == pytest.approx(list(model.differences(found)), abs=1e-4)
    probabilities = model.predict(held_out.slice(0, 5)).probabilities
    assert [1 / (1 + np.exp(-d)) for d in expected] == pytest.approx(list(probabilities[:, 0]), abs=1e-4)
    assert [1.0] * 5 == pytest.approx(list(probabilities.sum(axis=1)))
    if loss == "ipo":  # the first loss is the square of the margin aimed at, 1 / (2 beta)
        assert 1.0 == pytest.approx(model.losses[0][1], abs=1e-3)


def test_exchanging_the_sides_exchanges_the_odds(model: DpoModel, held_out: Records) -> None:
    """What is said of a and b does not depend on which stands first."""
    found = pairs(held_out.slice(0, 20))
    assert list(model.differences(found)) == pytest.approx(
        list(-model.differences(found.swapped())), abs=1e-4
    )


def test_all_weights_are_trained_beside_a_reference(
    base: Path, train: Records, held_out: Records, tmp_path: Path
) -> None:
    """full trains what the adapter leaves alone, against the base; both come back after loading."""
    made = dpo(base, "full=true,lr=0.001,epochs=2").fit(train)
    assert right(made, held_out) > 0.8
    again = Dpo.load(made.save(tmp_path / "full"))
    assert list(made.predict(held_out).probabilities[:, 0]) == pytest.approx(
        list(again.predict(held_out).probabilities[:, 0]), abs=1e-5
    )


def test_an_adapter_is_kept_and_answers(
    model: DpoModel, base: Path, held_out: Records, tmp_path: Path
) -> None:
    """What save wrote predicts and answers the same; the base alone answers otherwise."""
    again = Dpo.load(model.save(tmp_path / "kept"))
    assert model.model == again.model
    assert list(model.predict(held_out).probabilities[:, 0]) == pytest.approx(
        list(again.predict(held_out).probabilities[:, 0]), abs=1e-5
    )
    asked = [
        Request(str(i), (Message("user", f"what is {x}"),), temperature=0.7, max_tokens=6, seed=i)
        for i, x in enumerate(PLACES)
    ]
    texts = [[r.text for r in asyncio.run(one.complete(asked))] for one in (model, again)]
    assert texts[0] == texts[1]
    with model.net.disable_adapter():
        assert texts[0] != [r.text for r in asyncio.run(model.complete(asked))]
    with pytest.raises(InputError, match="no model of 'sft'"):
        registry.find("trainers", "sft").load(tmp_path / "kept")


def test_a_seed_gives_the_same_model(base: Path, train: Records) -> None:
    """Equal seeds give equal weights, another seed others."""
    names = [dpo(base, "steps=2").fit(train, seed=seed).model for seed in (3, 3, 4)]
    assert names[0] == names[1] != names[2]


def test_ties_are_as_frequent_as_in_training(base: Path, train: Records) -> None:
    """With ties there are three classes, and the training records get as many ties as they have."""
    found = pairs(train)
    rows = []
    for i, (prompt, a, b, choice) in enumerate(zip(found.prompts, found.a, found.b, found.choices)):
        said = "tie" if i % 4 == 0 else "invalid" if i % 16 == 1 else choice
        rows.append({"prompt": prompt, "response_a": a, "response_b": b, "rater": "r", "choice": said})
    pool = records.from_rows(rows, datatype="preference")
    made = dpo(base, "steps=3").fit(pool)
    kept = pool.where(pairs(pool).valid)
    answers = made.predict(kept)
    assert ("a", "b", "tie") == answers.classes
    assert 24 == pytest.approx(answers.probabilities[:, 2].sum(), abs=0.01)
    assert [1.0] * len(kept) == pytest.approx(list(answers.probabilities.sum(axis=1)))
    assert made.predict(pool).gold is None  # of an invalid choice there is no gold
    odds = answers.probabilities
    d = made.differences(pairs(kept))
    assert list(np.log(odds[:, 0] / odds[:, 1])) == pytest.approx(list(d), abs=1e-5)


def test_davidson_is_solved() -> None:
    """Where all pairs are equal, v is 2 t / (n - t) (Davidson 1970); all ties leave half a choice."""
    assert np.log(2 * 3 / 7) == pytest.approx(_ln_nu(np.zeros(10), 3))
    assert np.log(2 * 9.5 / 0.5) == pytest.approx(_ln_nu(np.zeros(10), 10))
    d = np.array([40.0, -3.0, 0.5])
    v = np.exp(_ln_nu(d, 1))
    assert 1 == pytest.approx(float((v / (v + 2 * np.cosh(d / 2))).sum()))


def test_errors_are_one_line_with_a_cure(base: Path, train: Records) -> None:
    """Only ties, other records, impossible settings."""
    row = {"prompt": "p", "response_a": "a", "response_b": "b", "choice": "tie", "rater": "r"}
    with pytest.raises(NotEnoughData, match="no record prefers a or b"):
        dpo(base, "steps=1").fit(records.from_rows([row] * 4, datatype="preference"))
    with pytest.raises(BadSetting, match="holds text"):
        dpo(base, "steps=1").fit(records.from_rows([{"text": "a"}], datatype="text"))
    with pytest.raises(BadSetting, match="beta=0"):
        registry.make("trainers", f"dpo:model={base},beta=0")
    if not torch.cuda.is_available():
        with pytest.raises(BadSetting, match="needs a CUDA device"):
            dpo(base, "quantise=nf4").fit(train)


def test_nothing_is_printed(base: Path, train: Records, capfd: pytest.CaptureFixture[str]) -> None:
    """A fit says nothing but its steps."""
    steps: list[tuple[str, int, int]] = []
    dpo(base, "steps=2").fit(train, progress=lambda *step: steps.append(step))
    assert ("", "") == capfd.readouterr()
    assert [("train", 1, 2), ("train", 2, 2)] == steps

"""The promises of the emulator: counted shares, sharpening, slips, weights, errors of one line."""

from __future__ import annotations

import itertools
import math
import pickle
from collections import Counter

import numpy as np
import pytest

from karat import registry
from karat.errors import BadSetting, NotEnoughData, UnknownPart
from karat.records import Records, from_rows
from karat.training.rules import nucleus, sharpened, smoothed
from karat.training.trainers.emulator import FLOOR, Emulator

LOGIC = "logic:depth_max=3,leaf=0.5,true_share=0.5"
# Not a third of it is True, so that shares differ and sharpening shows.
ROWS = ["True"] * 6 + ["False"] * 3 + ["(not True)"] * 1 + ["(not False)"] * 2


def texts_of(rows: list[str]) -> Records:
    return from_rows([{"text": text} for text in rows], datatype="text")


def run(trainer: Emulator, temperature: float, iterations: int, *, n: int = 2000, seed: int = 0):
    """A loop by hand: each model is trained on all that the one before it wrote."""
    task = registry.make("tasks", trainer.task)
    texts = task.source(seed=seed).draw(n, turn=0)
    for t in range(iterations):
        texts = trainer.fit(texts_of(texts), seed=t).generate(n, temperature=temperature, seed=t).texts()
        yield task.verify(texts), texts


def diversity(texts: list[str]) -> float:
    """Mean normalised Levenshtein distance of tokens over 1,500 random pairs, by the textbook's table."""
    rows = [text.replace("(", "( ").replace(")", " )").split() for text in texts]
    chance = np.random.default_rng(0)
    known: dict[tuple[str, ...], float] = {}
    total = 0.0
    for i, j in chance.integers(len(rows), size=(1500, 2)):
        a, b = rows[i], rows[j]
        key = (*a, "|", *b)
        if key not in known:
            line = list(range(len(b) + 1))
            for x, token in enumerate(a, 1):
                last, line[0] = line[0], x
                for y, other in enumerate(b, 1):
                    last, line[y] = line[y], min(last + (token != other), line[y] + 1, line[y - 1] + 1)
            known[key] = line[-1] / max(len(a), len(b))
        total += known[key]
    return total / 1500


def test_sharpening_is_the_power_law_of_brute_force() -> None:
    """Shares after sharpening are those of counting T-fold products: p^k by drawing k times the same."""
    rules = {"place": {"a": 5.0, "b": 3.0, "c": 2.0}, "other": {"only": 7.0}}
    for power in (2, 3):
        # Draw `power` times from the counts; keep what came out the same each time.
        alike = Counter(
            draws[0][0]
            for draws in itertools.product(
                [(c, i) for c, times in rules["place"].items() for i in range(int(times))], repeat=power
            )
            if len({draw[0] for draw in draws}) == 1
        )
        found = sharpened(rules, 1 / power)
        for choice, times in alike.items():
            assert times / alike.total() == pytest.approx(found["place"][choice])
        assert {"only": 1.0} == found["other"]
    assert 0.5 == pytest.approx(sharpened(rules, 1.0)["place"]["a"])
    assert 1.0 == pytest.approx(sum(sharpened({"x": {"a": 1e300, "b": 1e-300}}, 0.01)["x"].values()))


def test_smoothing_mixes_with_an_even_share_and_the_nucleus_keeps_the_likeliest() -> None:
    """A half of smoothing moves each share halfway to 1/k; top_p keeps choices until their sum reaches it."""
    rules = {"x": {"a": 6.0, "b": 3.0, "c": 1.0}}
    assert {"a": 0.6 / 2 + 1 / 6, "b": 0.3 / 2 + 1 / 6, "c": 0.1 / 2 + 1 / 6} == pytest.approx(
        smoothed(rules, 0.5)["x"]
    )
    assert {"a": 0.6, "b": 0.3, "c": 0.1} == pytest.approx(smoothed(rules, 0.0)["x"])
    assert {"a", "b"} == set(nucleus(rules, 0.85)["x"])
    assert {"a"} == set(nucleus(rules, 0.1)["x"])
    with pytest.raises(ValueError, match="smoothing"):
        smoothed(rules, 1.5)


def test_a_model_writes_what_it_read_as_often_and_sharpened_below_one() -> None:
    """At T=1 the shares of texts are those of the rows; at T=0.5 those of squared rule shares."""
    model = Emulator(task="logic").fit(texts_of(ROWS))
    n = 20_000
    plain = Counter(model.generate(n, seed=1).texts())
    root = {"True": 6 / 12, "False": 3 / 12, "not": 3 / 12}
    below = {"True": 1 / 3, "False": 2 / 3}
    for power, found in ((1, plain), (2, Counter(model.generate(n, temperature=0.5, seed=1).texts()))):
        tops = sum(share**power for share in root.values())
        inner = sum(share**power for share in below.values())
        for text in set(ROWS):
            if text.startswith("("):
                value = text[5:-1]
                share = root["not"] ** power / tops * below[value] ** power / inner
            else:
                share = root[text] ** power / tops
            assert abs(share - found[text] / n) < 5 * math.sqrt(share * (1 - share) / n), (power, text)
    assert {"True"} == set(model.generate(50, top_p=0.3, seed=0).texts())


def test_what_is_written_has_a_lineage_and_depends_on_the_seed_alone() -> None:
    """Each row says who wrote it, from which rows it learned, and how likely it was a token."""
    rows = texts_of(ROWS)
    model = Emulator(task="logic").fit(rows)
    made = model.generate(50, seed=4)
    assert {"synthetic"} == set(made.lineage("source"))
    assert {model.model} == set(made.lineage("generator"))
    assert {4} == set(made.lineage("seed"))
    assert [rows.fingerprint] == made.lineage("generator_saw")[0]
    for text, logprob in zip(made.texts(), made.lineage("logprob")):
        own = {"True": 0.5, "False": 0.25, "(not True)": 0.25 / 3, "(not False)": 0.5 / 3}[text]
        tokens = 1 if text[0] != "(" else 4
        assert math.log(own) / (tokens + 1) == pytest.approx(logprob)
    assert made.texts() == pickle.loads(pickle.dumps(model)).generate(50, seed=4).texts()
    assert made.texts() != model.generate(50, seed=5).texts()
    assert model.model != Emulator(task="logic", smoothing=0.1).fit(rows).model
    assert model.history is None


def test_loss_and_weights_are_those_of_the_shares() -> None:
    """Nats a character by hand; what no rule reaches costs the floor, and every token of an invalid text."""
    model = Emulator(task="logic").fit(texts_of(ROWS))
    assert -math.log(0.25 / 3) / len("(not True)") == pytest.approx(model.loss(["(not True)"]))
    unseen = -math.log(FLOOR) * 3  # `and`, and both leaves in places that no rule knows
    assert unseen / len("(True and True)") == pytest.approx(model.loss(["(True and True)"]))
    assert -math.log(FLOOR) * 3 / len("(True") == pytest.approx(model.loss(["(True"]))
    weighed = model.predict(texts_of(["True", "(not True)"]))
    assert [-math.log(0.5), -math.log(0.25 / 3)] == pytest.approx(weighed.surprise.tolist())
    assert [2, 5] == weighed.tokens.tolist()
    assert [4, 10] == weighed.bytes.tolist()


def test_smoothing_makes_rare_choices_more_frequent() -> None:
    """With all of the share even, each known choice of a place is as frequent as the others."""
    model = Emulator(task="logic", smoothing=0.999).fit(texts_of(ROWS))
    found = Counter(text.split()[0] for text in model.generate(6000, seed=0).texts())
    assert [1 / 3] * 3 == pytest.approx([found[k] / 6000 for k in ("True", "False", "(not")], abs=0.03)


def test_a_slip_spoils_tokens_as_often_as_it_says() -> None:
    """The share of changed texts is that of one slip or more in its tokens, at T=1 and sharpened at T=0.5."""
    task = registry.make("tasks", LOGIC)
    rows = texts_of(task.sample(2000, seed=0))
    clean, slipping = Emulator(task=LOGIC).fit(rows), Emulator(task=LOGIC, slip=0.05).fit(rows)
    for temperature, chance in ((1.0, 0.05), (0.5, 0.05**2 / (0.05**2 + 0.95**2))):
        right = clean.generate(4000, temperature=temperature, seed=3).texts()
        wrong = slipping.generate(4000, temperature=temperature, seed=3).texts()
        expected = np.mean([1 - (1 - chance) ** len(task.tokens(text)) for text in right])
        changed = np.mean([a != b for a, b in zip(right, wrong)])
        assert expected == pytest.approx(changed, rel=0.15)
        verdicts = task.verify(wrong)
        assert any(not verdict.valid for verdict in verdicts)
        assert {token for text in wrong for token in task.tokens(text)} <= set(task.vocabulary)


def test_errors_add_up_at_temperature_one_and_are_sharpened_away_below() -> None:
    """A later model takes over the slips of its rows: validity falls and falls at T=1, and stays at T=0.8."""
    shares = {}
    for temperature in (1.0, 0.8):
        loop = run(Emulator(task=LOGIC, slip=0.005), temperature, 12)
        shares[temperature] = [np.mean([v.valid for v in verdicts]) for verdicts, _ in loop]
    assert shares[1.0][0] > 0.93
    assert shares[1.0][11] < shares[1.0][5] - 0.04 < shares[1.0][0] - 0.08
    assert shares[0.8][11] > 0.97
    again = [np.mean([v.valid for v in verdicts]) for verdicts, _ in run(Emulator(task=LOGIC), 1.0, 5)]
    assert [1.0] * 5 == again


def test_without_slips_at_temperature_one_the_correct_share_does_not_drift() -> None:
    """Resampling counts at T=1 is fair: over three seeds the correct share keeps its mean."""
    first, last = [], []
    for seed in range(3):
        shares = [
            np.mean([v.correct for v in verdicts])
            for verdicts, _ in run(Emulator(task=LOGIC), 1.0, 9, n=1000, seed=seed)
        ]
        first.append(shares[0])
        last.append(np.mean(shares[6:]))
    # Drift of one chain after 9 iterations is near sqrt(9 p (1 - p) / 1000) = 0.035; 0.02 over three.
    assert np.mean(first) == pytest.approx(np.mean(last), abs=0.06)


def test_half_lives_are_the_published_ones() -> None:
    """Diversity of 2,000 rows halves in 6 to 10 iterations at T=0.8, in 12 to 20 at T=0.9 (8 and 16)."""
    for temperature, least, most in ((0.8, 6, 10), (0.9, 12, 20)):
        curve = [diversity(texts) for _, texts in run(Emulator(task=LOGIC), temperature, most + 1)]
        half = next(t for t, value in enumerate(curve) if value < curve[0] / 2)
        assert least <= half <= most, (temperature, curve)


def test_it_learns_any_corpus_by_its_n_grams() -> None:
    """Task text: what is written has only the corpus's trigrams, and slips write the corpus's words."""
    rows = ["the cat sat on the mat.", "the dog sat on the rug!", "a cat, a dog (two) on the mat."] * 5
    task = registry.make("tasks", "text:order=3")
    known = {tuple(row[i : i + 3]) for row in map(task.tokens, rows) for i in range(len(row) - 2)}
    model = Emulator(task="text").fit(texts_of(rows))
    written = model.generate(300, seed=0).texts()
    assert "the cat sat on the rug!" in written
    assert known >= {tuple(r[i : i + 3]) for r in map(task.tokens, written) for i in range(len(r) - 2)}
    assert 0.0 < model.loss(rows) < model.loss(["the rug sat on a cat!"])
    slipping = Emulator(task="text", slip=0.2).fit(texts_of(rows)).generate(100, seed=0).texts()
    assert {w for text in slipping for w in task.tokens(text)} <= {w for t in rows for w in task.tokens(t)}


@pytest.mark.parametrize("token", ["word", "character"])
def test_texts_come_back_from_their_tokens(token) -> None:
    """Joined tokens have the same tokens; unigrams draw tokens as often as the corpus has them."""
    task = registry.make("tasks", f"text:token={token},order=1")
    for text in ('He said: "don\'t (ever) stop!"', "a  b\n[c] 3.5 é_1", "", "(", "…—x"):
        assert task.tokens(text) == task.tokens(task.joined(task.tokens(text)))
    rules = task.rules(["ab ab ab c", "c"])
    found = Counter(t for text in task.write(rules, 3000, seed=0) for t in task.tokens(text))
    ends = {"word": ("ab", "c"), "character": ("a", "c")}[token]
    assert 1.5 == pytest.approx(found[ends[0]] / found[ends[1]], rel=0.1)
    with pytest.raises(BadSetting, match="order"):
        registry.make("tasks", "text:order=0")


@pytest.mark.parametrize("task", ["arithmetic", "json_schema", "logic", "text"])
def test_every_task_with_rules_can_be_emulated(task) -> None:
    """A loop of three iterations with slips runs on each task; valid texts stay frequent."""
    made = registry.make("tasks", task)
    rows = made.sample(60, seed=0) if made.verifies else ["one two three", "two one", "three two one"] * 20
    model = Emulator(slip=0.002).bound(task)
    assert task == model.task
    for t in range(3):
        found = model.fit(texts_of(rows), seed=t).generate(60, temperature=0.9, seed=t)
        rows = found.texts()
    assert 60 == len(rows)
    if made.verifies:
        assert sum(verdict.valid for verdict in made.verify(rows)) >= 45


def test_wrong_use_is_named_in_one_line() -> None:
    """No task, an unknown one, rows that are all invalid, another data type, a slip that is no share."""
    rows = texts_of(ROWS)
    with pytest.raises(BadSetting, match="needs a task"):
        Emulator().fit(rows)
    with pytest.raises(UnknownPart, match="no task named"):
        Emulator(task="logik").fit(rows)
    with pytest.raises(NotEnoughData, match="none of 3 texts is valid"):
        Emulator(task="logic").fit(texts_of(["(", "and", "maybe"]))
    with pytest.raises(BadSetting, match="takes text records"):
        Emulator(task="logic").fit(from_rows([{"text": "True", "label": "a"}], datatype="classification"))
    for spec in ("emulator:slip=1.5", "emulator:smoothing=-1"):
        with pytest.raises(BadSetting, match="trainer 'emulator'"):
            registry.make("trainers", spec)
    assert "logic" == Emulator(task="logic").bound("arithmetic").task


def test_few_words_are_tokens_unless_quotes_would_lose_their_spaces() -> None:
    """A handful of JSON documents is learned in pieces, which give quotes back as they were."""
    from karat.training.causal_codec import make_codec

    plain = from_rows([{"text": "(True and False)"}] * 30, datatype="text")
    quoted = from_rows([{"text": '{"id": 1, "item": "rope"}'}] * 30, datatype="text")
    assert not make_codec(plain, "auto", 64).pieces
    found = make_codec(quoted, "auto", 300)
    assert found.pieces
    row = found.encode(quoted.texts()[0], "")
    assert quoted.texts()[0] == found.text(row[found.prefix : -1])

"""What text orderings promise: sacreBLEU's chrF, a model that sums to one, detectors that confess."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import karat
from karat import records, registry
from karat.auditing import statistics
from karat.cli import main
from karat.curation import curvature, detection, ngram_lm
from karat.curation.base import Ordered
from karat.curation.overlaps import chrf, chrf_pairs, chrfs
from karat.errors import BadSetting, InputError, MissingExtra
from karat.records import Records


def order(spec: str, *data: Records, **more: Any) -> Ordered:
    found: Ordered = registry.make("orderings", spec).order(*data, **more)
    return found


def replay(folder: Path, answers: dict[str, str]) -> str:
    """A provider that answers by the id of the request."""
    path = folder / "answers.jsonl"
    rows = [json.dumps({"id": name, "text": text}) + "\n" for name, text in answers.items()]
    path.write_text("".join(rows), "utf-8")
    return f"replay:path={path}"


PAIRS = [
    {
        "id": "a",
        "source": "The cat sleeps.",
        "target": "Die Katze schläft.",
        "reference": "Die Katze schläft.",
    },
    {"id": "b", "source": "The dog barks.", "target": "Der Hund bellt laut.", "reference": "Der Hund bellt."},
    {"id": "c", "source": "It rains today.", "target": "Ganz anderes.", "reference": "Heute regnet es."},
]


STRANGE = [
    "",
    " ",
    "a",
    "aaaa aaaa",
    "ab",
    "abcabcabc",
    "日本語のテキスト 日本",
    "a b\u3000c",
    "x\ud800y",
    "🙂🙂 🙂",
]


def test_chrf_is_that_of_sacrebleu() -> None:
    """All pairs of short, empty, repetitive and non-Latin texts at once."""
    import sacrebleu

    rng = np.random.default_rng(0)
    texts = [*STRANGE, *("".join(rng.choice(list("ab c"), size)) for size in rng.integers(1, 60, 30))]
    texts += [row[side] for row in PAIRS for side in ("target", "reference")]
    one, other = (side.ravel() for side in np.indices((len(texts), len(texts))))
    wanted = [sacrebleu.sentence_chrf(texts[i], [texts[j]]).score for i, j in zip(one, other)]
    assert pytest.approx(wanted, abs=1e-9) == chrf_pairs(texts, one, other).tolist()
    assert 0 == len(chrfs([], []))
    found = order("oracle", records.from_rows(PAIRS))
    assert [1, 2, 3] == (1 + np.argsort(-found.scores)).tolist()
    assert pytest.approx(100.0) == found.scores[0]


@pytest.mark.parametrize("pairs", ["record", "all"])
def test_consistency_of_groups_is_the_mean_over_pairs(pairs: str) -> None:
    """Translations of one source, in any order of rows, copies among them; one alone has no score."""
    rng = np.random.default_rng(1)
    groups = [*rng.permutation([name for name in "abcd" for _ in range(5)]).tolist(), "alone"]
    texts = ["".join(rng.choice(list("abc "), 12)) for _ in groups]
    texts[1] = texts[0]
    rows = [{"source": "s", "target": text, "g": group} for text, group in zip(texts, groups)]
    found = order(f"consistency:group=g,pairs={pairs}", records.from_rows(rows)).scores
    for row, group in enumerate(groups[:-1]):
        members = [i for i, name in enumerate(groups) if name == group]
        left = members if pairs == "all" else [row]
        wanted = [chrf(texts[i], texts[j]) for i in left for j in members if i != j]
        assert pytest.approx(np.mean(wanted) / 100, abs=1e-12) == found[row]
    assert np.isnan(found[-1])


def test_confidence_is_a_mean_over_tokens() -> None:
    """The lineage's mean as it is; a sum is divided by its tokens; none at all names the cure."""
    rows = [{"id": str(i), "text": "a b", "total": -4.0 * (i + 1), "n": 2 * (i + 1)} for i in range(3)]
    made = records.from_rows(rows, datatype="text")
    told = made.with_lineage(logprob=[-1.0, None, -0.5])
    assert [-1.0, -0.5] == order("confidence", told).scores[[0, 2]].tolist()
    assert np.isnan(order("confidence", told).scores[1])
    assert [-2.0] * 3 == order("confidence:field=total,total=true,tokens=n", made).scores.tolist()
    with pytest.raises(BadSetting, match="confidence:field=NAME"):
        order("confidence", made)
    with pytest.raises(InputError, match="does not hold numbers"):
        order("confidence:field=text", made)


def test_consistency_holds_a_record_against_its_other_answers() -> None:
    """A list in a field, or records of one group; labels agree or not; one answer alone has no score."""
    rows = [{**PAIRS[0], "more": ["Die Katze schläft.", "Die Katze schlaf"]}, {**PAIRS[1], "more": []}]
    found = order("consistency:field=more", records.from_rows(rows))
    assert pytest.approx((1 + chrf("Die Katze schläft.", "Die Katze schlaf") / 100) / 2) == found.scores[0]
    assert np.isnan(found.scores[1])
    labels = [("p", "x"), ("p", "x"), ("p", "y"), ("q", "y")]
    made = records.from_rows([{"text": f"t{i}", "label": y, "item": g} for i, (g, y) in enumerate(labels)])
    assert [0.5, 0.5, 0.0] == order("consistency:group=item", made).scores[:3].tolist()
    assert np.isnan(order("consistency:group=item", made).scores[3])
    whole = order("consistency:group=item,pairs=all", made).scores
    assert pytest.approx([1 / 3] * 3) == whole[:3].tolist()


def test_consistency_can_be_asked_from_a_provider(tmp_path: Path) -> None:
    """Two more answers to each label; what cannot be read is counted and holds nothing against the record."""
    made = records.from_rows([{"id": f"r{i}", "text": f"text {i}", "label": "ab"[i % 2]} for i in range(3)])
    answers = {"r0": ("a", "a"), "r1": ("a", "b"), "r2": ("who knows", "Label: a")}
    said = {f"consistency:{name}:{k}": text for name, two in answers.items() for k, text in enumerate(two)}
    found = karat.curate(
        made, order="consistency:samples=2", provider=replay(tmp_path, said), calibrate="none"
    )
    assert ["r0", "r2", "r1"] == found.kept.ids
    assert [1.0, 1.0, 0.5] == found.kept.column("order_score")
    assert found.order is not None and 1.0 == found.order.figures["invalid"]
    assert found.asked is not None and 6 == found.asked.answers == found.to_json()["asked"]["answers"]


def test_reflection_asks_twice_and_counts_what_cannot_be_read(tmp_path: Path) -> None:
    """Correct is 1, not sure 0.5, incorrect 0, two answers are averaged; the journal asks nothing twice."""
    said = {
        "reflection:a:0": "It keeps the meaning.\nAnswer: correct",
        "reflection:a:1": "correct",
        "reflection:b:0": "One word is added.\nAnswer: not sure",
        "reflection:b:1": "incorrect",
        "reflection:c:0": "...",
        "reflection:c:1": "???",
    }
    provider, made = replay(tmp_path, said), records.from_rows(PAIRS)
    found = karat.curate(made, order="reflection", provider=provider, journal=tmp_path)
    assert ["a", "b", "c"] == found.kept.ids
    assert [1.0, 0.25, None] == found.kept.column("order_score")
    assert found.order is not None and 2.0 == found.order.figures["invalid"]
    again = karat.curate(made, order="reflection", provider=provider, journal=tmp_path)
    assert again.asked is not None and 6 == again.asked.reused
    with pytest.raises(BadSetting, match="--provider"):
        karat.curate(made, order="reflection")
    few = karat.curate(
        made, order="reflection:limit=1", provider=provider, journal=tmp_path, calibrate="none"
    )
    assert few.asked is not None and 2 == few.asked.answers


def test_round_trip_translates_back_by_a_provider(tmp_path: Path) -> None:
    """chrF of the source and what comes back; a translation without words is not asked for."""
    back = {"a": "The cat sleeps.", "b": "The dog barks loudly.", "c": "Something else."}
    provider = replay(tmp_path, {f"round_trip:{name}": text for name, text in back.items()})
    made = records.from_rows([*PAIRS, {"id": "d", "source": "Empty.", "target": " "}])
    found = karat.curate(made, order="round_trip:language=English", provider=provider, calibrate="none")
    assert ["a", "b", "c", "d"] == found.kept.ids
    wanted = [chrf(back[row["id"]], row["source"]) / 100 for row in PAIRS]
    assert pytest.approx(wanted) == found.kept.column("order_score")[:3]
    assert found.kept.column("order_score")[3] is None
    assert found.asked is not None and 3 == found.asked.answers
    with pytest.raises(BadSetting, match="language=English"):
        karat.curate(made, order="round_trip", provider=provider)
    with pytest.raises(InputError, match="no such folder"):
        order(f"round_trip:model={tmp_path / 'none'}", made)


def test_round_trip_by_a_saved_model_prefers_what_keeps_the_meaning(tmp_path: Path) -> None:
    """A model of the way back is trained, saved and loaded; right translations come before exchanged ones."""
    pytest.importorskip("torch")
    german = dict(zip("one two three four five six".split(), "eins zwei drei vier fünf sechs".split()))
    rng = np.random.default_rng(0)
    asked = [rng.choice(list(german), 3).tolist() for _ in range(300)]
    pairs = [{"source": " ".join(p), "target": " ".join(german[word] for word in p)} for p in asked]
    way_back = records.from_rows([{"source": p["target"], "target": p["source"]} for p in pairs])
    tiny = "seq2seq:preset=mini,steps=200,layers=1,width=32,feed=64,pieces=300,beam=1"
    registry.make("trainers", tiny).fit(way_back).save(tmp_path / "back")
    made = pairs[:40]
    wrong = [{**one, "target": other["target"]} for one, other in zip(made[20:], pairs[40:])]
    found = order(f"round_trip:model={tmp_path / 'back'}", records.from_rows([*made[:20], *wrong]))
    assert statistics.auc(found.scores[:20], found.scores[20:]).auc > 0.9


# ------------------------------------------------------------------------------- language models


def lm(texts: Sequence[str], n: int) -> tuple[ngram_lm.NgramLm, dict[str, int]]:
    numbers = {c: ngram_lm.FIRST + i for i, c in enumerate(sorted(set("".join(texts))))}
    rows = [np.array([numbers[c] for c in text], np.int64) for text in texts]
    return ngram_lm.fit(rows, ngram_lm.FIRST + len(numbers), n), numbers


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_probabilities_of_an_ngram_model_sum_to_one(n: int) -> None:
    """After any history, seen or not, and no token is impossible, the unknown one included."""
    model, numbers = lm(["abracadabra", "alabama", "banana", "cab", "a"], n)
    for history in (
        [],
        [numbers["a"]],
        [numbers[c] for c in "abra"],
        [ngram_lm.UNKNOWN] * 3,
        [numbers["l"]] * 2,
    ):
        chances = model.next(history)
        assert pytest.approx(1.0, abs=1e-12) == chances.sum()
        assert (chances[1:] > 0).all() and 0.0 == chances[ngram_lm.START]


def test_perplexity_by_hand() -> None:
    """One text "ab", bigrams: discounts 0.5, by the formulas of Kneser and Ney on paper."""
    model, numbers = lm(["ab"], 2)
    # size 5: START, END, UNKNOWN, a, b; four can be predicted, so the base is 1/4. Continuation counts of
    # END, a, b are 1 each of 3: P1 = (1 - .5) / 3 + 1.5 / 3 * 1/4 = 7/24. Each history was seen once with
    # one follower: P2 = (1 - .5) / 1 + .5 * 7/24 = 31/48, three times in a row.
    logs = model.log_probabilities([np.array([numbers["a"], numbers["b"]])])[0]
    assert pytest.approx([np.log(31 / 48)] * 3) == logs.tolist()
    strange = model.log_probabilities([np.array([ngram_lm.UNKNOWN])])[0]
    # unknown after START: .5 * P1(unknown) with P1 = .5 * 1/4; END after an unseen history: P1(END)
    assert pytest.approx([np.log(0.5 * 0.5 / 4), np.log(7 / 24)]) == strange.tolist()


def test_rows_are_scored_alone_and_next_agrees_with_rows() -> None:
    """The score of a row does not depend on its neighbours, and equals the product of `next`."""
    model, numbers = lm(["abracadabra", "alabama", "banana"], 4)
    rows = [np.array([numbers[c] for c in text]) for text in ("banal", "cab", "m")]
    together = model.log_probabilities(rows)
    for row, logs in zip(rows, together):
        assert logs.tolist() == model.log_probabilities([row])[0].tolist()
        one_by_one = [model.next(row[:i].tolist())[token] for i, token in enumerate([*row, ngram_lm.END])]
        assert pytest.approx(np.log(one_by_one)) == logs


def test_fluency_puts_texts_in_disorder_last_and_leaves_copies_out() -> None:
    """Words in disorder are less likely; a copy of a reference text is weighed by a model without it."""
    rng = np.random.default_rng(0)
    names, verbs, ends = (
        ["the old man", "a small dog", "my sister"],
        ["sees", "likes", "eats"],
        ["fish", "rain"],
    )
    texts = [" ".join(rng.choice(part) for part in (names, verbs, ends)) + f" no {i}" for i in range(120)]
    human = records.from_rows([{"text": text} for text in texts[:80]], datatype="text")
    mixed = [" ".join(rng.permutation(text.split())) for text in texts[80:]]
    both = records.from_rows([{"text": text} for text in [*texts[80:], *mixed]], datatype="text")
    found = order("fluency", both, human)
    assert statistics.auc(found.scores[:40], found.scores[40:]).auc > 0.95
    words = order("fluency:unit=word,n=3", both, human)
    assert statistics.auc(words.scores[:40], words.scores[40:]).auc > 0.95
    copies = order("fluency", human, human)
    assert 80.0 == copies.figures["in_reference"]
    learned_by_heart = order("fluency", human, human.concat(both)).figures["perplexity"]
    assert copies.figures["perplexity"] > 0.9 * learned_by_heart
    assert copies.figures["perplexity"] == pytest.approx(copies.figures["human_perplexity"], rel=0.3)
    empty = records.from_rows([{"text": " "}, {"text": "the old man"}], datatype="text")
    assert np.isnan(order("fluency", empty, human).scores[0])


def test_fluency_by_a_transformer_puts_texts_in_disorder_last() -> None:
    """A causal transformer trained on the human texts weighs others; a trainer of labels is refused."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    parts = ["the old man", "a small dog", "my sister"], ["sees", "likes", "eats"], ["fish", "rain", "snow"]
    texts = [" ".join(rng.choice(part) for part in parts) for _ in range(120)]
    human = records.from_rows([{"text": text} for text in texts[:80]], datatype="text")
    strange = [" ".join(rng.permutation(text.split())) for text in texts[80:]]
    rows = [{"text": text} for text in [*texts[80:], *strange, " "]]
    tiny = "fluency:model=gpt:steps=60;layers=1;width=32"
    found = order(tiny, records.from_rows(rows, datatype="text"), human)
    assert statistics.auc(found.scores[:40], found.scores[40:80]).auc > 0.9
    assert np.isnan(found.scores[80])
    assert found.figures["human_perplexity"] < found.figures["perplexity"]
    with pytest.raises(BadSetting, match="does not learn from texts"):
        order("fluency:model=linear", human, human)


# -------------------------------------------------------------------------------- embeddings


def test_quality_estimation_finds_pairs_that_do_not_belong_together() -> None:
    """Bilingual LSA fitted on human pairs: right translations are above exchanged ones."""
    english, german = (
        ["cat", "dog", "sun", "rain", "tree", "king"],
        ["Katze", "Hund", "Sonne", "Regen", "Baum", "König"],
    )
    rng = np.random.default_rng(0)
    rows = []
    for i in range(300):
        chosen = rng.choice(6, 2, replace=False)
        rows.append(
            {
                "id": str(i),
                "source": " and ".join(english[k] for k in chosen),
                "target": " und ".join(german[k] for k in chosen),
            }
        )
    human, made = records.from_rows(rows[:200]), records.from_rows(rows[200:])
    wrong = np.arange(100) >= 50
    targets = made.column("target")
    made = made.with_column("target", [*targets[:50], *targets[51:], targets[50]])
    same = np.array([a == b for a, b in zip(made.column("target"), targets)])
    found = order("quality_estimation", made, human)
    assert statistics.auc(found.scores[same], found.scores[~same & wrong]).auc > 0.9
    assert found.figures["mean"] > found.figures["chance"]


def test_labels_are_held_against_descriptions(tmp_path: Path) -> None:
    """A text is nearest to the description of its label; a label without one has no score."""
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"sea": "ship wave harbour", "farm": "cow barn field"}), "utf-8")
    rows = [("ship wave", "sea"), ("cow field", "farm"), ("cow barn", "sea"), ("wave", "moon")]
    made = records.from_rows([{"text": text, "label": label} for text, label in rows])
    scores = order(f"quality_estimation:descriptions={path}", made).scores
    assert scores[0] > 0 and scores[1] > 0 > scores[2] and np.isnan(scores[3])


def test_comet_is_loaded_and_asked_as_its_library_wants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stand-in library: fetched by name or from a folder, given src and mt; without it, the cure."""
    monkeypatch.setitem(sys.modules, "comet", None)
    made = records.from_rows(PAIRS)
    with pytest.raises(MissingExtra, match="confidence:field=comet"):
        order("quality_estimation:backend=comet", made)
    seen: list[Any] = []

    class Model:
        """Stands for a loaded COMET model."""

        def predict(self, rows: Any, batch_size: int, gpus: int, progress_bar: bool) -> Any:
            seen.append(rows[0])
            return types.SimpleNamespace(scores=[len(row["mt"]) / 100 for row in rows])

    def load(path: str) -> Model:
        seen.append(path)
        return Model()

    library = types.SimpleNamespace(download_model=lambda name: f"/hub/{name}", load_from_checkpoint=load)
    monkeypatch.setitem(sys.modules, "comet", library)
    found = order("quality_estimation:backend=comet", made)
    assert [len(row["target"]) / 100 for row in PAIRS] == found.scores.tolist()
    assert ["/hub/Unbabel/wmt22-cometkiwi-da", {"src": "The cat sleeps.", "mt": "Die Katze schläft."}] == seen
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "model.ckpt").write_bytes(b"")
    order(f"quality_estimation:backend=comet,model={tmp_path}", made)
    assert str(tmp_path / "checkpoints" / "model.ckpt") == seen[2]


# --------------------------------------------------------------------------------- detectors


@pytest.fixture(scope="module")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of two layers over single characters, in the Hugging Face format."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("tiny_lm")
    letters = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz .?")}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(letters, unk_token="?"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="?").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(letters),
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_curvature_is_the_standardised_likelihood(tiny_lm: Path) -> None:
    """In closed form it equals sums over the vocabulary by hand; samples come near; one token has none."""
    import torch

    tokenizer, model = curvature.load(str(tiny_lm))
    text = "a cat sat on a mat."
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert len(text) == ids.shape[1]
    with torch.no_grad():
        logits = model(ids).logits[0].double().numpy()
    own = mean = variance = 0.0
    for t in range(len(text) - 1):
        chances = np.exp(logits[t]) / np.exp(logits[t]).sum()
        logs = np.log(chances)
        own += logs[int(ids[0, t + 1])]
        mean += float(chances @ logs)
        variance += float(chances @ logs**2 - (chances @ logs) ** 2)
    found = curvature.discrepancies([text, "a", ""], tokenizer, model)
    assert pytest.approx((own - mean) / np.sqrt(variance), rel=1e-6) == found[0]
    assert np.isnan(found[1]) and np.isnan(found[2])
    drawn = curvature.discrepancies([text], tokenizer, model, samples=4000)
    assert pytest.approx(found[0], abs=0.1) == drawn[0]
    with pytest.raises(InputError, match="no such folder"):
        curvature.load(str(tiny_lm / "none"))


def test_curvature_tells_a_models_own_text_from_others(tiny_lm: Path) -> None:
    """Texts drawn from the sharpened model lie nearer its peak than random letters do."""
    import torch

    _, model = curvature.load(str(tiny_lm))
    torch.manual_seed(1)
    drawn = model.generate(
        torch.randint(0, 26, (24, 1)), max_new_tokens=20, do_sample=True, temperature=0.05, pad_token_id=28
    )
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz .?"))
    synthetic = records.from_rows([{"text": "".join(letters[row])} for row in drawn.numpy()], datatype="text")
    rng = np.random.default_rng(0)
    human = records.from_rows(
        [{"text": "".join(rng.choice(letters, 21))} for _ in range(24)], datatype="text"
    )
    found = order(f"human_likeness:method=curvature,lm={tiny_lm}", synthetic, human)
    assert found.figures["auc"] > 0.9 and 0 <= found.figures["ece"] < 0.3


def test_calibration_error_by_hand() -> None:
    """Two bins hold texts: |0.9 - 2/3| of three and |0.2 - 0| of one, averaged over four texts."""
    found = detection.calibration_error(np.array([0.9, 0.9]), np.array([0.9, 0.2]))
    assert pytest.approx((3 * abs(0.9 - 2 / 3) + 0.2) / 4) == found


def test_a_group_that_is_taken_for_synthetic_more_often_is_a_warning() -> None:
    """Learners at 60 % and natives at 5 % differ; equal rates do not; small groups are not compared."""
    learners, natives = np.arange(50) < 30, np.arange(200) < 10
    groups = ["learner"] * 50 + ["native"] * 200
    rates = detection.false_positives(np.r_[learners, natives], groups, "people")
    assert 0.6 == rates.figures["fpr[learner]"] and 0.05 == rates.figures["fpr[native]"]
    assert rates.figures["fpr_low[learner]"] < 0.6 < rates.figures["fpr_high[learner]"]
    ((code, message),) = rates.warning()
    assert "detector_false_positives" == code
    assert "people: learner 60.0%" in message and "Liang" in message
    equal = detection.false_positives(np.r_[natives, natives], ["a"] * 200 + ["b"] * 200, "people")
    assert () == equal.warning()
    assert () == detection.false_positives(np.ones(12, bool), ["a"] * 5 + ["b"] * 7, "people").warning()


def test_curate_prints_the_warning_that_a_group_is_wronged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Learners who write like the machine: named in the output, in --json and in the report."""
    rng = np.random.default_rng(0)
    plain, rich = "it is very good and important".split(), "gosh whatever folks reckon dunno blimey".split()

    def write(name: str, sides: dict[str, tuple[list[str], int]]) -> Records:
        rows = [
            {"id": f"{who}{i}", "text": " ".join(rng.choice([*words, "day", "night"], 20)), "who": who}
            for who, (words, n) in sides.items()
            for i in range(n)
        ]
        made = records.from_rows(rows, datatype="text")
        made.write(tmp_path / name)
        return made

    human = write("human.jsonl", {"learner": (plain, 20), "native": (rich, 100)})
    made = write("made.jsonl", {"machine": (plain, 60)})
    files = [str(tmp_path / "made.jsonl"), "--reference", str(tmp_path / "human.jsonl")]
    order_by = ["--order", "human_likeness:by=who", "--out", str(tmp_path / "kept.jsonl")]
    main(["curate", *files, *order_by])
    printed = " ".join(capsys.readouterr().out.split())
    assert "the detector takes human texts for synthetic at rates that differ by who: learner " in printed
    main(["curate", *files, *order_by, "--json"])
    codes = [one["code"] for one in json.loads(capsys.readouterr().out)["warnings"]]
    assert "detector_false_positives" in codes
    found = karat.curate(made, human, order="human_likeness:by=who")
    (section,) = found.__report__()
    assert any("by who: learner " in getattr(block, "text", "") for block in section.blocks)


def test_detectors_on_real_pairs(data_dir: Path) -> None:
    """GPT text against human text of the same openings: n-grams tell them apart, with rates by domain.

    A document stands there once a generator, cut differently: only its opening shows that it is the same.
    """
    path = data_dir / "fastdetect_pairs" / "fastdetect_pairs.jsonl.gz"
    texts = records.read(path, where=["domain!=squad"])
    kept = np.array(
        [p.startswith("exp_gpt3to4") and p.endswith(tuple("01234")) for p in texts.column("pair_id")]
    )
    texts = texts.where(kept)
    openings = ["".join(c for c in text.casefold() if c.isalnum())[:25] for text in texts.texts()]
    texts = texts.with_column("document", openings)
    human = np.array([origin == "human" for origin in texts.column("origin")])
    people, machine = texts.where(human).sample(250, seed=0), texts.where(~human)
    made = machine.where(np.isin(machine.column("pair_id"), people.column("pair_id")))
    found = order("human_likeness:group=document,by=domain", made, people)
    assert found.figures["auc_low"] > 0.6 and found.figures["auc"] < 0.99
    assert found.figures["ece"] < 0.15
    assert {"fpr[pubmed]", "fpr[writing]", "fpr[xsum]"} <= set(found.figures)

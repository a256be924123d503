"""Cues: the published statistic on hand-worked codes, lexicons, lengths and a model for inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preference_corpora import Row, again, agreeing, asked, choices, corpus, flag, judged, swapped, words

import karat
from karat import records, registry
from karat.auditing.preference_cues import (
    Cue,
    by_fields,
    by_length,
    by_lexicon,
    codes,
    entailments,
    fisher,
    orientations,
    pearson,
    read_lexicon,
    sentences,
    top_word,
)
from karat.auditing.statistics import benjamini_hochberg, holm
from karat.errors import BadSetting, InputError


def scored(
    rng: np.random.Generator, n: int, follow: float, *, ties: float = 0.0, models: bool = False
) -> list[Row]:
    """Pairs with score_a and score_b, whose choice goes with the higher score with a probability."""
    rows = []
    for i in range(n):
        a, b = rng.normal(size=2).round(3)
        better, worse = ("a", "b") if a > b else ("b", "a")
        row = {
            "prompt": f"p{i // 2}",
            "response_a": f"x {i}",
            "response_b": f"y {i}",
            "score_a": float(a),
            "score_b": float(b),
            "choice": "tie" if flag(rng, ties) else better if flag(rng, follow) else worse,
            "rater": "judge",
        }
        if models:
            one, other = rng.choice(6, 2, replace=False)
            row |= {"model_a": f"m{one}", "model_b": f"m{other}"}
        rows.append(row)
    return rows


# ------------------------------------------------------------------------------ the published statistic


def test_published_r_by_hand() -> None:
    """Codes 0, 1, 2 of the cue's winner and of the choice: r of 0 1 2 0 1 and 0 1 0 1 2 worked by hand."""
    winners, said = [0, 1, 2, 0, 1], [0, 1, 0, 1, 2]
    # means 0.8 and 0.8; products of deviations: .64 + .04 - .96 - .16 + .24 = -.2; squares 2.8 and 2.8
    rows = []
    for i, (won, choice) in enumerate(zip(winners, said)):
        a, b = {0: (1, 0), 1: (0, 1), 2: (1, 1)}[won]
        pair = {"prompt": f"p{i}", "response_a": f"x{i}", "response_b": f"y{i}", "rater": "r"}
        rows.append({**pair, "score_a": a, "score_b": b, "choice": ["a", "b", "tie"][choice]})
    found = asked("cue_coupling:cue=score", rows, mode="paper")
    assert -0.2 / 2.8 == pytest.approx(found.value, abs=1e-15)


def test_r_and_p_are_those_of_scipy() -> None:
    """Pearson's r and its p, against scipy, to 1e-12."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 3, (2, 200))
    other[:60] = one[:60]
    expected = stats.pearsonr(one, other)
    r, p = pearson(one, other)
    assert expected.statistic == pytest.approx(r, abs=1e-12)
    assert expected.pvalue == pytest.approx(p, rel=1e-9)
    low, high = expected.confidence_interval()
    assert (low, high) == pytest.approx(fisher(r, 200))
    assert np.isnan(pearson(np.ones(5, int), np.arange(5))[0])


def test_published_deciles_by_brute_force() -> None:
    """Records sorted by the gap, the widest first, in ten equal parts: r of each."""
    rows = scored(np.random.default_rng(1), 200, 0.7, ties=0.2)
    found = asked("cue_coupling:cue=score", rows, mode="paper")
    order = sorted(range(200), key=lambda i: -abs(rows[i]["score_a"] - rows[i]["score_b"]))
    for decile in range(10):
        part = [rows[i] for i in order[20 * decile : 20 * (decile + 1)]]
        won = np.array([0 if row["score_a"] > row["score_b"] else 1 for row in part])
        said = np.array([{"a": 0, "b": 1, "tie": 2}[str(row["choice"])] for row in part])
        assert pearson(won, said)[0] == pytest.approx(found.by[f"decile {decile + 1}"][0])
    assert 10 == len(found.by)
    plain = [found.details[f"decile {i} p"] for i in range(1, 11)]
    assert list(holm(plain)) == [found.details[f"decile {i} p_holm"] for i in range(1, 11)]
    assert list(benjamini_hochberg(plain)) == [found.details[f"decile {i} p_bh"] for i in range(1, 11)]


@pytest.mark.parametrize("models", [False, True])
def test_random_orientations_by_brute_force(models: bool) -> None:
    """The range of r over random names, had from tables of counts, is that of drawing names one by one."""
    rng = np.random.default_rng(2)
    rows = scored(rng, 150, 0.65, ties=0.3, models=models)
    numbers = choices(rows)
    score = [np.array([row[f"score_{side}"] for row in rows]) for side in "ab"]
    cue = by_fields(*score)
    named = None
    if models:
        a, b = (np.array([int(row[f"model_{side}"][1:]) for row in rows]) for side in "ab")
        named = (a, b)
    drawn = []
    for _ in range(1500):
        if models:
            place = rng.random(6)
            turn = np.where(place[a] < place[b], 1, -1)
        else:
            turn = rng.choice([-1, 1], 150)
        drawn.append(pearson(codes(cue.winner * turn), codes(numbers.said * turn))[0])
    counted = orientations(cue.winner, numbers.said, named, trials=1500)
    shares = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert np.quantile(drawn, shares) == pytest.approx(np.quantile(counted, shares), abs=0.02)


def test_an_orientation_far_out_is_told() -> None:
    """Names chosen so that ties meet b: the published r is far out and a warning says what to believe."""
    rng = np.random.default_rng(3)
    rows = scored(rng, 300, 0.5, ties=0.4)
    # the winner by the score stands at b wherever the rater ties, and at a elsewhere
    for row in rows:
        ahead = row["score_a"] > row["score_b"]
        if ahead == (row["choice"] == "tie"):
            row["score_a"], row["score_b"] = row["score_b"], row["score_a"]
    found = asked("cue_coupling:cue=score", rows, mode="paper")
    assert ["orientation_dependent"] == [one.code for one in found.warnings]
    assert found.value > found.details["r.high"]
    assert found.details["r.percentile"] > 0.99


def test_orientation_does_not_matter_in_proper_mode() -> None:
    """Agreement with the cue's winner is the same after a and b changed names, the published r is not."""
    rng = np.random.default_rng(4)
    rows = scored(rng, 200, 0.6, ties=0.3)
    turned = swapped(rows, rng)
    one, other = (asked("cue_coupling:cue=score", each) for each in (rows, turned))
    assert (one.value, one.interval, one.p) == (other.value, other.interval, other.p)
    assert {name: part[0] for name, part in one.by.items()} == {
        name: part[0] for name, part in other.by.items()
    }
    published = [asked("cue_coupling:cue=score", each, mode="paper").value for each in (rows, turned)]
    assert published[0] != pytest.approx(published[1])


# ----------------------------------------------------------------------------------- agreement with cues


def test_a_planted_coupling_is_covered() -> None:
    """A judge that follows the score with probability 0.65: flagged, the interval covers it in 17 of 20."""
    covered = 0
    for seed in range(20):
        found = asked("cue_coupling:cue=score", scored(np.random.default_rng(seed), 400, 0.65), seed=seed)
        assert found.interval is not None and found.p is not None
        assert found.p < 0.01
        covered += found.interval[0] <= 0.65 <= found.interval[1]
    assert covered >= 17


def test_no_coupling_no_flag() -> None:
    """A judge that does not look at the score: p < 0.05, or a decile by Holm, in at most 10 of 100 each."""
    whole = parts = 0
    for seed in range(100):
        found = asked("cue_coupling:cue=score", scored(np.random.default_rng(seed), 200, 0.5), seed=seed)
        whole += (found.p or 1) < 0.05
        parts += any(p < 0.05 for name, p in found.details.items() if name.endswith("p_holm"))
    assert whole <= 10
    assert parts <= 10


def test_only_what_goes_beyond_people_is_a_difference() -> None:
    """A judge coupled like people has no difference; the cue is known from the candidate's fields alone."""
    rng = np.random.default_rng(5)
    rows = scored(rng, 600, 0.8)
    bare = [{name: value for name, value in row.items() if not name.startswith("score")} for row in rows]
    people = again(bare, agreeing(rng, 0.9), "ann")
    found = asked("cue_coupling:cue=score", rows, people)
    assert found.reference is not None
    assert found.reference == pytest.approx(0.8 * 0.9 + 0.2 * 0.1, abs=0.05)
    same = asked("cue_coupling:cue=score", again(rows, agreeing(rng, 0.9), "judge"), people)
    assert same.p is not None and same.p > 0.01


def test_fields_of_chosen_and_rejected() -> None:
    """score_chosen and score_rejected serve as well; a list of numbers counts by its highest."""
    rows = [
        {
            "prompt": f"p{i}",
            "chosen": f"c{i}",
            "rejected": f"r{i}",
            "score_chosen": [i % 3, 0],
            "score_rejected": 1,
        }
        for i in range(30)
    ]
    # won by the chosen 10 times (2 > 1), lost 10 times (0 < 1), equal 10 times
    assert 0.5 == asked("cue_coupling:cue=score", rows).value


def test_what_is_missing_is_named() -> None:
    """A cue without its fields is refused with their names."""
    rows = records.from_rows(judged(np.random.default_rng(6), 20), datatype="preference")
    with pytest.raises(BadSetting, match="needs the fields score_a and score_b"):
        karat.audit(rows, metrics="cue_coupling:cue=score")
    with pytest.raises(BadSetting, match="needs the field reference"):
        karat.audit(rows, metrics="cue_coupling:cue=entailment,model=x")
    with pytest.raises(BadSetting, match="cue is 'lexicon'"):
        registry.make("metrics", "cue_coupling:cue=lexicon")


# --------------------------------------------------------------------------------------------- lengths


def test_lengths() -> None:
    """The longer response wins, in words or characters, which need not agree."""
    row = {
        "prompt": "p",
        "response_a": "one two",
        "response_b": "extraordinarily",
        "choice": "a",
        "rater": "r",
    }
    numbers = choices([row])
    assert ([1], [1.0]) == tuple(list(part) for part in cue_parts(by_length(numbers)))
    assert ([-1], [8.0]) == tuple(list(part) for part in cue_parts(by_length(numbers, "characters")))
    with pytest.raises(BadSetting, match="unit of length"):
        by_length(numbers, "feet")


def cue_parts(cue: Cue) -> tuple[Any, Any]:
    return cue.winner, cue.gap


@pytest.mark.parametrize("strength", [0.7, 0.4])
def test_a_length_biased_judge_is_found(strength: float) -> None:
    """A judge that takes the longer response with a known probability: flagged and covered in 17 of 20."""
    covered = 0
    for seed in range(20):
        found = asked("length_bias", judged(np.random.default_rng(seed), 400, longer=strength), seed=seed)
        assert found.interval is not None and found.p is not None
        assert found.p < 0.05
        covered += found.interval[0] <= strength <= found.interval[1]
    assert covered >= 17


def test_length_without_bias_is_not_flagged() -> None:
    """Judges that draw lots, and judges as fond of length as people: p < 0.05 in at most 10 of 100 each."""
    alone = beside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        alone += (asked("length_bias", judged(rng, 80), seed=seed, draws=20).p or 1) < 0.05
        mine = judged(rng, 80, longer=0.7)
        people = again(mine, agreeing(rng, 1.0), "ann")
        mine, people = (
            again(rows, agreeing(rng, 0.8), name) for rows, name in ((mine, "j"), (people, "ann"))
        )
        beside += (asked("length_bias", mine, people, seed=seed, draws=20).p or 1) < 0.05
    assert alone <= 10
    assert beside <= 10


def test_odds_of_a_doubling_are_found() -> None:
    """Choices drawn from a logistic model of the log length ratio and of quality: the slope is found."""
    rng = np.random.default_rng(7)
    mine, people = [], []
    for i in range(1500):
        a, b = words(rng, 4, 60), words(rng, 4, 60)
        ratio = np.log2((1 + len(a.split())) / (1 + len(b.split())))
        good = rng.normal()
        pair = {"prompt": f"p{i}", "response_a": a, "response_b": b}
        chosen = flag(rng, 1 / (1 + np.exp(-(0.5 * ratio + good))))
        mine.append({**pair, "rater": "j", "choice": "a" if chosen else "b"})
        people.append({**pair, "rater": "ann", "choice": "a" if good > 0 else "b"})
    found = asked("length_bias", mine, people)
    details = found.details
    assert details["odds_ratio_given_people.low"] <= 2**0.5 * 1.25  # e^0.5 a doubling is 1.65
    assert details["odds_ratio_doubling.low"] <= np.exp(0.5) <= details["odds_ratio_doubling.high"] * 1.15
    assert details["odds_ratio_doubling.low"] > 1
    assert found.reference == pytest.approx(0.5, abs=0.05)
    assert details["hedges_g"] > 0


# -------------------------------------------------------------------------------------------- lexicons


@pytest.fixture
def joy(tmp_path: Path) -> Path:
    path = tmp_path / "joy.csv"
    path.write_text("word,score\nwonderful,1.0\nwarm,0.5\nGrim,-0.8\ncold,-0.2\n", "utf-8")
    return path


def test_top_words(joy: Path) -> None:
    """The strongest word of a text counts, whatever the case; words below 0 count on the other side."""
    assert {"wonderful": 1.0, "warm": 0.5, "grim": 0.0, "cold": 0.0} == read_lexicon(str(joy))
    assert {"wonderful": 0.0, "warm": 0.0, "grim": 0.8, "cold": 0.2} == read_lexicon(str(joy), sign=-1)
    assert 1.0 == top_word("Warm, WONDERFUL day", read_lexicon(str(joy)))
    assert 0.0 == top_word("", read_lexicon(str(joy)))


def test_votes_of_lexicons(joy: Path, tmp_path: Path) -> None:
    """Each lexicon votes; the gap is the sum of differences of top words; as published a wins equal votes."""
    second = tmp_path / "calm.csv"
    second.write_text("word,score\nquiet,0.4\n", "utf-8")
    pair = {"prompt": "p", "rater": "r", "choice": "a"}
    rows = [
        {**pair, "response_a": "a wonderful day", "response_b": "a warm day"},
        {**pair, "response_a": "a warm day", "response_b": "a quiet day"},
        {**pair, "response_a": "a day", "response_b": "the day"},
    ]
    cue = by_lexicon(choices(rows), f"{joy}+{second}")
    assert [1, 0, 0] == cue.winner.tolist()  # one vote and one draw; one each; two draws
    assert [0.5, 0.9, 0.0] == pytest.approx(cue.gap.tolist())
    published = by_lexicon(choices(rows), f"{joy}+{second}", published=True)
    assert [1, 1, 0] == published.winner.tolist()
    assert [1, 1, 0] == by_lexicon(choices(rows), str(joy)).winner.tolist()
    assert [0, 0, 0] == by_lexicon(choices(rows), f"-{joy}").winner.tolist()


def test_lexicon_as_a_cue(joy: Path) -> None:
    """cue=lexicon:FILE reads the file; a file without the columns is refused by name."""
    rng = np.random.default_rng(8)
    rows = []
    for i in range(60):
        happy = "ab"[rng.integers(2)]
        texts = {side: f"a {'wonderful' if side == happy else 'warm'} day {i}" for side in "ab"}
        said = happy if flag(rng, 0.9) else "ab".replace(happy, "")
        rows.append({"prompt": f"p{i}", "response_a": texts["a"], "response_b": texts["b"], "choice": said})
    found = asked(f"cue_coupling:cue=lexicon:{joy}", rows)
    assert 0.9 == pytest.approx(found.value, abs=0.08)
    assert 0.9 == pytest.approx(
        asked(f"coding_swap:lexicon={joy}", rows, rows).details["candidate_lexicon"], abs=0.08
    )
    bad = joy.parent / "bad.csv"
    bad.write_text("token,value\nx,1\n", "utf-8")
    with pytest.raises(InputError, match=r"bad\.csv:2: a lexicon has the columns word and score"):
        read_lexicon(str(bad))


# ------------------------------------------------------------------------------------------ entailment


def test_sentences() -> None:
    """Texts are cut after final signs and at line breaks; a text without any is one sentence."""
    assert ["One. ".strip(), "Two!", "Three", "four"] == sentences("One. Two! Three\nfour")
    assert [""] == sentences("")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2,000 weights with random ones, for three classes of inference, and its tokeniser."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", *(f"##{c}" for c in "abcdefghij")]
    (folder / "vocab.txt").write_text("\n".join(letters), "utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(letters),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        id2label={0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"},
        label2id={"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2},
        initializer_range=2.0,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_entailment_by_a_model(tiny: Path) -> None:
    """The highest probability over sentences, sentence as premise and reference as hypothesis, one by one."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny).eval()

    def alone(premise: str, hypothesis: str) -> float:
        with torch.no_grad():
            logits = model(**tokenizer(premise, hypothesis, return_tensors="pt")).logits
        return float(torch.softmax(logits, dim=1)[0, 2])

    texts, references = ["abc. def ghi!", "j"], ["hij", "abc"]
    expected = [max(alone("abc.", "hij"), alone("def ghi!", "hij")), alone("j", "abc")]
    assert expected == pytest.approx(entailments(texts, references, str(tiny)), abs=1e-5)


def test_entailment_as_a_cue(tiny: Path) -> None:
    """cue=entailment,model=FOLDER scores both responses beside the reference and follows the winner."""
    rng = np.random.default_rng(9)
    texts = ["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(40)]
    probability = entailments(texts, ["abc"] * 40, str(tiny))
    rows = [
        {
            "prompt": f"p{i}",
            "response_a": texts[2 * i],
            "response_b": texts[2 * i + 1],
            "reference": "abc",
            "choice": "a" if probability[2 * i] > probability[2 * i + 1] else "b",
        }
        for i in range(20)
    ]
    found = asked(f"cue_coupling:cue=entailment,model={tiny}", rows)
    assert (1.0, 20) == (found.value, found.n)


def test_a_model_that_is_none(tmp_path: Path, tiny: Path) -> None:
    """A folder without a model, and a model without a label for entailment, are refused with the cure."""
    pytest.importorskip("transformers")
    with pytest.raises(BadSetting, match="cannot be loaded"):
        entailments(["a"], ["b"], str(tmp_path))
    config = json.loads((tiny / "config.json").read_text("utf-8"))
    other = tmp_path / "moods"
    other.mkdir()
    for file in tiny.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    moods = {"id2label": {"0": "sad", "1": "calm", "2": "glad"}, "label2id": {"sad": 0, "calm": 1, "glad": 2}}
    (other / "config.json").write_text(json.dumps({**config, **moods}), "utf-8")
    with pytest.raises(BadSetting, match="no label for entailment"):
        entailments(["a"], ["b"], str(other))


def test_columns_of_a_corpus_without_the_field() -> None:
    """The stand-in for a corpus gives empty fields where rows have none, as the passes do."""
    metric = registry.make("metrics", "cue_coupling:cue=score")
    columns = corpus(judged(np.random.default_rng(10), 3))[metric.needs()[1]]
    assert not columns.has("score_a")

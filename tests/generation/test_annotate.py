"""Labels of a model for existing items: asked as planned, read as said, kept whole, paid for once."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, draw, shown
from fault_server import serving

import karat
from karat import records, registry
from karat.cli import main
from karat.errors import BadSetting, InputError
from karat.generation import labelling
from karat.generation.annotating import annotate
from karat.generation.base import Request, Response
from karat.generation.labelling import Options
from karat.generation.tasks import Attribute, Label, Task
from karat.records import Records

COLOURS = ("red", "green", "dark green", "blue")
TASK = Task(
    "remark", tuple(Label(name, f"it speaks of {name} things") for name in COLOURS), type="annotation"
)


def items(n: int = 12) -> Records:
    rows = [{"id": f"i{i}", "text": f"Remark {i} on {COLOURS[i % 4]} things."} for i in range(n)]
    return records.from_rows([{**r, "label": COLOURS[i % 4]} for i, r in enumerate(rows)])


def truth(request: Request) -> str:
    text = request.messages[-1].content
    return text[text.index("Remark") :].split(" on ")[1].split(" things")[0]


# Rows: what the item is; columns: what the annotator says. Rows sum to 1.
CONFUSION = {
    "red": {"red": 0.8, "green": 0.1, "dark green": 0.0, "blue": 0.1},
    "green": {"red": 0.0, "green": 0.6, "dark green": 0.4, "blue": 0.0},
    "dark green": {"red": 0.05, "green": 0.3, "dark green": 0.65, "blue": 0.0},
    "blue": {"red": 0.1, "green": 0.0, "dark green": 0.0, "blue": 0.9},
}
MANNERS = ("{}", "{}.", "**{}**", "Label: {}", "The answer is: {}", '"{}"\n', "{} - that fits best")


def test_an_annotator_with_a_known_confusion_is_recovered() -> None:
    """Each answer is read as it was meant, in whatever manner; the table of errors comes out as planted."""
    meant: dict[str, str] = {}

    def confused(request: Request) -> str:
        row = CONFUSION[truth(request)]
        place = sum(draw(request) >= below for below in accumulate(row.values()))
        label = COLOURS[min(place, 3)]
        meant[request.id] = label
        return MANNERS[len(meant) % len(MANNERS)].format(label.title() if len(meant) % 2 else label)

    found = annotate(items(200), task=TASK, provider=Answering(confused), samples=5)
    assert 1000 == len(found.records) == len(meant)
    assert meant == dict(zip(found.records.ids, found.records.labels() or ()))
    table = Counter(zip(found.records.column("gold"), found.records.labels() or ()))
    for gold, row in CONFUSION.items():
        for label, share in row.items():
            error = 4 * math.sqrt(share * (1 - share) / 250)  # 250 draws a class, four standard errors
            assert abs(table[gold, label] / 250 - share) <= error
    assert 0 == found.unusable


def test_records_are_annotations_with_their_lineage() -> None:
    """An item keeps its id; a record says who answered, which draw it is, and from which row it comes."""
    provider = Answering(truth)
    found = annotate(items(3), task=TASK, provider=provider, samples=2, seed=4)
    assert "annotation" == found.records.datatype
    rows = list(found.records)
    assert [("i0", "1"), ("i1", "1"), ("i2", "1"), ("i0", "2"), ("i1", "2"), ("i2", "2")] == [
        (row["item_id"], row["sample_id"]) for row in rows
    ]
    assert {("scripted-1", "model")} == {(row["annotator"], row["annotator_kind"]) for row in rows}
    assert ["i0@plain/1", ["i0"]] == [rows[0]["id"], rows[0]["lineage"]["parents"]]
    assert {"synthetic"} == {row["lineage"]["source"] for row in rows}
    assert 6 == len({request.seed for request in provider.asked})
    assert (6 * 16, 6 * 0.25) == (
        sum(row["lineage"]["tokens_in"] + row["lineage"]["tokens_out"] for row in rows),
        found.made.usage.cost_usd,
    )
    assert not any("gold" in m.content for request in provider.asked for m in request.messages)


def test_each_label_stands_in_each_place_equally_often() -> None:
    """Over as many samples as labels each is shown once in each place; `fixed` keeps the task's order."""
    provider = Answering(lambda request: shown(request)[0])
    found = annotate(items(8), task=TASK, provider=provider, samples=4)
    for place in range(4):
        named = Counter((request.id.split("@")[0], shown(request)[place]) for request in provider.asked)
        assert {1} == set(named.values()) and 32 == len(named)
    # An annotator that takes whatever stands first is no judge of anything: shuffled orders show it.
    assert dict.fromkeys(COLOURS, 8) == Counter(found.records.labels())
    assert found.records.labels() == [one.split("|")[0] for one in found.records.column("labels_shown")]
    fixed = annotate(items(8), task=TASK, provider=provider, samples=4, recipe="annotate:order=fixed")
    assert {"red": 32} == Counter(fixed.records.labels())


def test_definitions_and_text_are_in_the_prompt_and_gold_is_not() -> None:
    """The model sees the labels with what they mean, the text, and how to answer."""
    provider = Answering(truth)
    annotate(items(1), task=TASK, provider=provider, recipe="annotate:order=fixed")
    told = provider.told()
    assert "- dark green: it speaks of dark green things\n- blue" in told
    assert "Text:\nRemark 0 on red things.\n" in told
    assert told.endswith("Answer with one label from the list and nothing else.")
    assert 32 == provider.asked[0].max_tokens


FIVE = Options(("1", "2", "3", "4", "5"), definitions={"1": "not at all", "5": "entirely"})
CODES = Options(("0", "1", "2"))
NAMED = Options(("offensive", "not offensive", "maybe"))
DENIED = Options(("toxic", "neutral"))
LETTERS = Options(("hate", "neutral", "praise"), ("A", "B", "C"))


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("4", FIVE, "4"),
        ("4/5", FIVE, "4"),
        ("I would say 4 out of 5.", FIVE, "4"),
        ("Answer: 2 (of 5)", FIVE, "2"),
        ("Not at all.", FIVE, "1"),
        ("6", FIVE, ""),
        ("3.5", FIVE, ""),
        ("either 2 or 3", FIVE, ""),
        ("2 because of the 3 swear words", CODES, "2"),  # the label 2, and not the second label
        ("(0)", CODES, "0"),
        ("Not offensive, though it says offensive words", NAMED, "not offensive"),
        ("It is not offensive.", NAMED, "not offensive"),
        ("It could be offensive or maybe not", NAMED, ""),
        ("OFFENSIVE", NAMED, "offensive"),
        ("I'm sorry, but I can't label this text as offensive.", NAMED, ""),
        ("Offensive. As an AI language model I would not say such things.", NAMED, "offensive"),
        ("It is not toxic", DENIED, ""),
        ("It isn't really toxic; neutral fits.", DENIED, "neutral"),
        ("Not only toxic: toxic to the core", DENIED, "toxic"),
        ("Das ist nicht toxic, sondern neutral", DENIED, "neutral"),
        ("inoffensive", NAMED, ""),
        ("B", LETTERS, "neutral"),
        ("(C) praise", LETTERS, "praise"),
        ("b.", LETTERS, "neutral"),
        ("Praise", LETTERS, "praise"),
        ("A good text of praise", LETTERS, "praise"),  # an article is no letter
        ("Option B", LETTERS, "neutral"),
        ("I'm sorry, but I can't help with that.", NAMED, ""),
        ("", NAMED, ""),
        ("好的", Options(("好的", "坏的")), "好的"),
        ("Antwort: größer", Options(("größer", "kleiner")), "größer"),
    ],
)
def test_answers_are_read_as_they_are_meant(text: str, options: Options, expected: str) -> None:
    """One label is read, and none where an answer names none or wavers."""
    assert expected == labelling.read(text, options)


def test_reasons_come_before_the_label() -> None:
    """With reasons the marked answer counts, else the last label; an answer that was cut has none."""
    said = "It looks like red, or green. Yet the word is dark green.\nAnswer: dark green"

    def answer(request: Request) -> str | Response:
        cut = request.id.startswith("i1@")
        return Response("", said[:40] if cut else said, 9, 9, finish_reason="length" if cut else "stop")

    provider = Answering(answer)
    found = annotate(items(2), task=TASK, provider=provider, recipe="annotate:mode=reasons")
    assert ["dark green", ""] == found.records.labels()
    assert [said, said[:40]] == found.records.column("reasons")
    assert 512 == provider.asked[0].max_tokens and "Answer: LABEL" in provider.told()


def test_scales_are_shown_upwards_and_downwards() -> None:
    """The points of a scale keep their order or its reverse, each for half of an item's samples."""
    provider = Answering(lambda request: f"{shown(request)[0]}/5")
    found = annotate(
        items(6),
        task=Task("remark", type="annotation"),
        provider=provider,
        recipe="annotate:scale=1-5",
        samples=4,
    )
    assert {("1", "2", "3", "4", "5"), ("5", "4", "3", "2", "1")} == {tuple(shown(r)) for r in provider.asked}
    assert {"1": 12, "5": 12} == Counter(found.records.labels())


def test_question_and_choices_of_the_task_are_asked() -> None:
    """What the task asks stands first, and its choices are the labels; whole numbers are a scale."""
    for choices, head in ((("not urgent", "urgent"), "Labels:"), (("1", "2", "3"), "Points of the scale:")):
        task = Task("message", type="annotation", question="How urgent is it?", choices=choices)
        provider = Answering(lambda request: shown(request)[0])
        found = annotate(items(3), task=task, provider=provider, samples=4)
        assert all(
            r.messages[-1].content.startswith(f"How urgent is it?\n\n{head}\n") for r in provider.asked
        )
        assert {choices, choices[::-1]} == {tuple(shown(request)) for request in provider.asked}
        assert set(found.records.labels() or ()) == {choices[0], choices[-1]}


def test_several_labels_an_item() -> None:
    """With `multi` all named labels are kept, in one order; none is an answer, an unknown one is not."""
    said = iter(["red, blue", "Blue and Red", "none", "purple", "dark green"])
    found = annotate(
        items(5),
        task=TASK,
        provider=Answering(lambda _: next(said), concurrency=1),
        recipe="annotate:multi=true",
    )
    assert ["blue|red", "blue|red", "none", "", "dark green"] == found.records.labels()


def test_unreadable_answers_are_kept_and_counted_or_drawn_again() -> None:
    """`keep` leaves a record with the empty label and the raw answer; `redraw` asks again, then rejects."""

    def answer(request: Request) -> str:
        if request.id.startswith("i1@"):
            return "I'm sorry, but I can't."
        if request.id.startswith("i2@"):
            return "hm" if request.replicate == 0 else "blue"
        return truth(request)

    kept = annotate(items(4), task=TASK, provider=Answering(answer))
    assert ["red", "", "", "blue"] == kept.records.labels()
    assert "I'm sorry, but I can't." == kept.records.column("raw")[1]
    assert 2 == kept.unusable == kept.to_json()["unusable"]
    scored = karat.audit(kept.records, metrics="invalid_share")
    assert 0.5 == scored.score("invalid_share").value
    drawn = annotate(items(4), task=TASK, provider=Answering(answer), recipe="annotate:invalid=redraw")
    assert ["red", "blue", "blue"] == drawn.records.labels()
    assert [("i1@plain/1", "no label in the answer")] == [(r.id, r.reason) for r in drawn.made.rejected]
    assert 6 == drawn.made.usage.answers


# ------------------------------------------------------------------------------------- probabilities


def likely(*pairs: tuple[str, float]) -> Response:
    return Response("", pairs[0][0], 9, 1, alternatives=tuple((token, math.log(p)) for token, p in pairs))


def test_one_call_gives_the_distribution() -> None:
    """Tokens are gathered by the label that they begin and renormalised; the likeliest is the label."""
    provider = Answering(
        lambda _: likely((" bl", 0.5), ("Blue", 0.1), ("red", 0.2), ("dark", 0.1), ("The", 0.1))
    )
    found = annotate(items(2), task=TASK, provider=provider, recipe="annotate:mode=logprobs", samples=5)
    assert 2 == len(found.records) == len(provider.asked)
    assert ["blue", "blue"] == found.records.labels()
    shares = json.loads(found.records.column("distribution")[0])
    assert list(COLOURS) == list(shares)
    assert {"red": 2 / 9, "green": 0, "dark green": 1 / 9, "blue": 6 / 9} == pytest.approx(shares, abs=1e-6)
    assert 0.9 == pytest.approx(found.records.column("distribution_mass")[0])
    assert 20 == provider.asked[0].logprobs


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response("", "red", 9, 1), "offers no alternatives"),
        (likely(("The", 0.8), ("red", 0.2)), "only 20% of the first token"),
    ],
)
def test_where_the_first_token_does_not_tell_samples_are_drawn(response: Response, reason: str) -> None:
    """The reason stands in the record, and all samples of the row are paid for in it."""
    provider = Answering(lambda _: response)
    found = annotate(items(1), task=TASK, provider=provider, recipe="annotate:mode=logprobs", samples=3)
    assert ["1", "2", "3"] == found.records.column("sample_id")
    assert 3 == len({(r.replicate) for r in provider.asked}) == len(provider.asked)
    assert all(reason in one for one in found.records.column("fallback"))
    lineage = [row["lineage"] for row in found.records]
    assert (27, 3) == tuple(sum(one[name] for one in lineage) for name in ("tokens_in", "tokens_out"))


def test_first_tokens_that_begin_two_labels_collide_and_letters_do_not() -> None:
    """`not` begins two labels, so nothing can be said of either; with letters it can."""
    task = Task("post", (Label("not rude"), Label("not sure"), Label("rude")), type="annotation")
    told = labelling.spread([("not", math.log(0.7)), ("rude", math.log(0.3))], Options(task.label_names))
    assert "first tokens collide: 'not' begins not rude and not sure" == told.reason
    provider = Answering(lambda _: likely(("A", 0.2), ("B", 0.7), (" (C", 0.1)))
    found = annotate(
        items(1), task=task, provider=provider, recipe="annotate:mode=logprobs,codes=letters,order=fixed"
    )
    assert {"not rude": 0.2, "not sure": 0.7, "rude": 0.1} == json.loads(
        found.records.column("distribution")[0]
    )
    assert ["not sure"] == found.records.labels()
    assert "(B) not sure" in provider.told()


# ------------------------------------------------------------------------------------------ personas


def test_personas_answer_beside_the_plain_prompt(tmp_path: Path) -> None:
    """Each persona of a file is an annotator of its own, told in the system message."""
    path = tmp_path / "people.jsonl"
    rows = [
        {"name": "miner", "persona": "A coal miner, aged 60."},
        {"persona": "A very busy doctor in Porto."},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    provider = Answering(truth)
    found = annotate(items(2), task=TASK, provider=provider, personas=path, samples=2)
    who = ["scripted-1", "scripted-1 as miner", "scripted-1 as A very busy doctor in Porto."]
    assert dict.fromkeys(who, 4) == Counter(found.records.column("annotator"))
    assert {None, *(row["persona"] for row in rows)} == set(found.records.column("persona"))
    systems = Counter(request.messages[0].content.split("\n")[1:2] != [] for request in provider.asked)
    assert {True: 8, False: 4} == systems
    attributes = [json.loads(one or "{}") for one in found.records.lineage("attributes")]
    assert {"miner"} == {
        a["persona"] for a, row in zip(attributes, found.records) if "miner" in row["annotator"]
    }


def test_personas_of_the_task_may_be_drawn_for_each_item() -> None:
    """`persons` of the attribute persona answer to an item, others to the next; here they alone."""
    task = Task(
        TASK.domain,
        TASK.labels,
        type="annotation",
        attributes=(Attribute("persona", tuple(f"person {i}" for i in range(10))),),
    )
    provider = Answering(truth)
    found = annotate(items(12), task=task, provider=provider, recipe="annotate:persons=3,plain=false")
    by_item: dict[str, set[str]] = {}
    for row in found.records:
        by_item.setdefault(row["item_id"], set()).add(row["annotator"])
    assert {3} == {len(names) for names in by_item.values()}
    assert 8 <= len(set().union(*by_item.values()))
    assert not any("plain" in one for one in found.records.ids)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("annotate:plain=false", "leaves no annotator"),
        ("annotate:multi=true,mode=logprobs", "multi=true has no first token"),
        ("annotate:scale=good", "write its ends, as in 1-5"),
        ("annotate:personas=nowhere.txt", "nowhere.txt: no such file"),
        ("simple", "labels no items; choose annotate or compare"),
        ("compare", "write pairs first"),
    ],
)
def test_what_cannot_work_is_said_before_any_call(recipe: str, message: str) -> None:
    """The error names the setting and the cure, and nothing was asked."""
    provider = Answering(truth)
    with pytest.raises((BadSetting, InputError), match=message):
        annotate(items(2), task=TASK, provider=provider, recipe=recipe)
    assert [] == provider.asked


# ------------------------------------------------------------------------------- items of people


def human() -> Records:
    """Eight items, three people each; the third disagrees on every other item."""
    rows = []
    for i in range(8):
        for person in range(3):
            label = COLOURS[(i + (person == 2 and i % 2)) % 4]
            text = f"Remark {i} on {COLOURS[i % 4]} things."
            rows.append({"item_id": f"t{i}", "text": text, "label": label, "annotator": f"p{person}"})
    return records.from_rows(rows)


def test_items_of_people_are_asked_once_and_can_be_compared() -> None:
    """24 labels of people are 8 items; with keep_human an audit finds both sides on the same items."""
    provider = Answering(truth)
    found = annotate(human(), provider=provider, samples=2, keep_human=True)
    assert (8, 24, 16) == (found.items, found.human, len(found.made.records))
    assert set(COLOURS) == {one.name for one in found.made.task.labels}
    kinds = Counter(found.records.column("annotator_kind"))
    assert {"model": 16, "human": 24} == kinds
    mask = [one == "model" for one in found.records.column("annotator_kind")]
    model = found.records.where(mask)
    people = found.records.where([not one for one in mask])
    assert people.column("label") == human().column("label")
    scored = karat.audit(model, people, metrics="majority_match label_flips")
    assert 1.0 == scored.score("majority_match").value  # two of three people always say what is true
    assert {"human_records": 24, "items": 8}.items() <= found.to_json().items()


def test_labels_of_people_that_the_task_does_not_name_are_told() -> None:
    """A label that the model could never have given is no disagreement, and the result says so."""
    task = Task("remark", TASK.labels[:3], type="annotation")
    found = annotate(human(), task=task, provider=Answering(lambda _: "red"), keep_human=True)
    assert ("blue",) == found.unknown
    assert any("blue" in str(block) for section in found.__report__() for block in section.blocks)


def test_items_without_people_are_no_company() -> None:
    """keep_human without human labels is refused."""
    with pytest.raises(InputError, match="keep_human needs annotation records"):
        annotate(items(2), task=TASK, provider=Answering(truth), keep_human=True)


def test_real_items_copied_from_people_match_them(data_dir: Path) -> None:
    """An annotator that says what the first person said agrees with that person on every real item."""
    path = data_dir / "hatecheck_annotations" / "hatecheck_annotations.jsonl.gz"
    whole = records.read(path, fields={"gold": "label_gold", "item_id": "case_id"})
    some = whole.slice(0, 600)
    first: dict[str, str] = {}
    for row in some:
        first.setdefault(row["text"], row["label"])

    def copy(request: Request) -> str:
        text = request.messages[-1].content.split("Text:\n", 1)[1].rsplit("\n\n", 1)[0]
        return first[text]

    found = annotate(some, provider=Answering(copy), keep_human=True)
    assert len(set(some.column("item_id"))) == found.items == len(found.made.records)
    assert [first[text] for text in found.made.records.texts()] == found.made.records.labels()
    assert set(some.column("gold")) >= set(found.made.records.column("gold"))


# ------------------------------------------------------------------------------- the whole command


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """The same call again answers from the journal; more samples ask for those alone."""
    provider = Answering(truth)
    first = annotate(items(5), task=TASK, provider=provider, samples=2, journal=tmp_path)
    again = annotate(items(5), task=TASK, provider=provider, samples=2, journal=tmp_path)
    assert first.records.labels() == again.records.labels() and 10 == len(provider.asked)
    annotate(items(5), task=TASK, provider=provider, samples=3, journal=tmp_path)
    assert 15 == len(provider.asked)


def test_a_dry_run_prices_all_answers() -> None:
    """Items x samples x annotators are planned and nothing is asked."""
    provider = Answering(truth)
    found = annotate(items(7), task=TASK, provider=provider, samples=3, dry_run=True)
    assert 21 == found.made.estimate.rows and [] == provider.asked
    assert found.made.estimate.most_tokens > 21 * 32 and "21 rows planned" in str(found)


def test_the_command_annotates_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`karat annotate` reads items and task, replays answers by id, and writes records that karat reads."""
    source, task, answers, out = (tmp_path / n for n in ("in.jsonl", "t.toml", "a.jsonl", "out.jsonl"))
    items(3).write(source)
    task.write_text(TASK.to_toml(), "utf-8")
    rows = [{"id": f"i{i}@plain/{k}", "text": COLOURS[i], "tokens_in": 4} for i in range(3) for k in (1, 2)]
    answers.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    arguments = ["annotate", str(source), "--task", str(task), "--provider", f"replay:path={answers}"]
    arguments += ["--samples", "2", "--out", str(out), "--run", str(tmp_path / "run"), "--json"]
    assert 0 == main(arguments)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (6, 3, 0, 24) == (told["records"], told["items"], told["unusable"], told["usage"]["tokens_in"])
    read = karat.read(out)
    assert "annotation" == read.datatype and list(COLOURS[:3]) * 2 == read.labels()


def test_a_server_with_faults_gives_labels_and_distributions() -> None:
    """With three faults in ten calls every planned row is a record, or a failure with its reason."""
    task = Task("remark", (Label("yes"), Label("no")), type="annotation")
    with serving(answer="yes", rate=0.3, seed=3, hang=1.0, huge_bytes=100_000) as server:
        provider = f"openai_compatible:model=m,url={server.url},timeout=0.5"
        found = annotate(items(20), task=task, provider=provider, samples=3, retries=8)
        assert 60 == len(found.made.records) + len(found.made.rejected)
        assert {"yes"} == {one for one in found.records.labels() or () if one} and len(found.records) > 40
        assert all(one.reason for one in found.made.rejected)
        server.set(rate=0.0)
        likely = annotate(items(3), task=task, provider=provider, recipe="annotate:mode=logprobs")
    # the server says: yes exp(-0.5), no exp(-1.5), and words that are no label
    shares = json.loads(likely.records.column("distribution")[0])
    assert {"yes": 1 / (1 + math.exp(-1)), "no": 1 / (1 + math.e)} == pytest.approx(shares, abs=1e-5)
    mass = math.exp(-0.5) + math.exp(-1.5)
    assert [pytest.approx(mass, abs=1e-5)] * 3 == likely.records.column("distribution_mass")


def test_the_recipe_is_a_part_like_others() -> None:
    """Its spec makes it again, with all settings that were given."""
    made = registry.make("recipes", "annotate:samples=3,mode=logprobs,codes=letters")
    assert made == registry.make("recipes", registry.spec_of(made))

"""What finished records must pass: new texts, no test records, labels by votes; nothing is paid twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from karat import errors, records
from karat.generation.base import Request, Response
from karat.generation.generated import Generated
from karat.generation.stage import generate
from karat.generation.tasks import Attribute, Label, Task

TASK = Task("note", (Label("cats"), Label("dogs")), attributes=(Attribute("tone", ("calm", "loud")),))


@dataclass
class Writer:
    """Writes a note on the label; rows in `same` all write the same, until they are drawn again."""

    same: tuple[int, ...] = ()
    copied: dict[int, str] = field(default_factory=dict)
    wrong: tuple[int, ...] = ()
    batch_size: int = 1
    concurrency: int = 4
    model: str = "writer"
    asked: int = 0

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        self.asked += len(requests)
        return [Response(r.id, self.text(r), 10, 20, cost_usd=0.01, model=self.model) for r in requests]

    def text(self, request: Request) -> str:
        if request.index in self.copied and request.replicate == 0:
            return self.copied[request.index]
        topic = request.label
        if request.index in self.wrong:
            topic = "dogs" if topic == "cats" else "cats"
        if request.index in self.same and request.replicate == 0:
            return f"the same old remark about {topic} that everybody makes on any day of the week"
        words = [f"w{(request.seed >> shift) % 97}" for shift in range(0, 24, 3)]
        return f"{topic}: " + " ".join(words)


@dataclass
class Voter:
    """Says which animal a text is about; every third vote is a slip."""

    batch_size: int = 1
    concurrency: int = 4
    model: str = "voter"
    asked: int = 0

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        self.asked += len(requests)
        found = []
        for request in requests:
            text = request.messages[-1].content.split('"""')[1]
            animal = "dogs" if "dogs" in text else "cats"
            slip = request.id.endswith("vote3")
            said = {"dogs": "cats", "cats": "dogs"}[animal] if slip else animal
            found.append(Response(request.id, said, 30, 1, cost_usd=0.001, model=self.model))
        return found


def reasons(result: Generated) -> dict[str, int]:
    return dict(result.to_json()["rejected"]["reasons"])


def test_near_duplicates_are_drawn_again_and_what_stays_has_a_reason() -> None:
    """Three rows write the same: the first is kept, the others are drawn again and are new then."""
    provider = Writer(same=(1, 3, 5))
    result = generate(TASK, provider=provider, n=8, novelty=0.8)
    assert 8 == len(result.records) == len(set(result.records.texts()))
    assert 10 == provider.asked
    (told,) = result.checks
    assert ("novelty", 10, 2) == (told["name"], told["looked_at"], told["dropped"])
    kept = generate(TASK, provider=Writer(same=(1, 3, 5)), n=8, novelty=0.8, redraw=0)
    assert 6 == len(kept.records) and {"the same text as": 2} == reasons(kept)
    assert "the same text as s0-0001" in kept.why("s0-0003")
    assert 8 == len(generate(TASK, provider=Writer(same=(1, 3, 5)), n=8).records), "no gate, nothing dropped"


def test_copies_of_test_records_and_of_human_records_are_out() -> None:
    """A test text, also with other case and marks, and a human one are no synthetic records."""
    test = records.from_rows(
        [{"text": f"a test text number {i} about cats and dogs", "label": "cats"} for i in range(9)]
    )
    human = records.from_rows([{"text": f"human words {i} on cats", "label": "cats"} for i in range(30)])
    copied = {0: "A test text, number 3, about CATS and dogs!", 2: "human words 7 on cats"}
    result = generate(TASK, human, test=test, provider=Writer(copied=copied), n=6, novelty=0.8, redraw=0)
    assert {"the same text as test record": 1, "the same text as human record": 1} == reasons(result)
    assert 4 == len(result.records)


def test_labels_are_confirmed_by_votes_and_paid_for_once(tmp_path: Path) -> None:
    """Rows on the other label fall to two of three votes; votes are counted, kept and reused."""
    writer, voter = Writer(wrong=(2, 5)), Voter()
    result = generate(TASK, provider=writer, verify=voter, n=10, redraw=0, journal=tmp_path)
    assert 8 == len(result.records) and {"label not confirmed": 2} == reasons(result)
    assert "1 of 3 votes for 'cats' (most: 'dogs')" in result.why("s0-0002")
    (told,) = result.checks
    assert (30, 18) == (told["votes"], told["agreed"])
    assert result.usage.cost_usd == pytest.approx(10 * 0.01 + 30 * 0.001)
    again = generate(TASK, provider=Writer(wrong=(2, 5)), verify=Voter(), n=10, redraw=0, journal=tmp_path)
    assert again.usage.reused == 40 and again.records.fingerprint == result.records.fingerprint
    # Other votes on the same answers: only what is new is asked.
    other = Voter()
    strict = generate(
        TASK, provider=Writer(wrong=(2, 5)), verify=other, votes="3/3", n=10, redraw=0, journal=tmp_path
    )
    assert 0 == other.asked and 0 == len(strict.records)


def test_a_cap_holds_for_the_votes_too() -> None:
    """What voting costs counts against the caps of the generation."""
    with pytest.raises(errors.BudgetSpent, match="max_tokens=900 is reached"):
        generate(TASK, provider=Writer(), verify=Voter(), n=10, max_tokens=900, answer_tokens=64)


def test_attributes_are_held_against_what_was_asked() -> None:
    """A classifier finds again what the writer expresses, and at chance what it does not."""

    class Expressive(Writer):
        def text(self, request: Request) -> str:
            tone = {"calm": "softly quiet still", "loud": "HEY bang crash"}[request.attributes["tone"]]
            return f"{super().text(request)} {tone}"

    def share(provider: Writer) -> tuple[float, float]:
        result = generate(TASK, provider=provider, recipe="attributed", n=120, judge="classifier")
        (line,) = [one for one in result.to_json()["attributes_as_asked"] if one["attribute"] == "tone"]
        assert "classifier" == line["method"]
        return line["low"], line["high"]

    assert share(Expressive())[0] > 0.9
    low, high = share(Writer())
    assert low < 0.62 and high < 0.75


def test_impossible_checks_are_refused_before_any_call() -> None:
    """A threshold out of bounds, no quorum, one label, a voter that only writes: one line each."""
    provider = Writer()
    for settings, told in (
        ({"novelty": 1.5}, "novelty=1.5"),
        ({"verify": Voter(), "votes": "4/3"}, "is no quorum"),
        ({"verify": "embedded"}, "cannot vote"),
    ):
        with pytest.raises(errors.BadSetting, match=told):
            generate(TASK, provider=provider, n=4, **settings)
    with pytest.raises(errors.BadSetting, match="fewer than two"):
        generate(Task("note", type="text"), provider=provider, verify=Voter(), n=4)
    assert 0 == provider.asked


def test_a_judge_that_cannot_be_read_is_told() -> None:
    """Answers that say neither yes nor no give no rate, but a note: they were paid for."""
    result = generate(TASK, provider=Writer(), recipe="attributed", judge=Voter(), n=8)
    assert [] == [line for line in result.to_json()["attributes_as_asked"] if line["method"] == "judge"]
    assert "of the judge 'voter' could be read" in result.notes[0]
    assert result.to_json()["notes"] == list(result.notes)


def test_what_is_not_as_asked_is_drawn_again_where_one_is_strict() -> None:
    """Too short a text and one in another language are dropped; without `strict` both stay."""
    task = Task(
        "note", TASK.labels, language="English", attributes=(Attribute("length", ("at least 12 words",)),)
    )
    english = "The old cats sleep on the warm roof of the house while the rain falls on the street below."
    german = "Die alten Katzen schlafen auf dem warmen Dach des Hauses und der Regen faellt auf die Strasse."

    class Fixed(Writer):
        def text(self, request: Request) -> str:
            return {0: german, 1: "too short a text"}.get(request.index, f"{english} {request.index}")

    strict = generate(task, provider=Fixed(), recipe="attributed", n=6, strict=True, redraw=0)
    assert 4 == len(strict.records) and {"not as asked": 2} == reasons(strict)
    assert "is written in 'de', not in 'en'" in strict.why("s0-0000")
    assert "has 4 words, fewer than 12" in strict.why("s0-0001")
    assert 6 == len(generate(task, provider=Fixed(), recipe="attributed", n=6, redraw=0).records)

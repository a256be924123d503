"""The checks that finished records must pass, by the settings of a generation. Knows no provider by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from karat import registry
from karat.errors import BadSetting
from karat.generation import verification
from karat.generation.attributes import LENGTH, bounds
from karat.generation.base import Learning, Sample
from karat.generation.compliance import Compliance, Written, by_classifier, by_judge, by_rule, judge_requests
from karat.generation.gates import Contamination, Gate, Language, Length, Novelty
from karat.generation.tasks import Task
from karat.records import Records
from karat.texts.languages import code_of

if TYPE_CHECKING:
    from karat.generation.production import Candidate, Check, Production


@dataclass
class GateCheck:
    """Shows each record to a gate, in the order of the plan."""

    gate: Gate
    name: str
    facts: dict[str, Any] = field(default_factory=dict)

    def judge(self, candidates: Sequence[Candidate], production: Production) -> Mapping[str, str]:
        """Drop what the gate does not let in."""
        reasons = ((one.id, self.gate.admit(one.id, one.text)) for one in candidates)
        return {identity: reason for identity, reason in reasons if reason}


@dataclass
class StrictCheck:
    """Drops what is not as long as its row asked, or clearly in another language than the task's."""

    language: str
    name: str = "as asked"

    def judge(self, candidates: Sequence[Candidate], production: Production) -> Mapping[str, str]:
        """Hold each record against the length of its row and the language of the task."""
        code = code_of(self.language)
        spoken = Language(code) if code else None
        found = {}
        for one in candidates:
            asked = bounds(one.row.attributes.get(LENGTH, ""))
            length = Length(asked.low, asked.high, asked.unit) if asked is not None else None
            reason = length.admit(one.id, one.text) if length is not None else ""
            reason = reason or (spoken.admit(one.id, one.text) if spoken is not None else "")
            if reason:
                found[one.id] = f"not as asked: {reason}"
        return found


@dataclass
class VerificationCheck:
    """Drops records whose label (or preference) too few votes of another model confirm."""

    provider: Any
    task: Task
    needed: int
    asked: int
    seed: int
    name: str = "verification"
    facts: dict[str, Any] = field(default_factory=dict)

    def judge(self, candidates: Sequence[Candidate], production: Production) -> Mapping[str, str]:
        """Ask for the votes, under the caps of the generation, and drop what they do not confirm."""
        ask = production.asker(self.provider)
        if self.task.type == "preference":
            pairs = [
                verification.Pair(
                    one.id,
                    *(str(one.draft.fields.get(name, "")) for name in ("prompt", "chosen", "rejected")),
                )
                for one in candidates
            ]
            wanted = verification.pair_requests(pairs, self.task, votes=self.asked, seed=self.seed)
            verdicts = verification.read_pairs(
                pairs, ask(wanted), votes=self.asked, needed=self.needed, seed=self.seed
            )
        else:
            claims = [verification.Claim(one.id, one.text, one.label or "") for one in candidates]
            wanted = verification.requests(claims, self.task, votes=self.asked, seed=self.seed)
            verdicts = verification.read(claims, ask(wanted), self.task, votes=self.asked, needed=self.needed)
        production.usage = production.usage.plus(ask.usage)
        self._count(list(verdicts.values()))
        return {identity: verdict.reason for identity, verdict in verdicts.items() if verdict.reason}

    def _count(self, verdicts: Sequence[verification.Verdict]) -> None:
        """Votes for the label, all votes, and for what the others were, over all records so far."""
        told = self.facts or {"votes": 0, "agreed": 0, "unanswered": 0, "provider": self.provider.model}
        told["votes"] += sum(one.asked for one in verdicts)
        told["agreed"] += sum(one.agreed for one in verdicts)
        told["unanswered"] += sum(vote is None for one in verdicts for vote in one.votes)
        self.facts = told


@dataclass
class SiftCheck:
    """What the recipe itself drops after a round, such as instructions that are not novel."""

    recipe: Any
    name: str = "recipe"

    def judge(self, candidates: Sequence[Candidate], production: Production) -> Mapping[str, str]:
        """Show the recipe what was made, beside all that it knows already."""
        made = [
            Sample(one.id, one.text, one.label, one.row.attributes, one.draft.fields, human=False)
            for one in candidates
        ]
        known = {one.id: one for one in (*production.pool, *production.samples())}
        found: Mapping[str, str] = self.recipe.sift(made, list(known.values()))
        return found


def checks_of(
    task: Task,
    recipe: Any = None,
    *,
    human: Records | None = None,
    test: Records | None = None,
    novelty: float | None = None,
    verify: Any = None,
    votes: str = "",
    strict: bool = False,
    seed: int = 0,
) -> Sequence[Check]:
    """The checks that settings ask for, those that cost nothing first."""
    found: list[Check] = [SiftCheck(recipe)] if hasattr(recipe, "sift") else []
    if test is not None:
        gate = Contamination(list(zip(test.ids, test.texts())))
        found.append(GateCheck(gate, "contamination"))
    if strict:
        found.append(StrictCheck(task.target_language or task.language))
    if novelty is not None:
        if not 0 < novelty <= 1:
            raise BadSetting(f"novelty={novelty} must lie above 0 and be at most 1, e.g. 0.7")
        new = Novelty(novelty)
        if human is not None:
            new.know(zip(human.ids, human.texts()))
        found.append(GateCheck(new, "novelty", {"threshold": new.threshold, "by": new.by}))
    if verify is not None:
        provider = registry.make("providers", verify)
        if isinstance(provider, Learning):
            raise BadSetting(
                f"provider {registry.name_of(provider)!r} learns to write and cannot vote on labels; name "
                "one that follows instructions"
            )
        if task.type != "preference" and len(task.labels) < 2:
            raise BadSetting("verify confirms labels, but the task has fewer than two; leave it out")
        pairs = task.type == "preference"
        needed, asked = verification.quorum(votes or ("2/2" if pairs else "2/3"))
        found.append(VerificationCheck(provider, task, needed, asked, seed))
    return found


def compliance_of(
    written: Sequence[Written], task: Task, judge: Any, production: Production, seed: int
) -> Compliance:
    """How far records have the attributes that were asked for: by rule, by a judge, or by a classifier.

    judge: None (rules only), "classifier", or a provider.
    """
    found = by_rule(written)
    if judge is None or not written:
        return found
    if judge == "classifier":
        return found.joined(by_classifier(written, seed=seed))
    provider = registry.make("providers", judge)
    ask = production.asker(provider)
    wanted = judge_requests(written, task, seed=seed)
    answers = ask(wanted)
    production.usage = production.usage.plus(ask.usage)
    judged = by_judge(written, answers, seed=seed)
    if wanted and not judged.lines:
        said = next((one.text for one in answers.values()), "")
        production.notes.append(
            f"none of {len(wanted)} answers of the judge {provider.model!r} could be read (the first: "
            f"{' '.join(said.split())[:60]!r}); use a model that follows instructions, or judge=classifier"
        )
    return found.joined(judged)

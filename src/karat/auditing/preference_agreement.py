"""Agreement of opinions about pairs: with the majority, with the majority of the others. Knows no metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.auditing.preference_statistics import Tally
from karat.auditing.preferences import (
    FIRST,
    SECOND,
    TIE,
    Flags,
    Floats,
    Ints,
    Opinions,
    Votes,
    modal,
    opinions,
    votes,
)
from karat.auditing.preferences import Choices as Choices


@dataclass(frozen=True)
class Agreed:
    """Opinions of a candidate on pairs that people voted on, beside people's votes: arrays [m].

    said float64 [m, 3]: what the rater said; most float64 [m, 3]: what most people said, shared where several
    were said equally often; people int64 [m]: how many voted.
    """

    ours: Opinions
    theirs: Opinions
    votes: Votes
    most: Floats
    people: Ints

    @property
    def said(self) -> Floats:
        return self.ours.shares

    def __len__(self) -> int:
        return len(self.ours)

    @property
    def hits(self) -> Floats:
        """float64 [m]: how far a rater says what most people said; what is not valid is no agreement."""
        return np.asarray((self.said * self.most).sum(axis=1))

    def majority(self) -> Tally:
        """Agreement with the majority of all people."""
        return Tally.of(self.ours.prompt, self.hits)

    def decided(self) -> Tally:
        """Agreement where both the rater and most people decided for one of the responses."""
        weight = self.said[:, [FIRST, SECOND]].sum(axis=1) * self.most[:, [FIRST, SECOND]].sum(axis=1)
        hits = (self.said * self.most)[:, [FIRST, SECOND]].sum(axis=1)
        return Tally.of(self.ours.prompt, hits, weight)

    def expected(self) -> Floats:
        """float64 [m]: what a rater with the same share of ties gets who does not look at the pair.

        Sides are no habits here: a and b are names, so a rater without ties is right half the time.
        """
        habits = np.zeros((int(self.ours.rater.max()) + 1, 3))
        counts = np.bincount(self.ours.rater, minlength=len(habits))
        np.add.at(habits, self.ours.rater, self.said)
        habits /= np.maximum(counts, 1)[:, None]
        own = habits[self.ours.rater]
        sides = own[:, [FIRST, SECOND]].sum(axis=1) * self.most[:, [FIRST, SECOND]].sum(axis=1) / 2
        return np.asarray(sides + own[:, TIE] * self.most[:, TIE])

    def left_out(self) -> tuple[Tally, Tally] | None:
        """Agreement with the majority of all people but one: of the candidate, and of the person left out.

        On pairs with two people or more, everybody left out in turn; None where there are fewer than two
        such pairs. Both sides see the same majorities, so that a rater like the people gets what they get.
        """
        people = self.theirs
        at = self.votes.of(people.pair)
        several = (at >= 0) & (self.votes.people[np.maximum(at, 0)] > 1) & (people.shares.sum(axis=1) > 0)
        people, at = people.take(several), at[several]
        if len(people) < 2:
            return None
        own = people.shares / people.shares.sum(axis=1, keepdims=True)
        others = modal(self.votes.counts[at] - own)
        mean = np.zeros((len(self.votes.pair), 3))
        np.add.at(mean, at, others)
        mean /= np.maximum(self.votes.people, 1)[:, None]
        ours = self.votes.of(self.ours.pair)
        known = self.votes.people[ours] > 1
        hits = (self.said[known] * mean[ours[known]]).sum(axis=1)
        judged = np.bincount(ours[known], minlength=len(self.votes.pair))
        weight = (judged / np.maximum(self.votes.people, 1))[at]
        theirs = Tally.of(people.prompt, (own * others).sum(axis=1) * weight, weight)
        return Tally.of(self.ours.prompt[known], hits), theirs


def agreed(mine: Choices, theirs: Choices) -> Agreed:
    """The opinions of a candidate on the pairs that people of the reference voted on."""
    people = opinions(theirs)
    counted = votes(people)
    ours = opinions(mine)
    at = counted.of(ours.pair)
    known = at >= 0
    at = at[known]
    judged = np.isin(people.pair, ours.pair[known])
    return Agreed(
        ours.take(known), people.take(judged), counted, modal(counted.counts[at]), counted.people[at]
    )


def cohen(said: Ints, most: Ints) -> float:
    """Cohen's kappa (1960) of two columns of codes; nan where both say one thing only."""
    kinds = np.union1d(said, most)
    expected = sum(float((said == kind).mean() * (most == kind).mean()) for kind in kinds)
    return float(((said == most).mean() - expected) / (1 - expected)) if expected < 1 else float("nan")


def person_against_the_rest(theirs: Choices) -> list[tuple[str, Tally, Flags]]:
    """For each person the decided choices beside the decided majority of the others, by name."""
    decided = opinions(theirs.decided)
    counted = votes(decided)
    at = counted.of(decided.pair)
    rest = counted.counts[at] - decided.shares
    sides = np.sign(np.round(rest[:, FIRST] - rest[:, SECOND], 9))
    own = decided.shares[:, FIRST] - decided.shares[:, SECOND]
    known = sides != 0
    found = []
    for rater in np.unique(decided.rater[known]):
        rows = known & (decided.rater == rater)
        hits = (1 + own[rows] * sides[rows]) / 2
        found.append((theirs.raters[rater], Tally.of(decided.prompt[rows], hits), rows))
    return found

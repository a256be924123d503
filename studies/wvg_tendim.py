"""What GPT-4 and GPT-3.5 sentences are worth on ten social dimensions, and what closes the gap.

    KARAT_DATA=path/to/data python studies/wvg_tendim.py [--trainers linear] [--parts value]

Data: `wvg_tendim` ("The Parrot Dilemma", Moller et al.; MIT): sentences from Reddit labelled by people, and
for 500 others ten LLM rewrites each with a label that was asked for, drawn balanced over labels or
proportional to the human ones. All is tested on the gold test; sentences that stand in it are left out.

Parts: `floors` trains once on each set, beside the published figures; `value` counts each set in human
sentences; `mitigate` compares the three mitigations and filtering; `auto` searches filters, order and mixture
against human only, the plain union and a random selection; `cross` trains on each side and tests on each,
groups of one seed sentence never split; `orderings` holds each cheap ordering against planted errors.
A worth belongs to a trainer, so all is done with `linear` and with `probe`, here with balanced class weights:
macro-F1 of a plain trainer punishes the human sentences for their skewed labels (macro-F1 of 5,385 of them
0.271 plain, 0.309 balanced; of 5,000 GPT-4 ones 0.227 and 0.227).

    T="linear:class_weight=balanced probe:class_weight=balanced"
    python studies/wvg_tendim.py --trainers $T --records 2500 --parts value mitigate auto --cache FOLDER

Found with 2,500 records a side and five seeds (two cores, shared; 10 to 60 s a `value`, 90 to 230 s a
`mitigate`; macro-F1, 95 % intervals):

- worth of 2,500 sentences in human ones by `linear`: GPT-4 1,129 [353, 1,999] and GPT-3.5 1,251 [538, 2,112]
  balanced, GPT-4 1,631 [554, -] and GPT-3.5 1,870 [901, -] proportional; by `probe` 944 [201, -], 676
  [135, -], 645 [176, -] and 1,524 [259, -]. `-`: the curve of 2,500 human ones does not end it.
- beside 100 human sentences all sets help (+0.101 to +0.136 linear, +0.053 to +0.069 probe); beside 2,500 the
  balanced ones do not (+0.018 and +0.014 linear, +0.003 and +0.017 probe, all intervals around 0).

Negative: with `probe` no gap to human data can be shown (2,000 human against 2,500 of both LLMs: -0.003
[-0.032, 0.024]), so there is none to close. With `linear` the gap is +0.038 [0.006, 0.062] with all records,
and no arm is told apart from plain synthetic data after correction. Area of ordering by agreement +0.015
[0.004, 0.027], by a detector +0.012 [0.001, 0.022]; of mixing +0.006 [-0.006, 0.021]; of filtering by
agreement +0.008 [0, 0.016], by the detector +0.003 [-0.004, 0.011]. That detector tells the sets apart with
AUC 0.979: its order is mostly one of artefacts. The search (`auto`, 36 models) chooses the plain union: 0.312
on the gold test, +0.025 [-0.004, 0.049] over 2,500 human sentences alone, so that nothing beats the union and
the union beats human data by too little to be shown. With `probe` and 1,500 human sentences it chooses the
quarter that agrees most: 0.282, +0.012 [-0.001, 0.025] over human data and -0.021 [-0.044, 0] against the
union, so the choice was no good one; with 500 human ones the better half: 0.298, +0.066 [0.040, 0.092] over
human data, +0.007 [-0.012, 0.024] over the union. Cross-trained on equal numbers (931 each, groups of one
seed sentence kept together) GPT-4 data lose 0.016 [-0.020, 0.055] on the gold test and GPT-3.5 data 0.013
[-0.020, 0.045], so no loss is shown, nor for any label; GPT-3.5 models look better by 0.41 [0.31, 0.49] on
GPT-3.5 tests than they are. No amplification beyond that of human data in the labels given: human-trained
models make the commonest label more frequent than LLM-trained ones do (by 0.15 [0.02, 0.27] for GPT-4); the
probabilities of LLM-trained ones are less even (0.12 [0.08, 0.16]).
"""

from __future__ import annotations

import sys
import time

import figures as show

import karat
from karat.records import Records
from karat.training.leakage import guard

PARTS = ("floors", "orderings", "cross", "value", "mitigate", "auto")
GENERATORS = ("gpt-4", "gpt-3.5-turbo")
SAMPLINGS = ("balanced", "proportional")
FLOOR = "linear:words=1-2,characters=0,C=10"
PUBLISHED = {"500 human": 0.145, "human": 0.237, "gpt-4": 0.212, "gpt-3.5-turbo": 0.216}
"""macro-F1 of a plain word 1-2-gram model on the balanced sets; leaks were in"""
ARMS = (
    "real",
    "generated",
    "generated:gpt-4",
    "generated:gpt-3.5-turbo",
    "ordered:agreement",
    "mix:uniform",
    "detector",
    "filtered:agreement",
    "filtered:human_likeness",
    "ordered:random",
)


def main() -> int:
    """Run the study and print its tables."""
    options = show.asked(__doc__ or "", PARTS, ("linear", "probe"))
    source = show.data() / "wvg_tendim" / "wvg_tendim.jsonl.gz"
    if not source.exists():
        print(f"no {source}; name the folder of the data with KARAT_DATA", file=sys.stderr)
        return 2
    began = time.perf_counter()
    test = karat.read(source, where=["split=gold_test"])
    seeds = karat.read(source, where=["split=human_seed"])
    everyone, leaks = guard(karat.read(source, where=["split=human_train"]), test, drop_leaks=True)
    shared = len(set(seeds.texts()) & set(everyone.texts()))
    print(
        f"{leaks.normalised} human sentences stand in the gold test and are left out, {len(everyone):,} stay;"
    )
    print(f"{shared} of the {len(seeds)} sentences that the LLMs were shown stand among the human ones.")
    human = show.few(everyone, options.records)
    made = {
        (name, sampling): karat.read(
            source, where=[f"generator={name}", f"sampling={sampling}"]
        ).with_lineage(source="synthetic", generator=name, generator_saw=[seeds.fingerprint])
        for sampling in SAMPLINGS
        for name in GENERATORS
    }
    run = show.Figures(options.budget, options.seeds, options.workers, options.cache, options.json)
    balanced = {name: made[name, "balanced"] for name in GENERATORS}
    half = (options.records or 5_000) // 2
    union = show.few(balanced["gpt-4"], half).concat(show.few(balanced["gpt-3.5-turbo"], half))
    if "floors" in options.parts:
        floors(run, {"500 human": everyone.sample(500), "human": everyone, **balanced}, test)
    if "orderings" in options.parts:
        run.informed("GPT-4 and GPT-3.5, balanced", union, human)
    for trainer in options.trainers:
        if "cross" in options.parts:
            own = karat.read(source, where=["split=human_train"])
            run.crossed("both, balanced", union, own, test, trainer, group="seed_text")
        if "value" in options.parts:
            for (name, sampling), one in made.items():
                run.worth(f"{name}, {sampling}", show.few(one, options.records), human, test, trainer)
        if "mitigate" in options.parts:
            run.closed("both, balanced", union, human, test, trainer, ARMS, increments=steps(len(human)))
        if "auto" in options.parts:
            run.chosen("both, balanced", union, human, test, trainer)
            run.chosen("both, balanced, 500 human", union, human.sample(min(500, len(human))), test, trainer)
    show.finish(began)
    return 0


def steps(human: int) -> tuple[int, ...]:
    """Return the sizes of the curves: parts of the human records that arms train on, four in five."""
    return tuple(round(share * 0.8 * human) for share in (0.1, 0.3, 0.6, 0.95))


def floors(run: show.Figures, sets: dict[str, Records], test: Records) -> None:
    """Print accuracy and macro-F1 of one fit on each set, beside what was published."""
    began = time.perf_counter()
    kept: dict[str, dict[str, float]] = {}
    for trainer in (FLOOR, "linear", "linear:class_weight=balanced"):
        print(f"\none fit on each set, {trainer}")
        for name, records in sets.items():
            found = karat.train(records, test, trainer=trainer, drop_leaks=True)
            accuracy, f1 = found.score("accuracy"), found.score("macro_f1")
            known = f"  published {PUBLISHED[name]:.3f}" if trainer == FLOOR else ""
            print(
                f"    {name:<16}{found.trained_on:>6,}  accuracy {accuracy.value:.3f} "
                f"{show.pair(accuracy.interval)}  macro-F1 {f1.value:.3f} {show.pair(f1.interval)} "
                f"chance {f1.chance or 0:.3f}{known}"
            )
            kept[f"{trainer}/{name}"] = {"accuracy": accuracy.value, "macro_f1": f1.value}
    run.keep("floors", "all", {"scores": kept}, began)


if __name__ == "__main__":
    sys.exit(main())

"""What LLM text is worth on three more tasks: sentiment by two generators, and topics of test questions.

    KARAT_DATA=path/to/data python studies/curated_sets.py [--sets supergen fewgen topics] [--parts value ...]

Data: `supergen_open` (SST-2 part: 6,000 texts of CTRL without a human example; SST-2 dev is the gold test),
`fewgen_sst2` (20,000 texts of CTRL tuned on 16 human examples), both against the human snippets of
`nltk_sentence_polarity`, of which those that stand in SST-2 dev are out; `model_written_evals` (16,400
questions by a language model and 8,116 by people, whose topic is to be told; a fifth of the human ones is the
test). The same parts as studies/wvg_tendim.py, one table each.

    python studies/curated_sets.py --records 2000 --cache FOLDER [--json FILE]

Found with `linear`, 2,000 records a side, five seeds (two cores, shared; 8 to 140 s a stage; macro-F1):

- supergen 0.568 [0.534, 0.603], worth 93 human snippets [30, 237]; it hurts beside 2,000 of them
  (-0.017 [-0.035, 0]). fewgen 0.698 [0.667, 0.731], worth 584 [245, 1,293]; beside 2,000 it adds nothing that
  can be shown.
- gap of human less synthetic with all records: supergen 0.214, fewgen 0.084.
- topics 0.579 [0.558, 0.599], worth 260 human questions [203, 368]: it gains 0.263 beside 100 of them and
  loses 0.044 [0.029, 0.061] beside 1,000 and 0.042 [0.026, 0.060] beside 1,977.

Negative: no mitigation closes any of either gap that can be shown. On supergen ordering by `agreement` does
harm (area -0.172 [-0.219, -0.140]): labels come in blocks, the first fifth is 79 % positive and the second
80 % negative. Filtering by it does harm too (0.451 after, 0.568 before), which the labels do not explain:
what stays is 47 % positive. The search chooses the plain union for fewgen: 0.769 on the test, -0.010
[-0.033, 0.013] against human only; for supergen the quarter that is most human-like: 0.769, +0.007 [-0.005,
0.018] over the union, +0.004 [-0.006, 0.015] over a random quarter and -0.010 [-0.024, 0.005] against human
only. It never beats human data alone. On its own test a supergen model looks better by 0.416 [0.353, 0.475]
than on SST-2.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import figures as show
import numpy as np

import karat
from karat.records import Records

PARTS = ("orderings", "cross", "value", "mitigate", "auto")
SETS = ("supergen", "fewgen", "topics")
ARMS = (
    "real",
    "generated",
    "ordered:agreement",
    "detector",
    "filtered:agreement",
    "filtered:human_likeness",
    "ordered:random",
)


def main() -> int:
    """Run the study and print its tables."""
    options = show.asked(__doc__ or "", PARTS, ("linear",), sets=SETS)
    folder = show.data()
    if not (folder / "supergen_open").is_dir():
        print(f"no {folder}/supergen_open; name the folder of the data with KARAT_DATA", file=sys.stderr)
        return 2
    began = time.perf_counter()
    run = show.Figures(options.budget, options.seeds, options.workers, options.cache, options.json)
    for name in options.sets:
        synthetic, human, test = sides(folder, name)
        synthetic, human = (show.few(side, options.records) for side in (synthetic, human))
        print(f"\n== {name}: {len(synthetic):,} synthetic, {len(human):,} human, {len(test):,} test records")
        extra = ("confidence",) if name == "supergen" else ()
        if "orderings" in options.parts:
            run.informed(name, synthetic, human, (*show.CHEAP, *extra))
        for trainer in options.trainers:
            if "cross" in options.parts:
                run.crossed(name, synthetic, human, test, trainer)
            if "value" in options.parts:
                run.worth(name, synthetic, human, test, trainer)
            if "mitigate" in options.parts:
                arms = (*ARMS, *(f"ordered:{one}" for one in extra))
                run.closed(name, synthetic, human, test, trainer, arms)
            if "auto" in options.parts:
                run.chosen(name, synthetic, human, test, trainer)
    show.finish(began)
    return 0


def sides(folder: Path, name: str) -> tuple[Records, Records, Records]:
    """Return the synthetic records, the human ones and the test of a set."""
    if name == "topics":
        source = folder / "model_written_evals" / "model_written_evals.jsonl.gz"
        fields = {"label": "topic"}
        human = karat.read(source, where=["origin=human"], fields=fields)
        synthetic = karat.read(source, where=["origin=llm"], fields=fields)
        mixed = human.take(np.random.default_rng(0).permutation(len(human)))
        fifth = len(mixed) // 5
        test, human = mixed.slice(0, fifth), mixed.slice(fifth, len(mixed) - fifth)
        return synthetic.with_lineage(source="synthetic", generator="a language model"), human, test
    source = folder / "supergen_open" / "sst2.jsonl.gz"
    test = karat.read(source, where=["split=gold_test"])
    human = karat.read(
        folder / "nltk_sentence_polarity" / "sentence_polarity.jsonl.gz", where=["in_sst2_dev!=true"]
    )
    if name == "supergen":
        synthetic = karat.read(source, where=["split=synthetic_train"])
        sure = [float(value) for value in synthetic.column("score")]
        return synthetic.with_lineage(source="synthetic", generator="CTRL", logprob=sure), human, test
    synthetic = karat.read(folder / "fewgen_sst2" / "fewgen_sst2.jsonl.gz")
    return synthetic.with_lineage(source="synthetic", generator="CTRL, 16-shot"), human, test


if __name__ == "__main__":
    sys.exit(main())

"""The whole story in one file: human text, a generator, an audit, curation, worth and a report.

    python examples/speedrun.py [FOLDER] [RECORDS]

All is made on this machine: the human text are docstrings of installed packages, the generator is a
small model trained in this process. The second run of the same line is quick, as each step is kept.
"""

import sys
from pathlib import Path

import karat
from karat.generation.tasks import Task

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "speedrun")
count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
run = karat.Run(folder / "steps")

# Half of the human text is for the generator; it never sees the rest, which is compared with and tested on.
human = karat.datasets.split(karat.datasets.docstrings(3 * count), shares=(0.5, 0.25, 0.25))
task = Task.from_records(human.train, domain="docstring of a Python package")

provider = f"embedded:max_seconds={max(5, count // 20)}"
made = run.step(karat.generate, task, human.train, provider=provider, recipe="attributed", n=count)
audited = run.step(karat.audit, made.records, human.holdout, budget="small")
curated = run.step(karat.curate, made.records, human.holdout, filters=("exact_duplicates", "length:min=3"))
worth = run.step(karat.value, curated.kept, human.holdout, human.test, seeds=3, budget="small")

page = karat.report(made, audited, curated, worth, out=folder / "report.html", title="karat speedrun")
print(worth.advice)
print(f"report: {page}")

"""karat tells you what LLM-generated training data is worth, and makes it worth more.

    import karat
    human = karat.read("human.jsonl")
    synthetic = karat.read("synthetic.jsonl")
    print(karat.audit(synthetic, human))

The face of the package: each name is imported when it is first used, so that `import karat` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from karat.version import __version__

if TYPE_CHECKING:
    from karat import datasets
    from karat.auditing.stage import audit
    from karat.curation.stage import curate
    from karat.generation.annotating import annotate
    from karat.generation.engineering import attributes
    from karat.generation.stage import generate
    from karat.generation.tasks import Task
    from karat.piloting.stage import pilot
    from karat.records import Records, read
    from karat.reporting.stage import report
    from karat.runs import Run
    from karat.simulation.forecast import forecast
    from karat.simulation.monitor import monitor
    from karat.simulation.stage import simulate
    from karat.simulation.sweep import sweep
    from karat.training.stage import train
    from karat.valuation.auto import auto_curate
    from karat.valuation.crossing import cross_train
    from karat.valuation.mitigation import mitigate
    from karat.valuation.stage import value

_HOMES = {
    "Records": "karat.records",
    "read": "karat.records",
    "Task": "karat.generation.tasks",
    "Run": "karat.runs",
    "datasets": "",
    "generate": "karat.generation.stage",
    "attributes": "karat.generation.engineering",
    "annotate": "karat.generation.annotating",
    "pilot": "karat.piloting.stage",
    "audit": "karat.auditing.stage",
    "curate": "karat.curation.stage",
    "auto_curate": "karat.valuation.auto",
    "train": "karat.training.stage",
    "cross_train": "karat.valuation.crossing",
    "value": "karat.valuation.stage",
    "mitigate": "karat.valuation.mitigation",
    "simulate": "karat.simulation.stage",
    "sweep": "karat.simulation.sweep",
    "forecast": "karat.simulation.forecast",
    "monitor": "karat.simulation.monitor",
    "report": "karat.reporting.stage",
}

__all__ = [
    "Records",
    "Run",
    "Task",
    "__version__",
    "annotate",
    "attributes",
    "audit",
    "auto_curate",
    "cross_train",
    "curate",
    "datasets",
    "forecast",
    "generate",
    "mitigate",
    "monitor",
    "pilot",
    "read",
    "report",
    "simulate",
    "sweep",
    "train",
    "value",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'karat' has no attribute {name!r}")
    home = _HOMES[name]
    found = getattr(importlib.import_module(home), name) if home else importlib.import_module(f"karat.{name}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

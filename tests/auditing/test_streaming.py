"""A corpus larger than memory, n-grams in files, workers that read for themselves: not a digit changes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_corpora import corpus, write

from karat import records
from karat.auditing import grams, passes
from karat.auditing.shards import Stretch
from karat.auditing.stage import audit
from karat.executors.local import Local
from karat.records import Records

METRICS = (
    "length vocabulary distinct_n:n=1 distinct_n:n=3 ngram_frequency_simpson ngram_frequency_dqi "
    "duplicate_share:normalise=true compression_ratio self_bleu:limit=300 label_balance"
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few records are many shards, stretches and ranges of hashes."""
    monkeypatch.setattr(passes, "_SHARD_RECORDS", 150)
    monkeypatch.setattr(passes, "_STRETCH", 2)
    monkeypatch.setattr(grams, "RANGE", 4096)


@pytest.fixture(scope="module")
def sides() -> tuple[Records, Records]:
    """1,000 and 1,700 texts, some of them copies."""
    one, other = write(1000, seed=1, length=15), write(1600, seed=2, length=19)
    labels = [f"label {i % 4}" for i in range(1700)]
    return corpus([*one[:950], *one[:50]], labels[:1000]), corpus([*other, *one[:100]], labels)


@pytest.fixture(scope="module")
def expected(sides: tuple[Records, Records]) -> dict[str, Any]:
    """The audit in memory, in one process."""
    return plain(audit(*sides, metrics=METRICS, budget="small"))


def plain(audited: Any) -> dict[str, Any]:
    """The JSON of an audit without its seconds."""
    found: dict[str, Any] = json.loads(json.dumps(audited.to_json()))
    return {name: found[name] for name in ("scores", "warnings", "candidate", "reference")}


@dataclass(frozen=True)
class Far(Local):
    """Workers that do not see the files of this process, as on another machine."""

    one_machine = False


def test_n_grams_in_files(
    sides: tuple[Records, Records],
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the memory limit n-grams are sorted in files, which are gone afterwards."""
    written = []
    filed = grams._filed
    monkeypatch.setattr(grams, "_filed", lambda *given: written.append(given) or filed(*given))
    found = audit(*sides, metrics=METRICS, budget="small", memory=0, journal=tmp_path)
    assert len(written) > 20
    assert [] == list(tmp_path.iterdir())
    assert expected == plain(found)


@pytest.mark.parametrize("executor", [Local(workers=2), Far(workers=2)], ids=["one machine", "several"])
def test_workers(
    sides: tuple[Records, Records], expected: dict[str, Any], executor: Local, tmp_path: Path
) -> None:
    """Workers that map the columns, and workers that are sent them, give what this process gives."""
    found = audit(*sides, metrics=METRICS, budget="small", executor=executor, journal=tmp_path)
    assert [] == list(tmp_path.iterdir())
    assert expected == plain(found)


def test_only_the_records_of_a_stretch_travel(sides: tuple[Records, Records]) -> None:
    """What is sent to a worker is as large as its records, whether they lie in memory or in a file."""
    import pickle

    table = sides[0].table.select(["id", "text"])
    whole = Stretch((table,), (0, 500, 1000))
    part = Stretch((table,), (500, 510, 520), base=7)
    assert len(pickle.dumps(part)) < len(pickle.dumps(whole)) / 20
    again = pickle.loads(pickle.dumps(part))
    for (first, expected), (second, found) in zip(part.tables(), again.tables(), strict=True):
        assert first == second
        assert all(expected[name].equals(found[name]) for name in expected)
    assert len(pickle.dumps(Stretch(("/a/file",), (0, 10)))) < 200


def test_records_that_are_mapped(
    sides: tuple[Records, Records],
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files beyond the limit of memory are mapped, and their audit is that of records in memory."""
    monkeypatch.setattr(records, "MEMORY", 10_000)
    read = []
    for name, side in zip(("one", "other"), sides, strict=True):
        path = side.write(tmp_path / f"{name}.jsonl")
        monkeypatch.setattr(records, "batches", _small_batches)
        read.append(records.read(path))
    assert read[0].table.column("text").num_chunks > 5
    found = plain(audit(*read, metrics=METRICS, budget="small", memory=0))
    assert expected["scores"] == found["scores"]


def _small_batches(*given: Any, batches: Any = records.batches, **settings: Any) -> Any:
    return batches(*given, **settings, size=90)


def test_equal_views_are_collected_once(sides: tuple[Records, Records]) -> None:
    """Without a reference every view is the whole corpus: n-grams of one order are counted once."""
    seen: list[tuple[str, int, int]] = []
    audit(
        sides[0],
        metrics="distinct_n:n=2 ngram_frequency_simpson:n=2 vocabulary",
        progress=lambda *a: seen.append(a),
    )
    assert {2} == {total for name, _, total in seen if name == "adding up"}


PEAK = """
import sys
from karat import records
from karat.auditing.stage import audit

records.MEMORY = 8 << 20
audited = audit(records.read(sys.argv[1]), metrics=sys.argv[2], budget="small", memory=8)
# not getrusage: its peak is that of the process which started this one, if that was larger
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(audited.candidate.records, int(peak.split()[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 180 MB takes as much memory as one of 46 MB, but for some bytes a record."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(5000)], dtype=object)
    drawn = words[(5000 * rng.random((20_000, 300)) ** 3).astype(int)]
    lines = "".join(json.dumps({"text": " ".join(row)}) + "\n" for row in drawn)
    peaks = []
    for copies in (1, 4):
        path = tmp_path / f"{copies}.jsonl"
        path.write_text(lines * copies, "utf-8")
        command = [sys.executable, "-c", PEAK, str(path), "length vocabulary duplicate_share"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, peak = done.stdout.split()
        assert 20_000 * copies == int(count)
        peaks.append(float(peak))
    grown = path.stat().st_size / 2**20 * 3 / 4
    assert grown > 130
    assert peaks[1] < peaks[0] + grown / 2, peaks

"""Ray with two real workers on this machine: the results of this process, also where a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from karat import cli, records, registry
from karat.auditing import passes
from karat.auditing.stage import audit
from karat.errors import BadSetting, KaratError, MissingExtra
from karat.executors.base import session

ray = pytest.importorskip("ray", reason="ray is not installed (karat[ray])")
SHARD, STRETCH = 500, 3
METRICS = "length vocabulary distinct_n ngram_frequency_dqi self_bleu duplicate_share compression_ratio aps"


@pytest.fixture(scope="module")
def two() -> Iterator[Any]:
    """Ray with two workers, started once."""
    executor = registry.make("executors", "ray:workers=2")
    with session(executor):
        yield executor


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 9,000 short records."""
    path = tmp_path_factory.mktemp("ray") / "rows.jsonl"
    words = "gold silver lead iron tin copper zinc of the a and melts glows bends".split()
    rows = ({"text": " ".join(words[(i * k) % 14] for k in range(1, 8 + i % 5))} for i in range(9_000))
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few records are many tasks."""
    monkeypatch.setattr(passes, "_SHARD_RECORDS", SHARD)
    monkeypatch.setattr(passes, "_STRETCH", STRETCH)


def square(value: int) -> tuple[int, int]:
    time.sleep(0.02)
    return value * value, os.getpid()


def fail(value: int) -> int:
    raise KeyError(f"cannot do {value}")


def die_once(value: int, folder: str) -> int:
    """Kill the worker in the middle of item 5, the first time."""
    marker = Path(folder) / "killed"
    if value == 5 and not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def die(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_results_come_in_order_from_two_workers(two: Any) -> None:
    """Two workers give the results of one process, in the same order."""
    found = list(two.map(square, range(40)))
    assert [value * value for value in range(40)] == [value for value, _ in found]
    workers = {process for _, process in found}
    assert os.getpid() not in workers
    assert 2 == len(workers)


def test_an_error_reaches_the_caller(two: Any) -> None:
    """An error inside a worker is raised where the results are read, as what it was."""
    with pytest.raises(KeyError, match="cannot do 0"):
        list(two.map(fail, range(3)))


def test_a_killed_worker_loses_nothing(two: Any, tmp_path: Path) -> None:
    """A worker that is killed half way: its task is run again, and the results are whole."""
    assert list(range(12)) == list(two.map(partial(die_once, folder=str(tmp_path)), range(12)))
    assert (tmp_path / "killed").read_text() != str(os.getpid())


def test_a_killed_worker_leaves_standard_output_to_the_result(
    two: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Ray has to say of the worker is said a moment later, and not where JSON is printed."""
    list(two.map(partial(die_once, folder=str(tmp_path)), range(12)))
    time.sleep(2)
    assert "" == capsys.readouterr().out


def test_a_task_that_always_kills_its_worker_is_an_error(two: Any) -> None:
    """Where running again does not help, the error is one line with a cure."""
    stubborn = registry.make("executors", "ray:workers=2,retries=0")
    with pytest.raises(KaratError, match="lost with its worker") as caught:
        list(stubborn.map(die, range(2)))
    assert "\n" not in str(caught.value)


def test_an_audit_is_that_of_this_process(two: Any, corpus: Path) -> None:
    """Every number of an audit is the same to the last digit on Ray, whose workers map one file."""
    data = records.read(corpus)
    candidate, reference = data.slice(0, 5_000), data.slice(2_000, 7_000)
    expected = audit(candidate, reference, metrics=METRICS, budget="small")
    found = audit(candidate, reference, metrics=METRICS, budget="small", executor=two)
    assert expected.to_json()["scores"] == found.to_json()["scores"]
    assert expected.warnings == found.warnings


def test_a_worker_killed_during_an_audit(
    two: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker process that dies in the middle of a pass changes no number."""
    data = records.read(corpus)
    expected = audit(data, metrics="vocabulary distinct_n:n=3", budget="small")
    plain = type(two).map

    def deadly(self: Any, function: Any, items: Any) -> Any:
        return plain(self, partial(die_first, function=function, folder=str(tmp_path)), items)

    monkeypatch.setattr(type(two), "map", deadly)
    found = audit(data, metrics="vocabulary distinct_n:n=3", budget="small", executor=two)
    assert 2 == len(list(tmp_path.iterdir()))
    assert expected.to_json()["scores"] == found.to_json()["scores"]


def die_first(item: Any, function: Any, folder: str) -> Any:
    """Kill the worker of the second item of each pass after its work was done, once."""
    found = function(item)
    stretch = item[1] if isinstance(item, tuple) else item
    marker = Path(folder) / type(item).__name__
    if getattr(stretch, "edges", (0,))[0] > 0 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return found


def test_the_command_starts_ray_and_ends_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`karat audit --executor ray` gives what the plain command gives, and leaves no Ray behind."""
    ray.shutdown()
    monkeypatch.chdir(tmp_path)
    metrics = ["--metrics", "vocabulary", "distinct_n", "--quiet", "--json", "--fresh"]
    assert 0 == cli.main(["audit", str(corpus), *metrics])
    expected = json.loads(capsys.readouterr().out)
    assert 0 == cli.main(["audit", str(corpus), *metrics, "--executor", "ray:workers=2"])
    found = json.loads(capsys.readouterr().out)
    assert expected["scores"] == found["scores"]
    assert not ray.is_initialized()
    assert "0" == os.environ["RAY_USAGE_STATS_ENABLED"]


def running() -> list[str]:
    """The programs that run on this machine, as Linux names them; empty elsewhere."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((folder / "cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace"))
    return found


def test_no_cluster_at_the_address() -> None:
    """A cluster that is not there: one line that says what to do."""
    ray.shutdown()
    if any("gcs_server" in Path(one).name for one in running()):
        pytest.skip("another Ray runs on this machine, and `auto` finds it")
    executor = registry.make("executors", "ray:address=auto")
    with pytest.raises(BadSetting, match="ray start") as caught:
        list(executor.map(square, range(2)))
    assert "\n" not in str(caught.value)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray the error names the command that brings it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'karat\[ray\]'"):
        list(registry.make("executors", "ray").map(square, range(2)))

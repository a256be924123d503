"""What a grid of trainings promises where workers, or the process that started them, are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karat import registry
from karat.errors import BudgetSpent, InputError, KaratError
from karat.executors.base import session
from karat.training import grid


def square(value: int, folder: str = "", deadly: int = -1, always: bool = False) -> int:
    """Note the run, kill the worker at one cell (once, or always), and give the square."""
    if folder:
        with open(Path(folder) / "runs", "a") as file:
            file.write(f"{value}\n")
        marker = Path(folder) / "killed"
        if value == deadly and (always or not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return value * value


def runs(folder: Path) -> Counter[int]:
    return Counter(int(line) for line in (folder / "runs").read_text().split())


def picky(value: int) -> int:
    if value == 3:
        raise InputError("three is no good; leave it out")
    if value == 4:
        raise BudgetSpent("spent")
    return value


def scores(value: int) -> tuple[str, np.ndarray[Any, Any]]:
    return f"é{value}", np.arange(value, dtype=np.float32) / 3


def pack(result: tuple[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    return {"name": result[0], "scores": result[1]}


def unpack(packed: dict[str, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    return packed["name"], packed["scores"]


@pytest.fixture(scope="module", params=["local:workers=2", "ray:workers=2"])
def two(request: pytest.FixtureRequest) -> Any:
    """Two workers: processes of this machine, and Ray's."""
    if request.param.startswith("ray"):
        pytest.importorskip("ray", reason="ray is not installed (karat[ray])")
    executor = registry.make("executors", request.param)
    with session(executor):
        yield executor


def test_results_stand_in_the_order_of_the_cells(two: Any, tmp_path: Path) -> None:
    """Whatever is finished first; each cell is run once."""
    cells = list(range(40))
    found = grid.run(partial(square, folder=str(tmp_path)), cells, weigh=float, executor=two)
    assert [n * n for n in cells] == found
    assert {1} == set(runs(tmp_path).values())


def test_a_killed_worker_costs_one_cell(two: Any, tmp_path: Path) -> None:
    """SIGKILL in the middle of a cell: that one is run twice, all others once, and the results are whole."""
    cells = list(range(60))
    found = grid.run(partial(square, folder=str(tmp_path), deadly=37), cells, executor=two)
    assert [n * n for n in cells] == found
    assert [37] == [cell for cell, times in runs(tmp_path).items() if times > 1]
    assert 2 == runs(tmp_path)[37]


def test_a_cell_that_always_kills_its_worker_does_not_end_the_study(two: Any, tmp_path: Path) -> None:
    """After three deaths it is one failed cell; not lenient, it is an error once the others are on disk."""
    cells, work = list(range(12)), partial(square, folder=str(tmp_path), deadly=5, always=True)
    found = grid.run(work, cells, executor=two, lenient=True)
    assert isinstance(found[5], grid.Failed)
    assert "3 times" in found[5].reason and "\n" not in found[5].reason
    assert [n * n for n in cells if n != 5] == found[:5] + found[6:]
    assert grid.TRIES == runs(tmp_path)[5]
    with pytest.raises(KaratError, match="took its worker with it 3 times"):
        grid.run(work, cells, executor=two, cache=tmp_path / "cache")
    assert 11 == len(list((tmp_path / "cache").glob("*.npz")))


def test_an_error_of_a_cell(two: Any) -> None:
    """Lenient it is a failed cell with its words, else it is raised as what it was; a budget ends all."""
    cells = [1, 2, 3]
    assert [1, 2, grid.Failed("three is no good; leave it out")] == grid.run(
        picky, cells, executor=two, lenient=True
    )
    with pytest.raises(InputError, match="three is no good"):
        grid.run(picky, cells, executor=two)
    with pytest.raises(BudgetSpent):
        grid.run(picky, [1, 4], executor=two, lenient=True)


def test_small_cells_travel_together(two: Any) -> None:
    """A thousand cells of microseconds are far fewer tasks."""
    sent = []

    class Counting:
        workers, one_machine = 2, True

        def scatter(self, function: Any, items: Any) -> Any:
            def counted() -> Any:
                for item in items:
                    sent.append(len(item))
                    yield item

            return two.scatter(function, counted())

    assert [n * n for n in range(1000)] == grid.run(square, list(range(1000)), executor=Counting())
    assert 1000 == sum(sent)
    assert len(sent) < 60


def test_finished_cells_are_not_run_again(tmp_path: Path) -> None:
    """A second call reads them; a file that was cut off, and another study's cells, are run."""
    cache = tmp_path / "cache"
    work = partial(square, folder=str(tmp_path))
    grid.run(work, range(10), cache=cache)
    assert [n * n for n in range(12)] == grid.run(work, range(12), cache=cache)
    assert 12 == sum(runs(tmp_path).values())
    torn = sorted(cache.glob("*.npz"))[0]
    torn.write_bytes(torn.read_bytes()[:40])
    assert [n * n for n in range(12)] == grid.run(work, range(12), cache=cache)
    assert 13 == sum(runs(tmp_path).values())
    grid.run(work, range(12), cache=cache, name="other")
    assert 25 == sum(runs(tmp_path).values())


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    """Text, type and digits; and no file can hold code, since objects are not read."""
    expected = grid.run(scores, [0, 4], cache=tmp_path, pack=pack, unpack=unpack)
    found = grid.run(scores, [0, 4], cache=tmp_path, pack=pack, unpack=unpack)
    for one, other in zip(expected, found):
        assert one[0] == other[0] and one[1].dtype == other[1].dtype
        np.testing.assert_array_equal(one[1], other[1])
    path = next(tmp_path.glob("*.npz"))
    with open(path, "wb") as file:
        np.savez(file, json=np.array([{"evil": 1}], dtype=object))
    grid.run(scores, [0, 4], cache=tmp_path, pack=pack, unpack=unpack)
    with np.load(path, allow_pickle=False) as file:
        assert np.uint8 == file["json"].dtype


def test_cells_with_one_key_are_one_cell(tmp_path: Path) -> None:
    """Twins are run once and have one result."""
    work = partial(square, folder=str(tmp_path))
    assert [4, 4, 9] == grid.run(work, [2, 2, 3])
    assert {2: 1, 3: 1} == dict(runs(tmp_path))


def test_progress_counts_what_is_on_disk_too(tmp_path: Path) -> None:
    """It begins with what is known and ends with all."""
    seen: list[tuple[str, int, int]] = []
    grid.run(square, range(3), cache=tmp_path)
    grid.run(square, range(5), cache=tmp_path, progress=lambda *said: seen.append(said))
    assert [("train", n, 5) for n in (3, 4, 5)] == seen


def slow(value: int, folder: str) -> int:
    square(value, folder)
    time.sleep(0.05)
    return value * value


def test_after_the_driver_was_killed_only_unfinished_cells_are_run(tmp_path: Path) -> None:
    """kill -9 of the process that started all: at most one cell a worker is run twice."""
    script = tmp_path / "study.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from functools import partial\nfrom pathlib import Path\nimport test_grid\n"
        "from karat import registry\nfrom karat.training import grid\n"
        "if __name__ == '__main__':\n"
        f"    grid.run(partial(test_grid.slow, folder={str(tmp_path)!r}), range(60), "
        f"executor=registry.make('executors', 'local:workers=2'), cache=Path({str(tmp_path / 'cache')!r}))\n"
    )
    driver = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "cache").glob("*.npz"))) < 15 and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    before = set(runs(tmp_path))
    done = len(list((tmp_path / "cache").glob("*.npz")))
    assert 15 <= done < 60
    time.sleep(0.5)  # workers end themselves when they see that the driver is gone
    found = grid.run(partial(slow, folder=str(tmp_path)), range(60), cache=tmp_path / "cache")
    assert [n * n for n in range(60)] == found
    again = [cell for cell, times in runs(tmp_path).items() if times > 1]
    assert len(again) <= 2 and set(again) <= before

"""A loop that is killed at random moments ends with the numbers of one that is not.

    python studies/killed_loop.py [--kills 20] [--trainer gpt:preset=mini,steps=40] [--continued]

Runs `karat simulate` in processes of its own, sends SIGKILL after random times (in training, writing,
measuring and in writing of files), starts the same command again until it has been killed so often, lets
it end, and compares all that it prints, but for seconds, with an uninterrupted run of the same seed.

Found: 20 kills of a loop of 58 iterations (--iterations 10), and the numbers are the same.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def command(given: argparse.Namespace, home: Path) -> list[str]:
    """The command line of the loop, whose run folder lies in a home of its own."""
    return [
        sys.executable, "-m", "karat", "simulate", "--task", "logic", "--trainer", given.trainer,
        "--cycles", "full:fresh_share=0.25", "expanding", "--iterations", str(given.iterations),
        "-n", str(given.n), "--seeds", "0", "1", "--run", str(home), "--json",
        *(["--continued"] if given.continued else []),
    ]  # fmt: skip


def finished(home: Path) -> int:
    """How many iterations a run folder holds."""
    return sum(1 for _ in home.glob("work/simulate/*/*.json"))


def without_seconds(text: str) -> dict[str, Any]:
    """What was printed, but for how long it took and where it is kept."""
    found: dict[str, Any] = json.loads(text)
    for run in [*found["runs"], *found["controls"]["runs"]]:
        for row in run["iterations"]:
            row.pop("seconds")
    found.pop("step", None)
    return found


def main() -> None:
    """Run, kill, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trainer", default="gpt:preset=mini,steps=40")
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--continued", action="store_true")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="karat-killed-") as folder:
        began = time.perf_counter()
        whole = subprocess.run(
            command(given, Path(folder) / "whole"), capture_output=True, text=True, check=True
        )
        length = time.perf_counter() - began
        total = finished(Path(folder) / "whole")
        print(f"uninterrupted: {total} iterations in {length:.1f} s", flush=True)
        home = Path(folder) / "killed"
        # Each kill falls somewhere between the end of one random iteration and about the end of the next.
        moments = sorted(draw.choices(range(total), k=given.kills))
        kills = 0
        for moment in moments:
            begun = subprocess.Popen(
                command(given, home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            reached = min(max(moment, finished(home) + 1), total - 1)  # each start gets somewhere
            while begun.poll() is None and finished(home) < reached:
                time.sleep(0.005)
            time.sleep(draw.random() * 1.5 * length / total)
            begun.send_signal(signal.SIGKILL)
            kills += begun.wait() == -signal.SIGKILL
        done = finished(home)
        print(f"{kills} kills by SIGKILL, {done} of {total} iterations were done by then", flush=True)
        last = subprocess.run(command(given, home), capture_output=True, text=True, check=True)
        same = without_seconds(whole.stdout) == without_seconds(last.stdout)
        print(f"the numbers of the loop that goes on are {'the same' if same else 'DIFFERENT'}")
        sys.exit(0 if same and kills == given.kills else 1)


if __name__ == "__main__":
    main()

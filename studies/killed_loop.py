"""A loop that is killed at random moments ends with the numbers of one that is not.

    python studies/killed_loop.py [--kills 20] [--trainer gpt:preset=mini,steps=40] [--continued]

Runs `karat simulate` in processes of its own, sends SIGKILL after random times (in training, writing,
measuring and in writing of files), starts the same command again until it has been killed so often, lets
it end, and compares all that it prints, but for seconds, with an uninterrupted run of the same seed.

Found: see LOG.md.
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
        print(f"uninterrupted: {length:.1f} s", flush=True)
        kills, starts = 0, 0
        # Each start works for a while: about as long as all in all, spread over the kills, after the imports.
        while kills < given.kills:
            starts += 1
            begun = subprocess.Popen(
                command(given, Path(folder) / "killed"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            try:
                begun.communicate(timeout=4 + draw.random() * 2 * length / given.kills)
            except subprocess.TimeoutExpired:
                begun.send_signal(signal.SIGKILL)
                begun.communicate()
                kills += 1
                continue
            print(f"ended after {kills} kills: nothing was left to kill", flush=True)
            break
        last = subprocess.run(
            command(given, Path(folder) / "killed"), capture_output=True, text=True, check=True
        )
        same = without_seconds(whole.stdout) == without_seconds(last.stdout)
        print(f"{kills} kills in {starts} starts: the numbers are {'the same' if same else 'DIFFERENT'}")
        sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()

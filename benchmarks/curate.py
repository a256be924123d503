"""Times curation beside its peers: near-duplicates of made texts, and decontamination.

    python benchmarks/curate.py --out curate.json                      10,000 and 100,000 texts, some minutes
    python benchmarks/curate.py near --sizes 10000 --threshold 0.7
    python benchmarks/curate.py near --text-dedup ~/td/bin/python      an interpreter that has text-dedup

Each figure comes from a process of its own. All sides get the same texts of lower-case words, 5-word
shingles, one threshold and 128 hashes, and drop all but the first of each connected component; peers take
what their index finds, as their documents show, karat computes the true coefficient of each. Truth is the
exact join: of a component of m texts m - 1 should go, whichever stays. Recall is the share of those that go,
precision the share of what goes that is among them. Seconds are those of the processor, with child processes,
and of the wall; memory is what the work takes on top of imports and texts. text-dedup is timed as the whole
program that it is; the seconds of its start, measured on 100 texts, are stated, and its memory is that of the
whole program.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _corpus
import numpy as np
from audit import fresh_peak, peak_mib, seconds

N, HASHES = 5, 128
SIDES = ("karat exact", "karat minhash", "rensa", "datasketch", "text-dedup")
SECTIONS = ("near", "decontaminate")


def texts_of(n: int) -> list[str]:
    """Texts of about 60 lower-case words, a fifth of them earlier ones with one to four words changed."""
    draw = np.random.default_rng(11)
    found = [
        [word for word in text.replace(".", "").replace(",", "").split(" ") if word]
        for text in _corpus.texts(n, seed=11)
    ]
    for i in np.flatnonzero(draw.random(n) < 0.2).tolist():
        if i:
            words = list(found[int(draw.integers(0, i))])
            for _ in range(int(draw.integers(1, 5))):
                words[int(draw.integers(0, len(words)))] = "changed"
            found[i] = words
    return [" ".join(words) for words in found]


def shingles(text: str) -> list[str]:
    """The 5-word shingles of a text; a shorter one is one shingle."""
    words = text.split(" ")
    return [" ".join(words[i : i + N]) for i in range(max(1, len(words) - N + 1))]


# ------------------------------------------------------------------------------------ what each side does


def karat(method: str) -> Callable[[list[str], float], dict[int, int]]:
    """Karat's filter, from texts to verdicts with reasons, which name what stays in place of each."""

    def drop(texts: list[str], threshold: float) -> dict[int, int]:
        from karat import records, registry

        spec = f"near_duplicates:threshold={threshold},n={N},method={method},clusters=component"
        given = records.from_rows([{"id": f"{row}", "text": text} for row, text in enumerate(texts)])
        reasons = registry.make("filters", spec).judge(given).reasons
        return {row: int(why.split(" with ")[1].split(",")[0]) for row, why in reasons.items()}

    return drop


def datasketch(texts: list[str], threshold: float) -> list[int]:
    """MinHash of each text, LSH, and the connected components of what each query finds."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=HASHES)
    pairs: list[tuple[int, int]] = []
    whole = MinHash.generator([[s.encode() for s in shingles(text)] for text in texts], num_perm=HASHES)
    for row, sketch in enumerate(whole):
        pairs += [(int(other), row) for other in index.query(sketch)]
        index.insert(row, sketch)
    return later(len(texts), pairs)


def rensa(texts: list[str], threshold: float) -> list[int]:
    """Digests of all texts at once, LSH, and the connected components of what each query finds."""
    from rensa import RMinHash, RMinHashLSH

    sketches = RMinHash.from_token_sets([shingles(text) for text in texts], num_perm=HASHES, seed=42)
    index = RMinHashLSH(threshold=threshold, num_perm=HASHES, num_bands=bands(threshold))
    pairs: list[tuple[int, int]] = []
    for row, sketch in enumerate(sketches):
        pairs += [(int(other), row) for other in index.query(sketch)]
        index.insert(row, sketch)
    return later(len(texts), pairs)


def bands(threshold: float) -> int:
    """The divisor of 128 whose bands come nearest to datasketch's choice for the threshold."""
    from datasketch import MinHashLSH

    wanted = MinHashLSH(threshold=threshold, num_perm=HASHES).b
    return min((d for d in range(1, HASHES + 1) if HASHES % d == 0), key=lambda d: abs(d - wanted))


def later(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """All rows but the first of each connected component."""
    parent = list(range(n))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for one, other in pairs:
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    return [row for row in range(n) if root(row) != row]


def text_dedup(python: str, texts: list[str], threshold: float) -> tuple[list[int], float, float]:
    """Run the program text_dedup.minhash in its own environment: dropped rows, its CPU seconds, its MiB."""
    with tempfile.TemporaryDirectory(prefix="karat-bench-") as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / "out"
        with source.open("w", encoding="utf-8") as file:
            for row, text in enumerate(texts):
                file.write(json.dumps({"text": text, "row": row}) + "\n")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [python, "-m", "text_dedup.minhash", "--path", "json", "--data_files", str(source)]
        command += ["--split", "train", "--cache_dir", f"{folder}/cache", "--output", str(target)]
        command += ["--column", "text", "--ngram", str(N), "--min_length", "1", "--num_perm", str(HASHES)]
        command += ["--threshold", str(threshold), "--num_proc", "1", "--batch_size", "10000"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ImportError(f"text-dedup: {last}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        read = f"import datasets, json; kept = datasets.load_from_disk({str(target)!r}); "
        read += "print(json.dumps(list(kept['row'])))"
        shown = subprocess.run([python, "-c", read], capture_output=True, text=True, check=True)
        stay = set(json.loads(shown.stdout.splitlines()[-1]))
        return [row for row in range(len(texts)) if row not in stay], cpu, after.ru_maxrss / 1024


def near_once(side: str, n: int, threshold: float, python: str) -> dict[str, Any]:
    """One side on n texts: dropped rows, seconds, memory."""
    texts = texts_of(n)
    if side == "text-dedup":
        wall = time.perf_counter()
        dropped, cpu, mib = text_dedup(python, texts, threshold)
        wall = time.perf_counter() - wall
        _, start, _ = text_dedup(python, texts[:100], threshold)
        return {"dropped": dropped, "cpu_s": cpu, "wall_s": wall, "mib": mib, "start_s": start}
    work: Any = {
        "karat exact": karat("exact"),
        "karat minhash": karat("minhash"),
        "datasketch": datasketch,
        "rensa": rensa,
    }[side]
    work(texts[:200], threshold)  # imports and caches
    before = fresh_peak()
    wall, cpu = time.perf_counter(), seconds()
    dropped = work(texts, threshold)
    found = {
        "cpu_s": seconds() - cpu,
        "wall_s": time.perf_counter() - wall,
        "mib": peak_mib() - before,
    }
    stands = list(dropped.values()) if isinstance(dropped, dict) else []
    return {**found, "dropped": list(dropped), "stands": stands}


def decontaminate_once(kinds: str, n: int, tests: int) -> dict[str, Any]:
    """Karat's decontamination of n texts against test items of the same language."""
    from karat import records, registry

    with tempfile.TemporaryDirectory(prefix="karat-bench-") as folder:
        items = records.from_rows([{"text": text} for text in _corpus.texts(tests, seed=12)])
        path = items.write(Path(folder) / "test.jsonl")
        texts = texts_of(n)
        texts[:: max(1, n // 100)] = items.texts()[: len(texts[:: max(1, n // 100)])]
        given = records.from_rows([{"text": text} for text in texts])
        part = registry.make("filters", f"decontaminate:{path},kinds={kinds}")
        part.judge(given.slice(0, 200))
        before = fresh_peak()
        wall, cpu = time.perf_counter(), seconds()
        found = part.judge(given)
        return {
            "dropped": len(found.reasons),
            "cpu_s": seconds() - cpu,
            "wall_s": time.perf_counter() - wall,
            "mib": peak_mib() - before,
        }


def child(**order: Any) -> dict[str, Any]:
    """Run one measurement in a process of its own. Raises ImportError where a package is missing."""
    command = [sys.executable, __file__, "--one", json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
        if any(word in last for word in ("ImportError", "ModuleNotFoundError", "No module")):
            raise ImportError(last)
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


# ------------------------------------------------------------------------------------------ sections


def near(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """All sides on the same texts; karat's MinHash is what ratios are of."""
    rows: list[dict[str, Any]] = []
    truth: dict[int, int] = {}
    print(f"{'side':14}       n     cpu s    wall s   ratio      MiB  dropped  recall  precision")
    for n in asked.sizes:
        truth = {}
        base = 0.0
        for side in SIDES:
            if asked.sides and not any(word in side for word in (*asked.sides, "karat")):
                continue
            try:
                found = child(side=side, n=n, threshold=asked.threshold, python=asked.text_dedup)
            except ImportError as error:
                print(f"{side:14} {n:7,} skipped: {error}")
                rows.append({"side": side, "n": n, "skipped": str(error)})
                continue
            dropped, stands = found.pop("dropped"), found.pop("stands", [])
            truth = truth or dict(zip(dropped, stands))
            base = found["cpu_s"] if side == "karat minhash" else base
            both = rightly(dropped, truth)
            row = {
                "side": side,
                "n": n,
                **found,
                "dropped": len(dropped),
                "ratio": found["cpu_s"] / base if base else None,
                "recall": both / max(1, len(truth)),
                "precision": both / max(1, len(dropped)),
                "load": os.getloadavg()[0],
            }
            rows.append(row)
            ratio = f"{row['ratio']:7.2f}" if row["ratio"] else "       "
            start = f"  start {row['start_s']:.1f} s of it" if "start_s" in row else ""
            print(
                f"{side:14} {n:7,} {row['cpu_s']:9.2f} {row['wall_s']:9.2f} {ratio} {row['mib']:8.0f} "
                f"{row['dropped']:8,} {row['recall']:7.3f} {row['precision']:10.3f}{start}",
                flush=True,
            )
    return rows


def rightly(dropped: list[int], truth: dict[int, int]) -> int:
    """How many of the dropped rows are rightly so: at most all but one of each component."""
    sizes = Counter(truth.values())
    gone = Counter(truth.get(row, row) for row in dropped)
    return sum(min(count, sizes[root]) for root, count in gone.items() if root in sizes)


def decontaminate(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Karat's kinds of decontamination against 1,000 test items, a hundred of them planted."""
    rows = []
    print(f"{'kinds':22}       n     cpu s  texts/s      MiB  dropped")
    for n in asked.sizes:
        for kinds in ("exact", "exact+ngram", "near", "semantic"):
            found = child(kinds=kinds, n=n, tests=1_000)
            rows.append({"kinds": kinds, "n": n, **found})
            speed = n / found["cpu_s"]
            print(
                f"{kinds:22} {n:7,} {found['cpu_s']:9.2f} {speed:8,.0f} {found['mib']:8.0f} "
                f"{found['dropped']:8,}",
                flush=True,
            )
    return rows


def main() -> None:
    """Run the sections asked for; print tables and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", default=[], help=" ".join(SECTIONS))
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--sides", nargs="*", default=[], help="words of the names of peers")
    parser.add_argument("--text-dedup", default=sys.executable, help="an interpreter that has text-dedup")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        order = json.loads(asked.one)
        print(json.dumps(near_once(**order) if "side" in order else decontaminate_once(**order)))
        return
    unknown = set(asked.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section named {', '.join(sorted(unknown))} (there are: {', '.join(SECTIONS)})")
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threshold": asked.threshold,
        "shingle": N,
        "hashes": HASHES,
    }
    for section in asked.sections or SECTIONS:
        print(f"\n{section}")
        result[section] = globals()[section](asked)
        if asked.out:
            asked.out.write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()

"""Times the audit: growth with the corpus, a corpus larger than memory, executors, and peers side by side.

    python benchmarks/audit.py --out audit.json                    growth and peers, some minutes
    python benchmarks/audit.py growth --sizes 10000 100000 1000000 --mean 20
    python benchmarks/audit.py streaming --gigabytes 2             a file larger than the memory it takes
    python benchmarks/audit.py executors --sizes 300000            local, local:workers=2, ray:workers=2
    python benchmarks/audit.py peers --peers nltk vendi

Each figure comes from a process of its own. Seconds are those of the processor (with all threads and worker
processes that have ended) and of the wall; on a busy machine the wall says little, and the load stands in
the result. Peaks of memory are those of the whole process; of peers, what the work took on top of imports
and data. Exponents are slopes of log processor seconds over log size, by least squares.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SECTIONS = ("growth", "peers", "executors", "streaming")


def peak_mib() -> float:
    """The peak of resident memory since `fresh_peak`, or of the whole process where that cannot be asked."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fresh_peak() -> float:
    """Forget the peak so far (Linux); return what is resident now, in MiB."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def seconds() -> float:
    """Processor seconds of this process and of all that have ended."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def exponent(sizes: list[float], times: list[float]) -> float | None:
    """The slope of log time over log size; None below three sizes."""
    if len(sizes) < 3 or min(times) <= 0:
        return None
    return round(float(np.polyfit(np.log(sizes), np.log(times), 1)[0]), 2)


def text_metrics(reference: bool) -> list[str]:
    """The metrics that an audit of labelled texts runs by itself and that need no encoder."""
    from karat import registry
    from karat.auditing.base import Facts

    plain = Facts("classification", frozenset({"text", "label", "id"}))
    found = []
    for name in registry.names("metrics"):
        metric = registry.make("metrics", name)
        possible = metric.default and "classification" in metric.datatypes and not metric.judged
        if not possible or metric.lacks(plain, plain) or (metric.needs_reference and not reference):
            continue
        if not {need.kind for need in metric.needs()} & {"embeddings", "vectors", "moments"}:
            found.append(name)
    return found


# ------------------------------------------------------------------------- what a child process does


def audit_once(
    candidate: str, reference: str | None, executor: str, metrics: str, memory: int
) -> dict[str, Any]:
    """Read and audit files as the command does, in this process."""
    from karat import records, registry
    from karat.auditing.stage import audit

    wall, cpu = time.perf_counter(), seconds()
    scratch = Path(candidate).parent
    mine = records.read(candidate, scratch=scratch)
    theirs = None if reference is None else records.read(reference, scratch=scratch)
    read = seconds() - cpu
    names = metrics.split() or text_metrics(theirs is not None)
    place = registry.make("executors", executor)
    audited = audit(mine, theirs, metrics=names, executor=place, memory=memory, journal=scratch)
    return {
        "records": len(mine),
        "reference": theirs is not None,
        "executor": executor,
        "metrics": len(audited.scores),
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(seconds() - cpu, 2),
        "read_cpu_s": round(read, 2),
        "peak_mib": round(peak_mib()),
        "worker_peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "tokens": audited.score("tokens").value if "tokens" in names else None,
        "scores": {score.signature: [score.value, score.interval, score.p] for score in audited.scores},
        "load": os.getloadavg()[0],
    }


def peer_once(name: str, side: str, n: int) -> dict[str, Any]:
    """One side of a comparison: its value, its seconds and the memory that it takes on top of its data.

    side: peer; value, what karat computes of the same; audit, the same with its interval
    """
    import _peers

    (peer,) = (one for one in _peers.PEERS if one.name == name)
    if side == "peer":
        work: Any = peer.peer
    elif side == "audit":
        work = partial(audited, peer.metrics)
    else:
        work = peer.mine or partial(valued, peer.metrics)
    work(peer.data(60 if side == "peer" else 1000))  # imports and caches
    data = peer.data(n)
    if peer.mine is not None:
        _peers.vectors(tuple(data))
    before = fresh_peak()
    wall, cpu = time.perf_counter(), seconds()
    value = work(data)
    return {
        "value": value,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": seconds() - cpu,
        "mib": peak_mib() - before,
    }


def audited(metrics: str, data: Any) -> float:
    """What an audit prints, with its interval; the sum of several metrics."""
    from karat import records
    from karat.auditing.stage import audit

    kept = records.from_rows([one if isinstance(one, dict) else {"text": one} for one in data])
    return sum(float(score.value or 0) for score in audit(kept, metrics=metrics, budget="small").scores)


def valued(metrics: str, data: Any) -> float:
    """The same values alone, which is what peers compute; an audit where there is no such thing."""
    from karat import records, registry
    from karat.auditing import passes, summaries
    from karat.auditing.base import form, point

    made = registry.make_all("metrics", metrics.split())
    if any(form(metric) != "values" for metric in made):
        return audited(metrics, data)
    kept = records.from_rows([one if isinstance(one, dict) else {"text": one} for one in data])
    local = registry.make("executors", "local")
    settings = passes.Settings("proper", 0, "small", 0, 100, "lsa", local, lambda *_: None)
    needs = tuple(summaries.resolve(need, metric.size, {}) for metric in made for need in metric.needs())
    passed = passes.run([passes.Side.of(kept)], tuple(dict.fromkeys(needs)), settings)
    groups = max(passed.groups.values())
    return sum(
        point(metric, summaries.Window(passed.stacked, metric.size, 0, groups, len(kept), {}))
        for metric in made
    )


def child(**order: Any) -> dict[str, Any]:
    """Run one measurement in a process of its own. Raises ImportError where a package is missing."""
    command = [sys.executable, __file__, "--one", json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
        if any(word in last for word in ("ImportError", "ModuleNotFoundError", "MissingExtra")):
            raise ImportError(last)
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


# ------------------------------------------------------------------------------------------ sections


def corpora(folder: Path, n: int, mean: int) -> tuple[str, str]:
    """Two files of n records each."""
    import _corpus

    pair = [_corpus.write(folder / f"{n}-{seed}.jsonl", n, seed=seed, mean=mean) for seed in (1, 2)]
    return str(pair[0]), str(pair[1])


HEAD = " records  reference         executor metrics   wall s    cpu s  peak MiB  worker MiB  load"


def line(row: dict[str, Any]) -> str:
    """One audit as a row of the table."""
    return (
        f"{row['records']:8,} {row['reference']!s:>10} {row['executor']:>16} {row['metrics']:7} "
        f"{row['wall_s']:8.1f} {row['cpu_s']:8.1f} {row['peak_mib']:9,} {row['worker_peak_mib']:11,} "
        f"{row['load']:5.1f}"
    )


def growth(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Audits of growing files, alone and with a reference of the same size."""
    rows = []
    print(HEAD)
    for n in asked.sizes:
        mine, theirs = corpora(folder, n, asked.mean)
        for reference in (None, theirs):
            order = {"candidate": mine, "reference": reference, "executor": asked.executor}
            rows.append(child(**order, metrics=asked.metrics, memory=asked.memory))
            print(line(rows[-1]), flush=True)
    fitted = {}
    for reference, name in ((False, "alone"), (True, "reference")):
        some = [row for row in rows if row["reference"] is reference]
        fitted[name] = exponent([row["records"] for row in some], [row["cpu_s"] for row in some])
    print(f"exponent of processor seconds: alone {fitted['alone']}, with a reference {fitted['reference']}")
    return {"rows": rows, "exponent": fitted}


def executors(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The same audit in this process, in two processes, on two workers of Ray; the numbers must agree."""
    rows: list[dict[str, Any]] = []
    print(HEAD)
    mine, theirs = corpora(folder, asked.sizes[-1], asked.mean)
    for executor in ("local", "local:workers=2", "ray:workers=2"):
        order = {"candidate": mine, "reference": theirs, "executor": executor}
        try:
            rows.append(child(**order, metrics=asked.metrics, memory=asked.memory))
        except ImportError as error:
            print(f"{executor} skipped: {error}")
            continue
        same = rows[-1]["scores"] == rows[0]["scores"]
        print(line(rows[-1]), "same numbers" if same else "OTHER NUMBERS", flush=True)
    return {"rows": rows}


def streaming(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A file that is larger than the memory that its audit takes."""
    import _corpus

    path = folder / "large.jsonl"
    with path.open("wb") as file:
        seed = 9_000
        while file.tell() < asked.gigabytes * 1e9:
            for block in _corpus.blocks(50_000, seed=seed, mean=120):
                block.write_ndjson(file)
            seed += 1
    order = {"candidate": str(path), "reference": None, "executor": asked.executor}
    row = child(**order, metrics=asked.metrics, memory=asked.memory)
    row["file_mib"] = round(path.stat().st_size / 2**20)
    path.unlink()
    print(f"{HEAD}\n{line(row)}")
    share = row["peak_mib"] / row["file_mib"]
    print(f"file {row['file_mib']:,} MiB, peak {row['peak_mib']:,} MiB: {share:.2f} of it")
    return {"rows": [row]}


def peers(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every comparison at its sizes: values, seconds, memory, exponents."""
    import _peers

    found: dict[str, Any] = {}
    print(f"{'peer':28}       n    peer s  karat s  ratio  audit s   peer MiB  karat MiB  differ")
    for peer in _peers.PEERS:
        if asked.peers and not any(word in peer.name for word in asked.peers):
            continue
        try:
            rows = [compared(peer, n) for n in peer.sizes[: asked.most_sizes]]
        except ImportError as error:
            print(f"{peer.name:28} skipped: {error}")
            found[peer.name] = {"skipped": str(error)}
            continue
        sizes = [float(row["n"]) for row in rows]
        fitted = {side: exponent(sizes, [row[side]["cpu_s"] for row in rows]) for side in ("peer", "value")}
        found[peer.name] = {
            "rows": rows,
            "exponent": fitted,
            "tolerance": peer.tolerance,
            "note": peer.note,
        }
        print(f"{'':28} exponent: peer {fitted['peer']}, karat {fitted['value']}  {peer.note}", flush=True)
    return found


def compared(peer: Any, n: int) -> dict[str, Any]:
    """One comparison at one size, printed as a row."""
    row: dict[str, Any] = {side: child(name=peer.name, side=side, n=n) for side in ("peer", "value", "audit")}
    one, other = row["peer"], row["value"]
    gap = abs(one["value"] - other["value"]) / (abs(one["value"]) if peer.relative else 1)
    row |= {"n": n, "difference": gap, "equal": gap <= peer.tolerance}
    row["ratio"] = one["cpu_s"] / max(other["cpu_s"], 1e-6)
    print(
        f"{peer.name:28} {n:7,} {one['cpu_s']:9.3f} {other['cpu_s']:8.4f} {row['ratio']:6.1f} "
        f"{row['audit']['cpu_s']:8.3f} {one['mib']:10.1f} {other['mib']:10.1f} {gap:7.0e}"
        f"{'' if row['equal'] else '  DIFFERS'}",
        flush=True,
    )
    return row


def main() -> None:
    """Run the sections asked for; print tables and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", default=[], help=" ".join(SECTIONS))
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 30_000, 100_000])
    parser.add_argument("--mean", type=int, default=20, help="tokens a record")
    parser.add_argument("--metrics", default="", help="all text metrics without an encoder when not given")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--memory", type=int, default=256, help="MiB of n-grams kept in memory")
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--peers", nargs="*", default=[], help="words of the names of peers")
    parser.add_argument("--most-sizes", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        order = json.loads(asked.one)
        print(json.dumps(peer_once(**order) if "side" in order else audit_once(**order)))
        return
    unknown = set(asked.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section named {', '.join(sorted(unknown))} (there are: {', '.join(SECTIONS)})")
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="karat-bench-") as folder:
        for section in asked.sections or ["growth", "peers"]:
            print(f"\n{section}")
            result[section] = globals()[section](asked, Path(folder))
            if asked.out:
                asked.out.write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()

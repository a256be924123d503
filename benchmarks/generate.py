"""Times generation: karat, the fastest loop there is and all peers at one server; then what breaks them.

    python benchmarks/generate.py --out generate.json              throughput of all clients, about an hour
    python benchmarks/generate.py --clients bare karat karat_engine --sizes 2000 10000 --repeats 3
    python benchmarks/generate.py --clients bare karat --sizes 10000 100000    does memory grow?
    python benchmarks/generate.py failures                         a poisoned prompt, slow calls, a rate limit
    python benchmarks/generate.py kill --kills 50                  kill -9, restart, count what came again

The server answers after 50 ms and has a process of its own, and so has each client. Clients take turns;
figures are medians over repeats. gen s: from the first request that the server saw to the last. cpu s and
peak MiB: of the client's whole tree of processes, start-up included. cpu ms a request: the difference of the
largest and the smallest size, so that start-up does not count. On a busy machine the wall and gen s say
little; processor seconds and ratios do. Peers get environments of their own under --venvs, made on first use.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from _generate_measure import Measured, Server, Unavailable, environment, run

SECTIONS = ("throughput", "failures", "kill")
PEERS = {
    "openai": ("openai==3.*",),
    "curator": ("bespokelabs-curator==0.1.31",),
    "distilabel": ("distilabel[openai]==1.5.3", "requests"),
    "datadesigner": ("data-designer==0.9.7",),
}
CLIENTS = ("bare", "karat_engine", "karat", *PEERS)

# The attribute space is larger than the largest run, so that no two rows have the same prompt.
TASK = """
name = "reviews"
domain = "restaurant review"
type = "classification"

[labels]
positive = "the guest would come again"
negative = "the guest would not come again"

[attributes]
"""
SPACE = {"dish": 40, "place": 30, "occasion": 20, "voice": 10}


# --------------------------------------------------------------------------------------- one run of a client


def command(name: str, order: dict[str, Any], venvs: Path) -> list[str]:
    """How a client is started. Raises Unavailable."""
    folder = Path(order["folder"])
    if name == "karat":
        task = folder / "task.toml"
        values = {key: [f"{key} {i}" for i in range(count)] for key, count in SPACE.items()}
        task.write_text(
            TASK + "\n".join(f"{key} = {json.dumps(one)}" for key, one in values.items()), "utf-8"
        )
        provider = f"openai_compatible:model=mock,url={order['url']}"
        flags = {
            "--task": task,
            "--provider": provider,
            "--recipe": "attributed",
            "--n": order["n"],
            "--concurrency": order["concurrency"],
            "--out": order["out"],
            "--run": folder / "run",
        }
        told = [str(word) for pair in flags.items() for word in pair]
        return [sys.executable, "-m", "karat", "generate", *told, "--quiet"]
    python = environment(name, PEERS[name], venvs) if name in PEERS else sys.executable
    return [python, str(Path(__file__).with_name("_generate_clients.py")), name, json.dumps(order)]


@contextmanager
def ordered(name: str, asked: argparse.Namespace, server: Server, n: int, concurrency: int) -> Iterator[Any]:
    """A folder for one client, and how the client is started there."""
    with tempfile.TemporaryDirectory(prefix=f"karat-bench-{name}-", ignore_cleanup_errors=True) as folder:
        order: dict[str, Any] = {
            "url": server.url,
            "n": n,
            "concurrency": concurrency,
            "folder": folder,
            "out": f"{folder}/out.jsonl",
        }
        yield Path(folder), command(name, order, asked.venvs), Path(f"{folder}/out.jsonl")


def delivered(path: Path) -> list[str]:
    """The names of the requests whose answers stand in a file of records, one for each row with a text."""
    if not path.exists():
        return []
    names = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            found = re.search(r"Visit ([0-9a-f]{16})\.", json.loads(line).get("text") or "")
            if found:
                names.append(found[1])
    return names


def once(
    name: str, asked: argparse.Namespace, server: Server, n: int, concurrency: int, **trouble: Any
) -> dict[str, Any]:
    """One client from start to end: what it took, what the server saw, what came out."""
    server.reset(**trouble)
    with ordered(name, asked, server, n, concurrency) as (folder, line, out):
        done = run(line, folder, timeout=asked.timeout)
        rows = delivered(out)
    seen = server.stats()
    row: dict[str, Any] = {"client": name, "n": n, "concurrency": concurrency, "rows": len(rows)}
    row["load"] = os.getloadavg()[0]
    row |= asdict(done) | {f"server_{key}": value for key, value in seen.items()}
    row["gen_s"] = seen["gen_s"]
    row["busy"] = seen["statuses"].get("429", 0)
    row["failed"] = "" if done.rc == 0 and rows else f"exit code {done.rc}: {done.last}"
    return row


def attempt(name: str, *args: Any, **trouble: Any) -> dict[str, Any]:
    """The same, or the reason why there is none."""
    try:
        return once(name, *args, **trouble)
    except Unavailable as error:
        return {"client": name, "rows": 0, "failed": str(error)}


# ------------------------------------------------------------------------------------------------ throughput

HEAD = (
    "client           n     C    rows   gen s   req/s  of bare  wall s   cpu s  peak MiB  again   429  load"
)
NUMBERS = ("rows", "gen_s", "wall_s", "cpu_s", "peak_mib", "server_again", "server_peak", "busy", "load")


def line(row: dict[str, Any], of_bare: float | None) -> str:
    """One row of the table."""
    ratio = "-" if of_bare is None else f"{of_bare:.2f}"
    return (
        f"{row['client']:12} {row['n']:6,} {row['concurrency']:5} {row['rows']:7,.0f} {row['gen_s']:7.2f} "
        f"{row['n'] / max(row['gen_s'], 1e-9):7,.0f} {ratio:>8} {row['wall_s']:7.1f} {row['cpu_s']:7.2f} "
        f"{row['peak_mib']:9.0f} {row['server_again']:6.0f} {row['busy']:5.0f} {row['load']:5.1f}"
    )


def throughput(asked: argparse.Namespace, server: Server) -> dict[str, Any]:
    """All clients at all sizes, taking turns."""
    runs: list[dict[str, Any]] = []
    away: dict[str, str] = {}
    print(HEAD)
    for _ in range(asked.repeats):
        for n in asked.sizes:
            for concurrency in asked.concurrency:
                for name in asked.clients:
                    if name in away:
                        continue
                    row = attempt(name, asked, server, n, concurrency)
                    if row["failed"]:
                        print(f"{name:12} {n:6,} {concurrency:5} FAILED: {row['failed']}", flush=True)
                        away |= {name: row["failed"]} if "n" not in row else {}
                        continue
                    runs.append(row)
                    print(line(row, None), flush=True)
    middle = medians(runs)
    print(f"\nmedians of {asked.repeats}\n{HEAD}")
    for row in middle:
        print(line(row, row["gen_of_bare"]))
    margins = marginal(middle)
    print("\nclient           C  cpu ms a request  of bare   peak MiB, smallest and largest size")
    for one in margins:
        ratio = "-" if one["of_bare"] is None else f"{one['of_bare']:.1f}"
        print(
            f"{one['client']:12} {one['concurrency']:5} {one['cpu_ms']:17.3f} {ratio:>8} "
            f"{one['peak_mib'][0]:10.0f} {one['peak_mib'][1]:7.0f}"
        )
    return {"runs": runs, "medians": middle, "marginal": margins, "skipped": away}


def medians(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The medians of each client at each size, with gen s as a multiple of the bare loop's."""
    cells: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
    for row in runs:
        cells.setdefault((row["n"], row["concurrency"], row["client"]), []).append(row)
    middle: dict[tuple[int, int, str], dict[str, Any]] = {
        key: {"client": key[2], "n": key[0], "concurrency": key[1]}
        | {name: median(row[name] for row in rows) for name in NUMBERS}
        for key, rows in cells.items()
    }
    for (n, concurrency, _), row in middle.items():
        bare = middle.get((n, concurrency, "bare"))
        row["gen_of_bare"] = None if bare is None else row["gen_s"] / bare["gen_s"]
    return [middle[key] for key in sorted(middle, key=lambda one: (one[0], one[1], CLIENTS.index(one[2])))]


def marginal(middle: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Processor milliseconds that one more request takes, from the smallest and the largest size."""
    found = []
    for concurrency in sorted({row["concurrency"] for row in middle}):
        for name in CLIENTS:
            rows = [row for row in middle if (row["client"], row["concurrency"]) == (name, concurrency)]
            if len(rows) < 2:
                continue
            cpu = 1000 * (rows[-1]["cpu_s"] - rows[0]["cpu_s"]) / (rows[-1]["n"] - rows[0]["n"])
            peaks = [rows[0]["peak_mib"], rows[-1]["peak_mib"]]
            found.append({"client": name, "concurrency": concurrency, "cpu_ms": cpu, "peak_mib": peaks})
    bare = {one["concurrency"]: one["cpu_ms"] for one in found if one["client"] == "bare"}
    return [one | {"of_bare": _ratio(one["cpu_ms"], bare.get(one["concurrency"]))} for one in found]


def _ratio(one: float, other: float | None) -> float | None:
    return None if not other else one / other


# -------------------------------------------------------------------------------------------------- failures


def failures(asked: argparse.Namespace, server: Server) -> dict[str, Any]:
    """What breaks clients: each row says what came out and what it cost."""
    c = 64
    cases: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("poison", 1000, {"poison": 500}),
        ("tail", 2000, {"slow": 0.02, "slow_s": 2.0}),
        ("40 a second", 400, {"rate": 40, "burst": 40 * asked.burst_s}),
        ("200 a second", 1000, {"rate": 200, "burst": 200 * asked.burst_s}),
    )
    rows: list[dict[str, Any]] = []
    print("case          client          rows of    n   gen s  ideal s  of ideal  fed %   429  again  wall s")
    for case, n, trouble in cases:
        for name in asked.clients:
            row = attempt(name, asked, server, n, c, **trouble) | {"case": case}
            rows.append(row)
            if "n" not in row:
                print(f"{case:13} {name:12} {row['failed']}", flush=True)
                continue
            if "rate" in trouble:
                row["ideal_s"] = (n - trouble["burst"]) / trouble["rate"]
                served = (row["server_answers"] - trouble["burst"]) / trouble["rate"]
                row["fed"] = served / max(row["server_admitted_s"], 1e-9)
            else:
                slow = trouble.get("slow", 0.0)
                row["ideal_s"] = n * ((1 - slow) * 0.05 + slow * trouble.get("slow_s", 0)) / c
            row["of_ideal"] = row["gen_s"] / row["ideal_s"]
            fed = f"{100 * row['fed']:.0f}" if "fed" in row else "-"
            print(
                f"{case:13} {name:12} {row['rows']:7,} {n:8,} {row['gen_s']:7.2f} {row['ideal_s']:8.2f} "
                f"{row['of_ideal']:9.2f} {fed:>6} {row['busy']:5} {row['server_again']:6} "
                f"{row['wall_s']:7.1f}  {row['failed']}",
                flush=True,
            )
    return {"rows": rows, "burst_s": asked.burst_s}


# ------------------------------------------------------------------------------------------------------ kill


def kill(asked: argparse.Namespace, server: Server) -> dict[str, Any]:
    """SIGKILL at random moments, the same command again; what was lost, doubled and asked for again."""
    found: dict[str, Any] = {}
    n, c = asked.sizes[0], asked.concurrency[0]
    print(f"{n:,} requests, {c} at a time; killed once each, then started again")
    for name in asked.clients:
        if name == "bare":
            continue
        draw = random.Random(asked.seed)
        trials = []
        for trial in range(asked.kills if name.startswith("karat") else asked.peer_kills):
            try:
                trials.append(killed(name, asked, server, n, c, draw))
            except Unavailable as error:
                print(f"{name:12} skipped: {error}")
                break
            row = trials[-1]
            print(
                f"{name:12} {trial + 1:3} killed at {row['seen']:6,}: lost {row['lost']}, doubled "
                f"{row['doubled']}, again {row['again']} ({row['again'] - row['answered']} in flight, "
                f"{row['answered']} answered up to {row['oldest_s'] * 1000:.0f} ms before){row['failed']}",
                flush=True,
            )
        if trials:
            found[name] = {"trials": trials} | told(trials)
            print(f"{name:12} in all: {json.dumps(told(trials))}", flush=True)
    return found


def killed(
    name: str, asked: argparse.Namespace, server: Server, n: int, c: int, draw: random.Random
) -> dict[str, Any]:
    """One kill and one restart. The moment: after a random number of requests and up to 0.2 s more."""
    server.reset()
    number, more = draw.randint(1, n), draw.uniform(0, 0.2)
    reached: list[float] = []

    def now() -> bool:
        if not reached and server.ask("count") >= number:
            reached.append(time.monotonic())
        ripe = bool(reached) and time.monotonic() - reached[0] >= more
        if ripe:
            server.ask("mark")
        return ripe

    with ordered(name, asked, server, n, c) as (folder, line, out):
        first: Measured = run(line, folder, timeout=asked.timeout, kill_when=now)
        time.sleep(0.3)  # answers on their way come to nobody
        before = server.stats()
        then: Measured = run(line, folder, timeout=asked.hang)
        names = delivered(out)
    after = server.stats()
    bad = then.killed or then.rc != 0
    return {
        "killed": first.killed,
        "seen": before["requests"],
        "lost": n - len(set(names)),
        "doubled": len(names) - len(set(names)),
        "again": after["again"] - before["again"],
        "asked": after["requests"] - before["requests"],
        "answered": len(after["late"]),
        "oldest_s": max(after["late"], default=0.0),
        "failed": f"  FAILED: {then.last or then.rc}" if bad else "",
    }


def told(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """What all kills together show."""
    return {
        "kills": sum(one["killed"] for one in trials),
        "complete": sum(not one["failed"] for one in trials),
        "lost": sum(one["lost"] for one in trials),
        "doubled": sum(one["doubled"] for one in trials),
        "in_flight_most": max(one["again"] - one["answered"] for one in trials),
        "again_median": median(one["again"] for one in trials),
        "again_most": max(one["again"] for one in trials),
        "answered_median": median(one["answered"] for one in trials),
        "answered_most": max(one["answered"] for one in trials),
        "oldest_answer_s": max(one["oldest_s"] for one in trials),
    }


def main() -> None:
    """Run the sections asked for; print tables and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", default=[], help=" ".join(SECTIONS))
    parser.add_argument("--clients", nargs="*", default=list(CLIENTS), help=" ".join(CLIENTS))
    parser.add_argument("--sizes", type=int, nargs="*", default=[2_000, 10_000])
    parser.add_argument("--concurrency", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--peer-kills", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=900, help="seconds before a client is given up")
    parser.add_argument("--hang", type=float, default=120, help="the same for a restart after a kill")
    parser.add_argument("--burst-s", type=float, default=0.25, help="seconds of a rate that may come at once")
    parser.add_argument("--venvs", type=Path, default=Path(tempfile.gettempdir()) / "karat-peers")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    for given, known in ((asked.sections, SECTIONS), (asked.clients, CLIENTS)):
        if unknown := set(given) - set(known):
            parser.error(f"nothing is named {', '.join(sorted(unknown))} (there are: {', '.join(known)})")
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    for section in asked.sections or ["throughput"]:
        print(f"\n{section}")
        with Server() as server:
            result[section] = globals()[section](asked, server)
        if asked.out:
            asked.out.write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()

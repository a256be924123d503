"""Runs and measures a tree of processes; runs the server; makes environments. Knows no client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Nothing of what is compared may talk to anybody but the server.
SILENT = {
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NEMO_TELEMETRY_ENABLED": "false",
    "TELEMETRY_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}


class Unavailable(Exception):
    """A client cannot be run here; says why in one line."""


@dataclass(frozen=True)
class Measured:
    """A finished program: seconds (wall, processors), the peak of memory in MiB, its last words."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    rc: int
    last: str = ""
    killed: bool = False


class Server:
    """The server in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_generate_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.url = f"{self.address}/v1"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Read what the server tells."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.address}/{path}", data, timeout=30) as reply:
            return json.loads(reply.read())

    def reset(self, **trouble: Any) -> None:
        """Forget all counts."""
        self.ask("reset", trouble)

    def stats(self) -> dict[str, Any]:
        """What was counted since."""
        stats: dict[str, Any] = self.ask("stats")
        return stats


def run(
    command: Sequence[str],
    folder: Path,
    *,
    timeout: float = 900,
    kill_when: Callable[[], bool] | None = None,
) -> Measured:
    """Run a program with `folder` as its home; SIGKILL for its whole tree when `kill_when` says so.

    Processor seconds are those that the kernel accounts to the program and what it waited for, or the sum
    of what was seen of each process, whichever is more. Memory is the sum of resident sizes over the tree,
    sampled ten times a second: pages that processes share count once for each.
    """
    import psutil

    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env |= SILENT | {"HOME": str(folder), "OPENAI_API_KEY": "none"}
    errors = folder / "stderr.txt"
    start = time.perf_counter()
    with errors.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=file, stderr=file, start_new_session=True
        )
    tree = psutil.Process(process.pid)
    cpu: dict[int, float] = {}
    peak, sampled, killed, waited = 0.0, 0.0, False, None
    while waited is None:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            waited = usage
            process.returncode = os.waitstatus_to_exitcode(status)
            break
        now = time.perf_counter() - start
        if now > timeout or (kill_when is not None and not killed and kill_when()):
            killed = True
            os.killpg(process.pid, signal.SIGKILL)
        elif now - sampled > 0.1:
            sampled, resident = now, 0
            try:
                for one in (tree, *tree.children(recursive=True)):
                    with one.oneshot():
                        resident += one.memory_info().rss
                        times = one.cpu_times()
                        cpu[one.pid] = times.user + times.system
            except psutil.Error:
                pass
            peak = max(peak, resident / 2**20)
        time.sleep(0.002 if kill_when else 0.01)
    wall = time.perf_counter() - start
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their parent
    scale = 2**10 if sys.platform != "darwin" else 2**20
    talk = [line for line in errors.read_text("utf-8", "replace").splitlines() if line.strip()]
    return Measured(
        wall,
        max(waited.ru_utime + waited.ru_stime, sum(cpu.values())),
        max(peak, waited.ru_maxrss / scale),
        process.returncode,
        "timed out" if killed and wall > timeout else " | ".join(talk[-2:])[-200:],
        killed,
    )


def environment(name: str, packages: Sequence[str], venvs: Path) -> str:
    """The interpreter of a virtual environment with these packages, made if it is not there yet.

    Raises Unavailable when they cannot be installed.
    """
    folder = venvs / name
    python, ready, wanted = folder / "bin" / "python", folder / "ready.txt", " ".join(packages)
    if ready.exists() and ready.read_text("utf-8") == wanted:
        return str(python)
    print(f"installing {wanted} in {folder}", file=sys.stderr, flush=True)
    venvs.mkdir(parents=True, exist_ok=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise Unavailable(f"cannot install {wanted}: {last[0][:120]}")
    ready.write_text(wanted, "utf-8")
    return str(python)

"""Well-known servers from pip, each in a process of its own on a free port. Knows nothing of karat.

    with llama_cpp(gguf) as server:
        ...  # any client at server.url, which ends in /v1, for the model server.model

A server whose package is not installed skips the test and says which package is missing.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROXY_KEY = "sk-proxy-of-the-tests-0123456789"


@dataclass(frozen=True)
class RealServer:
    """Where a server is and what it can do."""

    name: str
    version: str
    url: str
    model: str
    logprobs: bool = False
    grammar: bool = False
    """whether an answer follows the schema of {"type": "json_object", "schema": ...}"""
    pins_model: bool = False
    """whether another model's name is an error"""
    counts_end: bool = False
    """whether the end token is one of the tokens out"""
    cuts_stop: bool = True
    """whether a stop text is left out of the answer"""
    checks_context: bool = False
    seeds_alone: bool = False
    """whether a seed holds only while no other call is in the air"""


def _installed(*packages: str) -> str:
    """The version of the first; skips where one is missing."""
    versions = []
    for package in packages:
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the package {package} is not installed: pip install 'karat[servers]'")
    return versions[0]


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


@contextlib.contextmanager
def _running(
    command: Sequence[str], ready: str, *, env: Mapping[str, str] | None = None, patience: float = 180
) -> Iterator[None]:
    """Start, wait for an answer at `ready`, stop in the end by the process's id."""
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **(env or {})}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **quiet}
        )
        try:
            begun = time.monotonic()
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() - begun > patience:
                    log.seek(0)
                    told = log.read().decode("utf-8", "replace")[-2000:]
                    pytest.fail(f"{command[:3]} did not start ({process.poll()}): {told}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def transformers_serve(folder: Path) -> Iterator[RealServer]:
    """`transformers serve`: no log-probabilities, and a schema is passed over in silence."""
    version = _installed("transformers", "fastapi", "uvicorn", "openai")
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with _running(command, f"http://127.0.0.1:{port}/health"):
        yield RealServer(
            "transformers serve",
            version,
            f"http://127.0.0.1:{port}/v1",
            str(folder),
            pins_model=True,
            counts_end=True,
            cuts_stop=False,
            seeds_alone=True,
        )


@contextlib.contextmanager
def llama_cpp(gguf: Path) -> Iterator[RealServer]:
    """The server of llama-cpp-python: log-probabilities, no check of the model's name."""
    version = _installed("llama-cpp-python", "fastapi", "uvicorn", "sse-starlette")
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "4096", "--n_threads", "1"]
    command += ["--logits_all", "true", "--verbose", "false"]
    with _running(command, f"http://127.0.0.1:{port}/v1/models"):
        yield RealServer(
            "llama-cpp-python",
            version,
            f"http://127.0.0.1:{port}/v1",
            "tiny",
            logprobs=True,
            checks_context=True,
            grammar=True,
        )


@contextlib.contextmanager
def litellm_proxy(behind: RealServer) -> Iterator[RealServer]:
    """The proxy of litellm in front of another server; it wants a key, which it takes from `PROXY_KEY`."""
    version = _installed("litellm", "backoff", "fastapi", "uvicorn")
    port = free_port()
    command = [sys.executable, "-c", "from litellm import run_server; run_server()", "--model"]
    command += [
        f"openai/{behind.model}",
        "--api_base",
        behind.url,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    env = {
        "LITELLM_MASTER_KEY": PROXY_KEY,
        "OPENAI_API_KEY": "none",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
    }
    with _running(command, f"http://127.0.0.1:{port}/health/liveliness", env=env):
        yield replace(
            behind,
            name="litellm proxy",
            version=version,
            url=f"http://127.0.0.1:{port}/v1",
            model=f"openai/{behind.model}",
        )


class Counter:
    """Stands between a client and a server, hands everything through, and adds up what the server tells."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.tokens_in = self.tokens_out = 0
        self.bodies: list[dict[str, Any]] = []


@contextlib.contextmanager
def counted(server: RealServer) -> Iterator[tuple[RealServer, Counter]]:
    """The server seen through a counter."""
    told, lock = Counter(), threading.Lock()
    start = server.url.removesuffix("/v1")

    class Through(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {
                k: v for k, v in self.headers.items() if k.lower() in ("content-type", "authorization")
            }
            asked = urllib.request.Request(start + self.path, body, headers)
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked) as answer:
                    status, data = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, data = error.code, error.read()
            with lock:
                told.statuses.append(status)
                told.bodies.append(json.loads(body))
                if status == 200:
                    usage = json.loads(data)["usage"]
                    told.tokens_in += usage["prompt_tokens"]
                    told.tokens_out += usage["completion_tokens"]
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    own = ThreadingHTTPServer(("127.0.0.1", 0), Through)
    thread = threading.Thread(target=own.serve_forever, daemon=True)
    thread.start()
    try:
        yield replace(server, url=f"http://127.0.0.1:{own.server_port}/v1"), told
    finally:
        own.shutdown()
        own.server_close()

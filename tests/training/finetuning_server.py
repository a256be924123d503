"""A server with files, fine-tuning jobs and chat, in threads of the test's own process. Not of karat.

A tuned model answers with the assistant's words of that training row which shares the most words with
what the user says. `faults` holds, for a phase (upload, create, look, list, chat), what the next calls
get instead.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FinetuningServer:
    """What the server has, and what it was asked; a lock guards all of it."""

    def __init__(self, **settings: Any) -> None:
        self.lock = threading.Lock()
        self.key = ""
        self.looks = 2
        """a job is at its end when it was looked at so often"""
        self.ends = "succeeded"
        self.error: dict[str, Any] | None = None
        self.lists = True
        self.unready = 0
        """so many creations come before the file has been looked through"""
        self.faults: dict[str, list[tuple[int, dict[str, str]] | str]] = defaultdict(list)
        """for each phase: status and headers, or `cut` (the work is done and the line cut)"""
        self.then: dict[str, Callable[[], None]] = {}
        """called when the work of a phase is done, before the answer"""
        self.says: dict[str, str] = {}
        """what the model answers to a text, whatever it has learned"""
        vars(self).update(settings)
        self.files: dict[str, dict[str, Any]] = {}
        self.content: dict[str, list[dict[str, Any]]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.seen: Counter[str] = Counter()
        self.looked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        self.authorised: set[str | None] = set()
        self.url = ""

    @property
    def paid(self) -> int:
        """How many jobs were made."""
        return len(self.jobs)

    def settle(self, job: dict[str, Any]) -> None:
        """Bring a job on by one look."""
        self.looked[job["id"]] += 1
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return
        job["status"] = "running"
        if self.looked[job["id"]] >= self.looks:
            job["status"] = self.ends
            if self.ends == "failed":
                job["error"] = self.error
            elif self.ends == "succeeded":
                rows = self.content[job["training_file"]]
                words = sum(len(m["content"].split()) for row in rows for m in row["messages"])
                job["trained_tokens"] = words * job["epochs"]
                job["fine_tuned_model"] = f"ft:{job['model']}:org:{job['suffix']}:{job['id']}"

    def answer(self, model: str, text: str) -> str:
        """The answer of the training row that is nearest by shared words."""
        if text in self.says:
            return self.says[text]
        job = next(job for job in self.jobs.values() if job["fine_tuned_model"] == model)
        words = set(text.split())

        def near(row: dict[str, Any]) -> int:
            return len(words & set(row["messages"][-2]["content"].split()))

        return str(max(self.content[job["training_file"]], key=near)["messages"][-1]["content"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    @property
    def state(self) -> FinetuningServer:
        return self.server.state  # type: ignore[attr-defined,no-any-return]

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def fault(self, phase: str) -> bool:
        """Whether this call gets a fault before any work; `cut` comes after it."""
        state = self.state
        state.seen[phase] += 1
        state.authorised.add(self.headers.get("Authorization"))
        if state.key and self.headers.get("Authorization") != f"Bearer {state.key}":
            told = f"Incorrect API key provided: {self.headers.get('Authorization')}"
            self.reply(401, {"error": {"message": told, "code": "invalid_api_key"}})
            return True
        waiting = state.faults[phase]
        if waiting and waiting[0] != "cut":
            status, headers = waiting.pop(0)
            said = f"no luck; the key was {self.headers.get('Authorization')}"
            self.reply(status, {"error": {"message": said}}, headers)
            return True
        return False

    def done(self, phase: str, body: Any) -> None:
        """Answer when the work is done, or cut the line."""
        state = self.state
        if phase in state.then:
            state.then.pop(phase)()
        if state.faults[phase] and state.faults[phase][0] == "cut":
            state.faults[phase].pop(0)
            self.close_connection = True
            return
        self.reply(200, body)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state, path = self.state, urlsplit(self.path).path.removeprefix("/v1/")
        if path == "files":
            if not self.fault("upload"):
                self.upload(data)
        elif path == "fine_tuning/jobs":
            if not self.fault("create"):
                self.create(json.loads(data))
        elif path.endswith("/cancel"):
            with state.lock:
                job = state.jobs[path.split("/")[2]]
                job["status"] = "cancelled"
            self.done("cancel", job)
        elif path == "chat/completions":
            if not self.fault("chat"):
                self.chat(json.loads(data))
        else:
            self.reply(404, {"error": {"message": f"no {path}"}})

    def upload(self, data: bytes) -> None:
        state = self.state
        mark = self.headers["Content-Type"].partition("boundary=")[2].encode()
        parts = data.split(b"--" + mark)
        assert b'name="purpose"\r\n\r\nfine-tune\r\n' in parts[1]
        head, _, body = parts[2].partition(b"\r\n\r\n")
        name = head.partition(b'filename="')[2].partition(b'"')[0].decode()
        with state.lock:
            file = f"file-{len(state.files) + 1}"
            rows = [json.loads(line) for line in body.removesuffix(b"\r\n").splitlines()]
            state.files[file] = {"id": file, "object": "file", "filename": name, "status": "processed"}
            state.content[file] = rows
        self.done("upload", state.files[file])

    def create(self, told: dict[str, Any]) -> None:
        state = self.state
        if told["training_file"] not in state.files:
            self.reply(400, {"error": {"message": f"invalid training_file: {told['training_file']}"}})
            return
        if state.unready:
            state.unready -= 1
            said = (
                f"File '{told['training_file']}' is still being processed and is not ready. Try again later."
            )
            self.reply(400, {"error": {"message": said}})
            return
        hyper = told.get("hyperparameters") or told["method"]["supervised"]["hyperparameters"]
        with state.lock:
            name = f"ftjob-{len(state.jobs) + 1}"
            state.bodies.append(told)
            state.jobs[name] = {
                "id": name,
                "object": "fine_tuning.job",
                "status": "queued",
                "error": None,
                "fine_tuned_model": None,
                "trained_tokens": None,
                "created_at": int(time.time()),
                "epochs": hyper.get("n_epochs", 1),
                **{k: told.get(k) for k in ("model", "training_file", "metadata", "suffix", "seed")},
            }
        self.done("create", state.jobs[name])

    def chat(self, told: dict[str, Any]) -> None:
        state = self.state
        text = told["messages"][-1]["content"]
        with state.lock:
            state.asked[text] += 1
            said = state.answer(told["model"], text)
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        if told.get("top_logprobs"):
            top = [{"token": said[:3], "logprob": -0.105360516}]  # ln 0.9
            choice["logprobs"] = {
                "content": [{"token": said[:3], "logprob": -0.105360516, "top_logprobs": top}]
            }
        usage = {"prompt_tokens": 10, "completion_tokens": 2}
        self.done("chat", {"choices": [choice], "usage": usage, "model": told["model"]})

    def do_GET(self) -> None:
        state, parts = self.state, urlsplit(self.path)
        path, asked = parts.path.removeprefix("/v1/"), parse_qs(parts.query)
        pieces = path.split("/")
        if path == "files" and state.lists:
            self.page(list(state.files.values()), asked)
        elif path == "fine_tuning/jobs" and state.lists:
            if not self.fault("list"):
                wanted = asked.get("metadata[karat]", [""])[0]
                with state.lock:
                    jobs = [j for j in state.jobs.values() if not wanted or j["metadata"]["karat"] == wanted]
                self.page(jobs, asked)
        elif pieces[:2] == ["fine_tuning", "jobs"] and pieces[2:] and pieces[2] in state.jobs:
            job = state.jobs[pieces[2]]
            if pieces[3:] == ["events"]:
                said = [{"level": "info", "message": "begun"}, {"level": "error", "message": "the loss rose"}]
                self.reply(200, {"data": said})
            elif pieces[3:] == ["checkpoints"]:
                one = {
                    "fine_tuned_model_checkpoint": f"{job['fine_tuned_model']}:ckpt-step-7",
                    "step_number": 7,
                }
                self.reply(200, {"data": [one]})
            elif not self.fault("look"):
                with state.lock:
                    state.settle(job)
                    told = dict(job)
                self.done("look", told)
        else:
            self.reply(404, {"error": {"message": f"no {path}"}})

    def page(self, listed: list[dict[str, Any]], asked: dict[str, list[str]]) -> None:
        """The newest first, two a page: a client must turn pages."""
        listed = listed[::-1]
        names = [one["id"] for one in listed]
        after = asked.get("after", [""])[0]
        begin = names.index(after) + 1 if after else 0
        self.reply(200, {"data": listed[begin : begin + 2], "has_more": begin + 2 < len(listed)})


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Clients are killed here: nobody wants to read of it."""


@contextlib.contextmanager
def tuning(**settings: Any) -> Iterator[FinetuningServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    state = FinetuningServer(**settings)
    server = _Http(("127.0.0.1", 0), _Handler)
    server.state = state  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()

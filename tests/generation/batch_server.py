"""A server with files and batches, in threads of the test's own process. Knows nothing of karat.

    with batching(delay=0.2) as server:
        ...  # any client at server.url, which ends in /v1
        server.submitted  # how often each custom_id was in a batch that was made

A batch is done `delay` seconds after it was made. A prompt that holds POISON is refused with 400, one that
holds BUSY has 429 in the error file for as often as `busy` says. `hold` makes an answer wait for so many
seconds, after the work is done: upload, create, poll or download.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fault_server


class BatchServer:
    """What the server has, and what it was asked; a lock guards all of it."""

    def __init__(self, **settings: Any) -> None:
        self.lock = threading.Lock()
        self.delay = 0.1
        self.hold: dict[str, float] = {}
        self.busy = 1
        self.expires: set[int] = set()
        """numbers of batches (from 1) that expire with the second half of their rows unanswered"""
        self.cancels: set[int] = set()
        """the same, cancelled"""
        self.fails: dict[int, tuple[str, str]] = {}
        """code and message by number of the batch that fails as a whole"""
        self.most_rows = 0
        """a batch of more rows fails with token_limit_exceeded; 0: any"""
        self.drops_create = 0
        """so many times the batch is made and the connection cut without a word"""
        self.loses: set[int] = set()
        """numbers of batches whose first row has no line"""
        self.garbles: set[int] = set()
        """numbers of batches whose first answer has no choices"""
        self.lists = True
        self.down = False
        self.key = ""
        self.fault = fault_server.Settings(answer_words=12)
        vars(self).update({name: value for name, value in settings.items() if name != "fault"})
        for name, value in settings.get("fault", {}).items():
            setattr(self.fault, name, value)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.made_at: dict[str, float] = {}
        self.submitted: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.prompts: Counter[str] = Counter()
        self.busied: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.tokens = [0, 0]
        self.started: Counter[str] = Counter()
        self.url = ""
        self.uploaded: tuple[str, bytes] = ("", b"")
        """content type and body of the last upload"""

    def rows(self, file: str) -> list[dict[str, Any]]:
        """The lines of an uploaded file."""
        return [json.loads(line) for line in self.files[file].splitlines() if line.strip()]

    def make(self, told: dict[str, Any]) -> dict[str, Any]:
        """A new batch."""
        number = len(self.batches) + 1
        rows = self.rows(told["input_file_id"])
        name = f"batch_{number}"
        status, errors = "in_progress", None
        failed = self.fails.get(number)
        if self.most_rows and len(rows) > self.most_rows:
            failed = (
                "token_limit_exceeded",
                "Enqueued token limit reached for m. Limit: 100 enqueued tokens.",
            )
        if failed:
            status = "failed"
            errors = {"object": "list", "data": [{"code": failed[0], "message": failed[1], "line": None}]}
        batch = {
            "id": name,
            "object": "batch",
            "endpoint": told["endpoint"],
            "input_file_id": told["input_file_id"],
            "completion_window": told["completion_window"],
            "metadata": told.get("metadata"),
            "created_at": int(time.time()),
            "status": status,
            "errors": errors,
            "number": number,
        }
        assert all(row["url"] == told["endpoint"] and row["method"] == "POST" for row in rows)
        assert len({row["custom_id"] for row in rows}) == len(rows)
        self.batches[name], self.made_at[name] = batch, time.monotonic()
        if status != "failed":
            for row in rows:
                self.submitted[row["custom_id"]] += 1
                self.bodies[row["custom_id"]] = row["body"]
                self.prompts[fault_server.prompt_of(row["body"])] += 1
        return batch

    def settle(self, batch: dict[str, Any]) -> None:
        """End a batch whose time has come."""
        if batch["status"] != "in_progress" or time.monotonic() - self.made_at[batch["id"]] < self.delay:
            return
        rows, number = self.rows(batch["input_file_id"]), batch["number"]
        cut = number in self.expires or number in self.cancels
        done = len(rows) // 2 if cut else len(rows)
        good, bad = [], []
        for i, row in enumerate(rows):
            if i >= done:
                code = "batch_expired" if number in self.expires else "batch_cancelled"
                error = {"code": code, "message": "This request could not be executed."}
                bad.append({"custom_id": row["custom_id"], "response": None, "error": error})
            elif not (i == 0 and number in self.loses):
                status, body = self.answer(batch["endpoint"], row, garble=i == 0 and number in self.garbles)
                line = {"id": f"r{i}", "custom_id": row["custom_id"], "error": None}
                line["response"] = {"status_code": status, "request_id": f"q{i}", "body": body}
                (good if status == 200 else bad).append(line)
        for kind, lines in (("output", good[::-1]), ("error", bad)):  # in no order
            if lines:
                name = f"file-{kind}-{number}"
                self.files[name] = "".join(json.dumps(line) + "\n" for line in lines).encode()
                batch[f"{kind}_file_id"] = name
        batch["status"] = (
            "expired" if number in self.expires else "cancelled" if number in self.cancels else "completed"
        )

    def answer(self, endpoint: str, row: dict[str, Any], *, garble: bool) -> tuple[int, Any]:
        """Status and body of one row's answer."""
        asked, prompt = row["body"], fault_server.prompt_of(row["body"])
        wrong = fault_server.refused(self.fault, {}, asked)
        if wrong:
            status, whole, _ = fault_server.made(self.fault, endpoint, wrong, asked, "", 0, 0)
            return status, json.loads(whole)
        if "POISON" in prompt:
            return 400, {"error": {"message": "this prompt cannot be answered", "code": None}}
        if "BUSY" in prompt and self.busied[prompt] < self.busy:
            self.busied[prompt] += 1
            return 429, {"error": {"message": "too many", "code": "rate_limit_exceeded"}}
        text = fault_server.answer_text(self.fault, asked, prompt, row["custom_id"])
        sizes = [max(1, len(part.encode()) // 4) for part in (prompt, text)]
        self.tokens = [a + b for a, b in zip(self.tokens, sizes, strict=True)]
        kind = "empty_choices" if garble else "ok"
        return 200, fault_server.answer(self.fault, endpoint, kind, asked, text, *sizes)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    @property
    def state(self) -> BatchServer:
        return self.server.state  # type: ignore[attr-defined,no-any-return]

    def reply(self, status: int, body: Any, phase: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        state = self.state
        state.started[phase] += 1
        wait = state.hold.get(phase, 0.0)
        with contextlib.suppress(OSError):
            if phase == "download" and wait:
                self.head(status, len(data))
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                time.sleep(wait)
                self.wfile.write(data[len(data) // 2 :])
                return
            time.sleep(wait)
            self.head(status, len(data))
            self.wfile.write(data)

    def head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def let_in(self) -> bool:
        state = self.state
        if state.down:
            self.close_connection = True
            return False
        if state.key and self.headers.get("Authorization") != f"Bearer {state.key}":
            told = f"Incorrect API key provided: {self.headers.get('Authorization')}"
            self.reply(401, {"error": {"message": told, "code": "invalid_api_key"}})
            return False
        return True

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        state, path = self.state, urlsplit(self.path).path
        if not self.let_in():
            return
        state.seen["POST " + path] += 1
        if path == "/v1/files":
            state.uploaded = (self.headers["Content-Type"], data)
            mark = self.headers["Content-Type"].partition("boundary=")[2].encode()
            parts = data.split(b"--" + mark)
            assert b'name="purpose"\r\n\r\nbatch\r\n' in parts[1] and b'name="file"; filename=' in parts[2]
            with state.lock:
                name = f"file-{len(state.files) + 1}"
                state.files[name] = parts[2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            self.reply(200, {"id": name, "object": "file", "purpose": "batch"}, "upload")
        elif path == "/v1/batches":
            told = json.loads(data)
            with state.lock:
                if told["input_file_id"] not in state.files:
                    self.reply(400, {"error": {"message": "no such file"}})
                    return
                batch = state.make(told)
                cut = state.drops_create > 0
                state.drops_create -= cut
            if cut:
                self.close_connection = True
                return
            self.reply(200, batch, "create")
        else:
            self.reply(404, {"error": {"message": f"no {path}"}})

    def do_GET(self) -> None:
        state, parts = self.state, urlsplit(self.path)
        if not self.let_in():
            return
        pieces = parts.path.strip("/").split("/")
        state.seen["GET " + "/".join(pieces[:2])] += 1
        if pieces[:2] == ["v1", "files"] and pieces[2:3] and pieces[2] in state.files:
            self.reply(200, state.files[pieces[2]], "download")
            return
        if pieces == ["v1", "batches"] and state.lists:
            asked = parse_qs(parts.query)
            with state.lock:
                listed = list(state.batches.values())[::-1]
            after = asked.get("after", [""])[0]
            names = [batch["id"] for batch in listed]
            begin = names.index(after) + 1 if after else 0
            page = listed[begin : begin + int(asked.get("limit", ["20"])[0])]
            self.reply(200, {"object": "list", "data": page, "has_more": begin + len(page) < len(listed)})
            return
        if pieces[:2] == ["v1", "batches"] and pieces[2:] and pieces[2] in state.batches:
            with state.lock:
                batch = state.batches[pieces[2]]
                state.settle(batch)
                told = dict(batch)
            self.reply(200, told, "poll")
            return
        self.reply(404, {"error": {"message": f"no {parts.path}"}})


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Clients are killed here: nobody wants to read of it."""


@contextlib.contextmanager
def batching(**settings: Any) -> Iterator[BatchServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    state = BatchServer(**settings)
    server = _Http(("127.0.0.1", 0), _Handler)
    server.state = state  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()

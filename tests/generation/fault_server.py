"""A server that speaks the OpenAI API and breaks on purpose, in a process of its own. Knows nothing of karat.

    with serving(latency=0.05, rate=0.3, seed=1) as server:
        ...  # any client at server.url, which ends in /v1
        told = server.stats()  # arrivals, answered, kinds, peak, tokens_in, tokens_out, billed, per_body ...
        server.set(rate=0.0)  # heal it; server.reset() forgets the counts

Which call breaks, and how, hangs on `seed`, the body and how often that body came before: the same calls
break in the same way in any order. `rate` is the share that breaks, `kinds` in which ways (`USUAL`; `KINDS`
has all), `faulty_arrivals` for how many arrivals of the same body (0: always). A prompt can ask for a fault
itself: `[[fault:503]]` always, `[[fault:busy*2]]` for the first two arrivals. A prompt that holds `poison`
(a setting) is answered with 400 for ever.

With `log`, a JSONL file has a line for each arrival and one for each answer, on disk before the answer goes
out, so that it can be read after anything was killed. `python fault_server.py '{"latency": 0.05}'` serves
until its standard input is closed and prints its port first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import orjson

USUAL = (
    *("busy", "busy_bare", "500", "503", "drop_before", "drop_after", "hang", "truncated", "invalid"),
    *("wrong_schema", "empty_choices", "refusal", "html_200", "html_502", "huge"),
)
KINDS = (
    *USUAL,
    # 429 with other forms of waiting, and one that no waiting mends
    *("busy_ms", "busy_date", "busy_reset", "quota"),
    *("400", "401", "403", "404", "408", "409", "413", "422", "425", "502", "504", "520", "529"),
    # 200 with something else inside
    *("no_choices", "null_content", "refusal_field", "content_filter", "error_200", "error_200_server"),
    *("no_usage", "not_utf8", "list", "redirect", "bomb"),
)
# The work was done, so that a real server would ask for money.
BILLED = {
    *("ok", "drop_after", "hang", "truncated", "invalid", "wrong_schema", "empty_choices", "refusal"),
    *("huge", "no_choices", "null_content", "refusal_field", "content_filter", "no_usage", "not_utf8"),
}
WORDS = (
    "river lamp quiet stone garden letter winter engine paper orange window sister market copper forest "
    "ladder music harbour candle north doctor velvet planet bridge salt silver summer kitchen mirror rope "
    "feather island button thunder apple village pencil shadow castle honey train cotton desert violin"
).split()


@dataclass
class Settings:
    """All that can be set; seconds, shares from 0 to 1, requests a second."""

    latency: float = 0.0
    slow_share: float = 0.0
    slow_latency: float = 1.0
    workers: int = 0
    """so many calls are served at a time, others wait; 0: no bound"""
    rate: float = 0.0
    kinds: tuple[str, ...] = USUAL
    seed: int = 0
    faulty_arrivals: int = 0
    retry_after: float = 0.05
    hang: float = 30.0
    huge_bytes: int = 10_000_000
    poison: str = "POISON"
    admit: float = 0.0
    """requests a second that are let in; others get 429. 0: all"""
    admit_window: float = 0.0
    """0: a token bucket; else a fixed window of so many seconds"""
    admit_burst: int = 1
    admit_retry_after: bool = False
    admit_headers: bool = False
    key: str = ""
    """the bearer key that is asked for; empty: none"""
    models: tuple[str, ...] = ()
    """404 for others; empty: any"""
    structured: tuple[str, ...] = ("json_schema", "json_object", "guided_json")
    """ways of asking for structure that are understood; others get 400"""
    max_tokens_field: str = ""
    """the only one that is taken; empty: both"""
    logprobs: bool = True
    refuses: tuple[str, ...] = ()
    """fields of a body that are not known here; 400 for a call that has one"""
    cost: float = 0.0
    """USD that each answer says it cost, as OpenRouter does; 0: it says nothing"""
    answer: str = ""
    """the text of every answer; empty: words drawn by body, or JSON after the schema"""
    answer_words: int = 40
    script: tuple[tuple[str, str], ...] = ()
    """(part of the prompt, answer): the first that fits"""
    redirect: str = ""
    price_in: float = 0.0
    price_out: float = 0.0
    log: str = ""


@dataclass
class Counts:
    """What came and what went."""

    arrivals: int = 0
    answered: int = 0
    in_flight: int = 0
    peak: int = 0
    connections: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    billed: int = 0
    billed_usd: float = 0.0
    first: float = 0.0
    last: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: dict[str, list[int]] = field(default_factory=dict)
    prompts: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


class Server:
    """A handle on the server's process: `url` ends in /v1."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process
        self.root = f"http://127.0.0.1:{port}"
        self.url = self.root + "/v1"

    def stats(self) -> dict[str, Any]:
        """Counts so far. `per_body` and `per_prompt` give [arrivals, answered]; a prompt's name is its
        messages' texts, joined by newlines. `headers` and `body` are those of the last call."""
        return self._ask("/stats")

    def reset(self) -> None:
        """Forget all counts."""
        self._ask("/reset", {})

    def set(self, **settings: Any) -> None:
        """Change settings from now on."""
        self._ask("/settings", settings)

    def _ask(self, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.root + path, data), timeout=30) as answer:
            return json.load(answer)  # type: ignore[no-any-return]


@contextlib.contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    """Run a server in its own process on a free port of 127.0.0.1; it ends with the block, or with us."""
    Settings(**settings)
    command = [sys.executable, __file__, json.dumps(settings)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.strip().isdigit(), "the server did not start"
        yield Server(int(line), process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


# ------------------------------------------------------------------------------------- inside the process


class State:
    """What all connections share."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.counts = settings, Counts()
        self.log = open(settings.log, "ab", buffering=0) if settings.log else None  # noqa: SIM115
        self.bucket, self.filled = float(settings.admit_burst), time.monotonic()
        self.window, self.used = 0.0, 0
        self.free = asyncio.Semaphore(settings.workers) if settings.workers else None

    def write(self, **told: Any) -> None:
        """One line of the log; unbuffered, so that a kill loses nothing."""
        if self.log is not None:
            self.log.write(orjson.dumps({"t": time.time(), **told}) + b"\n")

    def admitted(self) -> tuple[bool, float]:
        """Whether one more request is let in now, and else in how many seconds."""
        s, now = self.settings, time.monotonic()
        if not s.admit:
            return True, 0.0
        if s.admit_window:
            if now - self.window >= s.admit_window:
                self.window, self.used = now - (now - self.window) % s.admit_window, 0
            self.used += 1
            left = self.window + s.admit_window - now
            return self.used <= s.admit * s.admit_window, left
        self.bucket = min(s.admit_burst, self.bucket + (now - self.filled) * s.admit)
        self.filled = now
        if self.bucket >= 1:
            self.bucket -= 1
            return True, 0.0
        return False, (1 - self.bucket) / s.admit

    def stats(self) -> dict[str, Any]:
        """The counts as JSON."""
        counts = dict(vars(self.counts))
        counts["per_body"], counts["per_prompt"] = counts.pop("bodies"), counts.pop("prompts")
        counts["statuses"] = {str(k): n for k, n in counts["statuses"].items()}
        counts["unique"] = len(counts["per_body"])
        counts["busy"] = counts["statuses"].get("429", 0)
        counts["seconds"] = counts["last"] - counts["first"]
        return counts


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, state: State) -> None:
        self.state, self.buffer = state, b""
        self.transport: Any = None
        self.task: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.state.counts.connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return
        body, self.buffer = rest[:size], rest[size:]
        method, path, _ = first.split(" ", 2)
        if method == "POST" and path.startswith("/v1/"):
            self.task = asyncio.get_running_loop().create_task(self.call(path, headers, body))
            self.tasks.add(self.task)
            self.task.add_done_callback(self.tasks.discard)
        else:
            self.house(path, body)

    def house(self, path: str, body: bytes) -> None:
        """All that is not a call."""
        state = self.state
        if path == "/stats":
            self.send(200, orjson.dumps(state.stats()))
        elif path == "/reset":
            state.counts = Counts()
            self.send(200, b"{}")
        elif path == "/settings":
            state.settings = replace(state.settings, **orjson.loads(body))
            self.send(200, b"{}")
        elif path == "/v1/models":
            data = [{"id": name, "object": "model"} for name in state.settings.models or ("tiny",)]
            self.send(200, orjson.dumps({"object": "list", "data": data}))
        else:
            self.send(404, orjson.dumps({"error": {"message": f"no such path: {path}"}}))

    def send(self, status: int, body: bytes, extra: str = "", kind: str = "application/json") -> None:
        """A whole answer."""
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self.transport.write(head.encode("latin-1") + body)

    async def call(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Count a call in, answer it and count it out."""
        state, counts = self.state, self.state.counts
        now = time.monotonic()
        counts.first, counts.last = counts.first or now, now
        counts.arrivals += 1
        number = counts.arrivals
        counts.in_flight += 1
        counts.peak = max(counts.peak, counts.in_flight)
        asked = orjson.loads(body)
        counts.headers, counts.body = dict(headers), dict(asked)
        asked["authorization"] = headers.get("authorization", "")
        prompt = prompt_of(asked)
        digest = hashlib.blake2b(path.encode() + body, digest_size=8).hexdigest()
        own = counts.bodies.setdefault(digest, [0, 0])
        same = counts.prompts.setdefault(prompt, [0, 0])
        own[0] += 1
        same[0] += 1
        state.write(event="arrived", n=number, body=digest, arrival=own[0], prompt=prompt)
        kind = "stopped"
        try:
            kind = await self.answer(path, headers, asked, prompt, digest, own[0], number)
            if kind == "ok":
                counts.answered += 1
                own[1] += 1
                same[1] += 1
        finally:
            counts.in_flight -= 1
            counts.kinds[kind] += 1

    async def answer(
        self,
        path: str,
        headers: Mapping[str, str],
        asked: Any,
        prompt: str,
        digest: str,
        arrival: int,
        number: int,
    ) -> str:
        """Find out what becomes of the call, wait, and send it; returns the kind."""
        state, s, counts = self.state, self.state.settings, self.state.counts
        draw = random.Random(f"{s.seed}/{digest}/{arrival}")
        text = answer_text(s, asked, prompt, digest)
        tokens_in, tokens_out = max(1, len(prompt.encode()) // 4), max(1, len(text.encode()) // 4)
        let_in, wait = state.admitted()
        kind = refused(s, headers, asked) or fault(s, prompt, arrival, draw)
        limits = ""
        if s.admit_headers and s.admit:
            limits = (
                f"x-ratelimit-limit-requests: {s.admit * 60:g}\r\nx-ratelimit-reset-requests: {wait:.3f}s\r\n"
            )
        if not let_in:
            limits += f"Retry-After: {wait:.3f}\r\n" if s.admit_retry_after else ""
            kind, status, whole, extra = "over", 429, error(429, "too many requests"), limits
        else:
            await self.wait(s.slow_latency if draw.random() < s.slow_share else s.latency)
            status, whole, extra = made(s, path, kind, asked, text, tokens_in, tokens_out)
            extra += limits
        if kind in BILLED:
            counts.tokens_in += tokens_in
            counts.tokens_out += tokens_out
            counts.billed += tokens_in + tokens_out
            counts.billed_usd += (tokens_in * s.price_in + tokens_out * s.price_out) / 1e6
        state.write(
            event="answered", n=number, body=digest, kind=kind, status=status, tokens=tokens_in + tokens_out
        )
        if kind == "hang":
            with contextlib.suppress(asyncio.CancelledError):  # the client had enough
                await asyncio.sleep(s.hang)
        if kind in ("drop_before", "hang"):
            self.transport.abort()
        elif kind == "drop_after":
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(whole)}\r\n\r\n"
            )
            self.transport.write(head.encode() + whole[: len(whole) // 2])
            self.transport.close()
        else:
            counts.statuses[status] += 1
            self.send(status, whole, extra, "text/html" if kind.startswith("html") else "application/json")
        return kind

    async def wait(self, seconds: float) -> None:
        """Work for so long, when a worker is free."""
        if self.state.free is None:
            if seconds:
                await asyncio.sleep(seconds)
            return
        async with self.state.free:
            await asyncio.sleep(seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()  # the client went away


def prompt_of(asked: Any) -> str:
    """The texts of the messages, joined by newlines."""
    if "messages" in asked:
        return "\n".join(str(m.get("content")) for m in asked["messages"])
    return str(asked.get("prompt", ""))


def refused(s: Settings, headers: Mapping[str, str], asked: Any) -> str:
    """What a sound server has against the call itself."""
    if s.key and headers.get("authorization") != f"Bearer {s.key}":
        return "401"
    if s.models and asked.get("model") not in s.models:
        return "404"
    if s.max_tokens_field and {"max_tokens", "max_completion_tokens"} & set(asked) - {s.max_tokens_field}:
        return "wrong_max_tokens"
    if set(s.refuses) & set(asked):
        return "wrong_field"
    way = (asked.get("response_format") or {}).get("type") or (
        "guided_json" if "guided_json" in asked else ""
    )
    return "wrong_format" if way and way not in s.structured else ""


def fault(s: Settings, prompt: str, arrival: int, draw: random.Random) -> str:
    """The kind of fault of this arrival, or ok."""
    if s.poison and s.poison in prompt:
        return "400"
    wanted = re.search(r"\[\[fault:(\w+)(?:\*(\d+))?\]\]", prompt)
    if wanted:
        return wanted[1] if arrival <= int(wanted[2] or arrival) else "ok"
    if s.rate and draw.random() < s.rate and not (0 < s.faulty_arrivals < arrival):
        return draw.choice(s.kinds)
    return "ok"


def error(status: int, message: str, code: Any = None, kind: str = "error") -> bytes:
    """The body of an error."""
    told = {"message": message, "type": kind, "code": status if code is None else code}
    return orjson.dumps({"error": told})


def made(
    s: Settings, path: str, kind: str, asked: Any, text: str, tokens_in: int, tokens_out: int
) -> tuple[int, bytes, str]:
    """Status, body and further header lines of an answer of this kind."""
    if kind == "401":  # some servers repeat what they were given
        return 401, error(401, f"Incorrect API key provided: {asked['authorization']}", "invalid_api_key"), ""
    if kind == "wrong_field":
        name = next(name for name in s.refuses if name in asked)
        return 400, error(400, f"Unrecognized request argument supplied: {name}", "unknown_parameter"), ""
    if kind == "bomb":
        return 200, gzip.compress(b" " * s.huge_bytes), "Content-Encoding: gzip\r\n"
    if kind.isdigit():
        names = {"400": "this prompt cannot be answered"}
        names |= {"404": f"The model `{asked.get('model')}` does not exist"}
        return int(kind), error(int(kind), names.get(kind, f"error {kind}")), ""
    if kind.startswith("busy"):
        s_after = s.retry_after
        extra = {
            "busy": f"Retry-After: {s_after}\r\n",
            "busy_ms": f"retry-after-ms: {s_after * 1000:.0f}\r\n",
            "busy_date": f"Retry-After: {formatdate(time.time() + 2, usegmt=True)}\r\n",
            "busy_reset": f"x-ratelimit-reset-requests: {s_after * 1000:.0f}ms\r\n",
        }
        return 429, error(429, "Rate limit reached", "rate_limit_exceeded"), extra.get(kind, "")
    page = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
    fixed: dict[str, tuple[int, bytes, str]] = {
        "quota": (429, error(429, "You exceeded your current quota", "insufficient_quota"), ""),
        "wrong_max_tokens": (400, error(400, wrong_max_tokens(s), "unsupported_parameter"), ""),
        "wrong_format": (400, error(400, "response_format is not supported by this model"), ""),
        "html_200": (200, page, ""),
        "html_502": (502, page, ""),
        "invalid": (200, b"{choices: [nothing here]", ""),
        "list": (200, b'["a", "b"]', ""),
        "error_200": (200, error(429, "overloaded, try later"), ""),
        "error_200_server": (200, error(500, "internal", "server_error", "server_error"), ""),
        "redirect": (307, b"", f"Location: {s.redirect}\r\n"),
    }
    if kind in fixed:
        return fixed[kind]
    whole = orjson.dumps(answer(s, path, kind, asked, text, tokens_in, tokens_out))
    if kind == "truncated":
        whole = whole[: len(whole) // 2]
    elif kind == "not_utf8":
        whole = whole.replace(b'"role":"assistant"', b'"role":"\xff\xfe"')
    return 200, whole, ""


def wrong_max_tokens(s: Settings) -> str:
    """OpenAI's words."""
    other = {"max_tokens", "max_completion_tokens"} - {s.max_tokens_field}
    return (
        f"Unsupported parameter: '{other.pop()}' is not supported with this model. "
        f"Use '{s.max_tokens_field}' instead."
    )


def answer(
    s: Settings, path: str, kind: str, asked: Any, text: str, tokens_in: int, tokens_out: int
) -> dict[str, Any]:
    """A whole answer as JSON."""
    if kind == "wrong_schema":
        text = '{"nothing": ["of", "what", "was"], "asked": 4}'
    elif kind == "refusal":
        text = "I'm sorry, but I can't help with that request."
    elif kind == "huge":
        text = "x" * s.huge_bytes
    chat = path.endswith("/chat/completions")
    reason = {"content_filter": "content_filter"}.get(kind, "stop")
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    if chat:
        hidden = kind in ("null_content", "refusal_field")
        choice["message"] = {"role": "assistant", "content": None if hidden else text}
        if kind == "refusal_field":
            choice["message"]["refusal"] = "I cannot do that."
    else:
        choice["text"] = text
    if s.logprobs and asked.get("logprobs"):
        choice["logprobs"] = logprobs(asked, text, chat)
    whole: dict[str, Any] = {"id": "x", "object": "chat.completion", "model": asked.get("model", "tiny")}
    whole["choices"] = [] if kind == "empty_choices" else [choice]
    if kind == "no_choices":
        del whole["choices"]
    if kind != "no_usage":
        both = tokens_in + tokens_out
        whole["usage"] = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": both,
        }
        if s.cost:
            whole["usage"]["cost"] = s.cost
    return whole


def logprobs(asked: Any, text: str, chat: bool) -> dict[str, Any]:
    """Each word has -0.5; alternatives to it are `yes`, `no`, `w2` ..., each a nat less likely."""
    words = text.split()[:50]
    count = int(asked.get("top_logprobs", 0) if chat else asked["logprobs"])
    others = [("yes", -0.5), ("no", -1.5), *((f"w{i}", -0.5 - i) for i in range(2, 20))][:count]
    if chat:
        top = [{"token": token, "logprob": value} for token, value in others]
        return {"content": [{"token": word, "logprob": -0.5, "top_logprobs": top} for word in words]}
    return {
        "tokens": words,
        "token_logprobs": [-0.5] * len(words),
        "top_logprobs": [dict(others)] * len(words),
    }


def answer_text(s: Settings, asked: Any, prompt: str, digest: str) -> str:
    """The script's answer, the fixed one, one that fits the schema, or drawn words."""
    for part, text in s.script:
        if part in prompt:
            return text
    if s.answer:
        return s.answer
    draw = random.Random(digest)
    wanted = asked.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema") or asked.get("guided_json")
    if schema:
        return json.dumps(instance(schema, draw, s.answer_words), ensure_ascii=False)
    return " ".join(draw.choices(WORDS, k=s.answer_words))


def instance(schema: Mapping[str, Any], draw: random.Random, words: int = 12) -> Any:
    """Something that fits a JSON schema of the plain kinds."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw.choice(schema["enum"])
    for way in ("anyOf", "oneOf"):
        if way in schema:
            return instance(schema[way][0], draw, words)
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(own, draw, words) for name, own in schema.get("properties", {}).items()}
    if kind == "array":
        count = max(int(schema.get("minItems", 1)), min(3, int(schema.get("maxItems", 3))))
        return [instance(schema.get("items", {}), draw, words) for _ in range(count)]
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 1)
        return draw.randint(int(low), int(high)) if kind == "integer" else draw.uniform(low, high)
    return draw.random() < 0.5 if kind == "boolean" else " ".join(draw.choices(WORDS, k=words))


async def main(settings: Settings) -> None:
    """Serve until standard input is closed."""
    loop = asyncio.get_running_loop()
    state = State(settings)
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    asyncio.run(main(Settings(**json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))

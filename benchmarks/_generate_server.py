"""A chat server that answers after a fixed time and counts what it is asked. Knows no client and no model.

    python _generate_server.py              prints its port, serves until its standard input closes

It speaks just enough HTTP/1.1 (keep-alive, Content-Length) for clients of /v1/chat/completions, on uvloop
where that is installed, so that it takes about 0.03 ms of a processor for a request and never is the limit.
Two requests with the same bytes are the same request; what goes wrong is decided by the number of a request
in the order in which it was first seen, so that every client meets the same share of trouble.

    POST /reset {"latency": 0.05, "poison": 500, ...}       forget all counts; see Trouble for the names
    GET /stats                                              what was counted since
    GET /count                                              requests so far
    GET /mark                                               a client is about to be killed
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

SENTENCES = tuple(
    sentence.encode()
    for sentence in (
        "The soup came late and lukewarm, yet the cook said sorry himself.",
        "We sat by the window and watched the ferries cross the grey bay.",
        "Nobody at our table could name the spice in the roasted carrots.",
        "A child drew a whale on the paper cloth, and the waiter kept it.",
        "The bread alone was worth the walk up from the old fish market.",
        "Prices have gone up since spring, though the portions have not.",
        "Our friend, who never praises anything, asked for a second plate.",
        "They play the radio too loud, but the owner turns it down for you.",
        "The dumplings were thin, hot and full of ginger, as they should be.",
        "I would not bring a large party here, since the tables are small.",
        "Coffee is an afterthought, so drink yours across the street.",
        "The menu changes each week with what the farm has to spare.",
        "Service was slow at first and then, all at once, too attentive.",
        "You hear the kitchen laugh, which is the best sign of all.",
        "The lamb was dry, the sauce too sweet, the evening still good.",
        "Book ahead, come hungry, and leave room for the lemon cake.",
    )
)


@dataclass(frozen=True)
class Trouble:
    """What the server does besides answering.

    latency: seconds to an answer. poison: the number of the request that always gets 400 (0: none).
    slow: the share of requests that take slow_s seconds. rate: admitted requests a second, others get 429
    (0: all); burst: how many may come at once; retry_after: the header of that name on a 429 ("": none).
    """

    latency: float = 0.05
    poison: int = 0
    slow: float = 0.0
    slow_s: float = 2.0
    rate: float = 0.0
    burst: float = 1.0
    retry_after: str = ""


@dataclass
class Seen:
    """One request by its bytes: how often it came, and when its first full answer left."""

    number: int
    times: int = 0
    answered_at: float = 0.0


@dataclass
class Counts:
    """What was counted since the last reset; times are of the monotonic clock."""

    trouble: Trouble = field(default_factory=Trouble)
    seen: dict[bytes, Seen] = field(default_factory=dict)
    requests: int = 0
    answers: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    flying: int = 0
    peak: int = 0
    first: float = 0.0
    last: float = 0.0
    last_admitted: float = 0.0
    marked: float = 0.0
    tokens: float = 0.0
    refilled: float = 0.0
    cpu: float = field(default_factory=time.process_time)

    def admitted(self, now: float) -> bool:
        """Take a token from the bucket, if there is one."""
        rate, burst = self.trouble.rate, self.trouble.burst
        if not rate:
            return True
        self.tokens = min(burst, self.tokens + rate * (now - self.refilled))
        self.refilled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def stats(self) -> dict[str, Any]:
        """The counts as they are shown.

        gen_s: from the first request to the last. again: requests beyond the first of the same bytes.
        late: of requests that came again although they had been answered before the mark, how many seconds
        before it. The server sees that a client is dead up to 0.1 s later, as the kernel clears its memory
        first: requests that were answered meanwhile were in flight.
        """
        twice = [one for one in self.seen.values() if one.times > 1]
        killed = self.marked
        return {
            "requests": self.requests,
            "answers": self.answers,
            "distinct": len(self.seen),
            "again": self.requests - len(self.seen),
            "most": max((one.times for one in self.seen.values()), default=0),
            "statuses": {str(code): count for code, count in sorted(self.statuses.items())},
            "flying": self.flying,
            "peak": self.peak,
            "gen_s": self.last - self.first,
            "admitted_s": self.last_admitted - self.first,
            "late": sorted(killed - one.answered_at for one in twice if 0 < one.answered_at < killed),
            "cpu_s": time.process_time() - self.cpu,
        }


counts = Counts()


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.buffer = b""
        self.waiting: dict[int, asyncio.TimerHandle] = {}
        self.ticket = 0

    def connection_made(self, transport: Any) -> None:
        """Keep the way to answer."""
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.counts = counts

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget answers that nobody waits for."""
        mine = self.counts
        mine.flying -= len(self.waiting)
        for timer in self.waiting.values():
            timer.cancel()
        self.waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Cut the stream into requests."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            low = head.lower()
            at = low.find(b"content-length:")
            length = int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(head.split(b" ", 2), body)

    def answer(self, head: list[bytes], body: bytes) -> None:
        """One whole request."""
        global counts
        path = head[1].split(b"?")[0]
        if path.endswith(b"/chat/completions"):
            self.complete(body)
        elif path == b"/stats":
            self.send(200, json.dumps(counts.stats()).encode())
        elif path == b"/mark":
            counts.marked = time.monotonic()
            self.send(200, b"{}")
        elif path == b"/count":
            self.send(200, b"%d" % counts.requests)
        elif path == b"/reset":
            counts = Counts(Trouble(**json.loads(body or b"{}")))
            counts.tokens, counts.refilled = counts.trouble.burst, time.monotonic()
            self.send(200, b"{}")
        elif path.endswith(b"/models"):
            self.send(200, b'{"object":"list","data":[{"id":"mock","object":"model","owned_by":"mock"}]}')
        else:
            self.send(404, b'{"error":{"message":"no such path"}}')

    def complete(self, body: bytes) -> None:
        """Count a request and answer it later."""
        self.counts = mine = counts
        now = time.monotonic()
        digest = hashlib.blake2b(body, digest_size=8).digest()
        one = mine.seen.get(digest)
        if one is None:
            one = mine.seen[digest] = Seen(len(mine.seen) + 1)
        one.times += 1
        mine.requests += 1
        mine.first = mine.first or now
        mine.last = now
        trouble = mine.trouble
        if one.number == trouble.poison:
            self.count(400, b'{"error":{"message":"never answered","type":"invalid_request_error"}}')
            return
        if not mine.admitted(now):
            self.count(429, b'{"error":{"message":"too many requests","type":"rate_limit_error"}}')
            return
        mine.last_admitted = now
        mine.flying += 1
        mine.peak = max(mine.peak, mine.flying)
        slow = trouble.slow and one.number % round(1 / trouble.slow) == 0
        self.ticket += 1
        self.waiting[self.ticket] = self.loop.call_later(
            trouble.slow_s if slow else trouble.latency, self.finish, self.ticket, one, digest, len(body)
        )

    def finish(self, ticket: int, one: Seen, digest: bytes, length: int) -> None:
        """The answer to a request; its text holds the request's name."""
        del self.waiting[ticket]
        self.counts.flying -= 1
        self.counts.answers += 1
        name = digest.hex().encode()
        text = b" ".join(SENTENCES[byte & 15] for byte in digest[:6])
        self.count(
            200,
            b'{"id":"chatcmpl-%b","object":"chat.completion","created":1760000000,"model":"mock","choices":'
            b'[{"index":0,"message":{"role":"assistant","content":"Visit %b. %b"},"logprobs":null,'
            b'"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":100,"total_tokens":%d}}'
            % (name, name, text, length // 4, length // 4 + 100),
        )
        one.answered_at = one.answered_at or time.monotonic()

    def count(self, status: int, body: bytes) -> None:
        """Answer a request for a completion."""
        self.counts.statuses[status] = self.counts.statuses.get(status, 0) + 1
        self.send(status, body)

    def send(self, status: int, body: bytes) -> None:
        """Write an answer, if somebody is there."""
        wait = self.counts.trouble.retry_after.encode()
        more = b"retry-after: %b\r\n" % wait if status == 429 and wait else b""
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
                % (status, more, len(body), body)
            )


async def serve() -> None:
    """Serve on a free port until standard input ends, which it does with the parent."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Line, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(serve())
    except ImportError:
        asyncio.run(serve())

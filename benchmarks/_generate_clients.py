"""The programs that are compared: each asks for n texts and writes them as JSON lines. Measures nothing.

    python _generate_clients.py NAME '{"url": ..., "n": ..., "concurrency": ..., "folder": ..., "out": ...}'

Each runs in a process of its own, in the environment that has its package, as that package's own pages say
that it is used, with the limits on its speed lifted and one line of output a row. This file imports nothing
but the standard library at its top, since it is read by five different environments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MODEL = "mock"


@dataclass(frozen=True)
class Order:
    """What a client is to do; `folder` is its own and outlives a kill."""

    url: str
    n: int
    concurrency: int
    folder: str
    out: str

    @property
    def prompts(self) -> Iterator[str]:
        """n different prompts of 92 characters."""
        return (prompt(i) for i in range(self.n))


def prompt(i: int) -> str:
    """The prompt of a row."""
    return f"Write a restaurant review of about eighty words, number {i:06}, plainly and without a title."


def written(out: IO[str], i: int, text: str | None) -> None:
    """One row of output."""
    out.write(json.dumps({"row": i, "text": text}) + "\n")


async def workers(order: Order, ask: Callable[[str], Awaitable[str | None]]) -> None:
    """Ask for all rows, `concurrency` at a time."""
    rows = iter(enumerate(order.prompts))

    with Path(order.out).open("w", encoding="utf-8") as out:

        async def worker() -> None:
            for i, text in rows:
                written(out, i, await ask(text))

        await asyncio.gather(*(worker() for _ in range(order.concurrency)))


def on_uvloop(work: Any) -> None:
    """Run a coroutine on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


# ------------------------------------------------------------------------------------------------ clients


def bare(order: Order) -> None:
    """aiohttp, uvloop and orjson in a loop, no retries, no journal: the limit."""
    import aiohttp
    import orjson

    async def run() -> None:
        address, headers = f"{order.url}/chat/completions", {"content-type": "application/json"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(text: str) -> str | None:
                body = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]})
                async with session.post(address, data=body, headers=headers) as reply:
                    data = await reply.read()
                if reply.status != 200:
                    return None
                answer: str = orjson.loads(data)["choices"][0]["message"]["content"]
                return answer

            await workers(order, ask)

    on_uvloop(run())


def karat_engine(order: Order) -> None:
    """The engine of karat alone, with its journal on disk: no plan, no records."""
    from karat import registry
    from karat.generation.base import Message, Request, Response
    from karat.generation.calls import stream
    from karat.generation.journal import Journal
    from karat.generation.limits import Limits

    provider: Any = registry.make(
        "providers", f"openai_compatible:model={MODEL},url={order.url},concurrency={order.concurrency}"
    )
    requests = (Request(str(i), (Message("user", text),)) for i, text in enumerate(order.prompts))
    journal = Journal(Path(order.folder) / "calls.sqlite")
    with Path(order.out).open("w", encoding="utf-8") as out:

        def keep(request: Request, answer: Response | str) -> None:
            written(out, int(request.id), None if isinstance(answer, str) else answer.text)

        stream(provider, requests, keep, journal=journal, limits=Limits(concurrency=order.concurrency))
    journal.close()


def openai(order: Order) -> None:
    """AsyncOpenAI as it comes: two retries; a row that fails costs that row."""
    from openai import AsyncOpenAI, OpenAIError

    async def run() -> None:
        async with AsyncOpenAI(base_url=order.url, api_key="none") as client:

            async def ask(text: str) -> str | None:
                try:
                    reply = await client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": text}]
                    )
                except OpenAIError:
                    return None
                return reply.choices[0].message.content

            await workers(order, ask)

    asyncio.run(run())


def curator(order: Order) -> None:
    """bespokelabs-curator: LLM over a Dataset, its rate limits lifted."""
    import tiktoken

    bytewise = tiktoken.Encoding(
        "bytes", pat_str=r"[\s\S]", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    tiktoken.get_encoding = lambda name: bytewise  # the package downloads a file to count tokens
    from bespokelabs.curator import LLM
    from datasets import Dataset

    class Writer(LLM):  # type: ignore[misc]
        """One text a row."""

        def prompt(self, input: dict[str, Any]) -> str:
            return str(input["prompt"])

        def parse(self, input: dict[str, Any], response: str) -> dict[str, Any]:
            return {"row": input["row"], "text": response}

    plenty = 100_000_000
    writer = Writer(
        model_name=MODEL,
        backend="openai",
        backend_params={
            "base_url": order.url,
            "api_key": "none",
            "max_requests_per_minute": plenty,
            "max_tokens_per_minute": 100 * plenty,
            "max_concurrent_requests": order.concurrency,
        },
    )
    rows = Dataset.from_list([{"row": i, "prompt": text} for i, text in enumerate(order.prompts)])
    made = writer(rows, working_dir=str(Path(order.folder) / "curator"))
    with Path(order.out).open("w", encoding="utf-8") as out:
        for row in made.dataset:
            written(out, row["row"], row["text"])


def distilabel(order: Order) -> None:
    """distilabel: LoadDataFromDicts and TextGeneration with OpenAILLM, batches of `concurrency`."""
    from distilabel.models.llms import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    data = [{"row": i, "instruction": text} for i, text in enumerate(order.prompts)]
    with Pipeline(name="bench", cache_dir=str(Path(order.folder) / "distilabel")) as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=order.concurrency)
        write = TextGeneration(
            llm=OpenAILLM(model=MODEL, base_url=order.url, api_key="none"),
            input_batch_size=order.concurrency,
        )
        load >> write
    made = pipeline.run()["default"]["train"]
    with Path(order.out).open("w", encoding="utf-8") as out:
        for row in made:
            written(out, row["row"], row["generation"])


def datadesigner(order: Order) -> None:
    """NeMo Data Designer: one LLM text column on a seed table."""
    import data_designer.config as dd
    import pandas as pd
    from data_designer.interface import DataDesigner

    folder = Path(order.folder) / "designer"
    folder.mkdir(exist_ok=True)
    designer = DataDesigner(
        folder,
        model_providers=[dd.ModelProvider(name="here", endpoint=order.url, api_key="none")],
        auto_configure_logging=False,
    )
    model = dd.ModelConfig(
        alias="writer",
        model=MODEL,
        provider="here",
        skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(max_parallel_requests=order.concurrency),
    )
    config = dd.DataDesignerConfigBuilder([model])
    seed = pd.DataFrame({"row": range(order.n), "prompt": list(order.prompts)})
    config.with_seed_dataset(dd.DataFrameSeedSource(df=seed))
    config.add_column(dd.LLMTextColumnConfig(name="text", prompt="{{ prompt }}", model_alias="writer"))
    made = designer.create(config, num_records=order.n, resume=dd.ResumeMode.IF_POSSIBLE).load_dataset()
    with Path(order.out).open("w", encoding="utf-8") as out:
        for i, text in zip(made["row"], made["text"]):
            written(out, int(i), text)


CLIENTS = {made.__name__: made for made in (bare, karat_engine, openai, curator, distilabel, datadesigner)}


def main() -> None:
    """Run one client; warnings go to standard error, other talk nowhere."""
    logging.basicConfig(level=logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr):
        CLIENTS[sys.argv[1]](Order(**json.loads(sys.argv[2])))


if __name__ == "__main__":
    main()

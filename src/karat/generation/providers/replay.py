"""Recorded answers from a JSONL file, for tests and demos. Knows no network and no model.

A row of the file has `text` and how it is found: `prompt` (or `messages`) with the prompt it answers, or `id`
with the plan row, or neither: then line i answers row i of the plan. Where a prompt was asked several times,
`seed` and `replicate` tell the answers apart; else they are given in the order of the plan's rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from karat.errors import InputError
from karat.formats import read_rows
from karat.generation.base import Message, Price, Refused, Request, Response


@dataclass(frozen=True)
class Replay:
    """Answer from a file of recorded answers; calls nothing and costs nothing but what the file says.

    path: the JSONL file. name: what stands for the model in the lineage where a row names none.
    """

    path: str
    name: str = "replay"

    batch_size: ClassVar[int] = 64
    concurrency: ClassVar[int] = 1

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.name

    @property
    def identity(self) -> str:
        """Name and file: another file may answer otherwise."""
        return f"{self.name}@{_answers(self.path).digest}"

    def price(self, request: Request) -> Price:
        """What the file says that the answer cost."""
        try:
            found = self._find(request)
        except (Refused, InputError):  # a row without an answer is told when it is asked for
            return Price(0)
        return Price(
            _number(found, "tokens_in") + _number(found, "tokens_out"), float(found.get("cost_usd") or 0)
        )

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Look answers up. Raises InputError naming the row that has none."""
        return [self._response(request) for request in requests]

    def _response(self, request: Request) -> Response:
        found = self._find(request)
        logprob = found.get("logprob")
        return Response(
            request_id=request.id,
            text=str(found["text"]),
            tokens_in=_number(found, "tokens_in"),
            tokens_out=_number(found, "tokens_out"),
            logprob=None if logprob is None else float(logprob),
            finish_reason=str(found.get("finish_reason") or "stop"),
            cost_usd=float(found.get("cost_usd") or 0.0),
            model=str(found.get("model") or self.name),
        )

    def _find(self, request: Request) -> Mapping[str, Any]:
        answers = _answers(self.path)
        rows = answers.of(request)
        exact = [
            row
            for row in rows
            if row.get("seed", request.seed) == request.seed
            and row.get("replicate", request.replicate) == request.replicate
        ]
        if exact:
            # Without seeds, the answers to one prompt go round in the order of the file.
            return exact[request.index % len(exact)] if "seed" not in exact[0] else exact[0]
        if rows and request.replicate:
            raise Refused("the file holds no second answer to it")
        shown = " ".join(request.messages[-1].content.split())[:60] if request.messages else ""
        raise InputError(
            f"{self.path}: no recorded answer for row {request.id!r} (replicate {request.replicate}, prompt "
            f"{shown!r}); record it, or generate with the provider that the file came from"
        )


class _Answers:
    """The rows of a file by prompt, by id, or by place."""

    def __init__(self, path: str) -> None:
        import hashlib

        self.by_prompt: dict[str, list[dict[str, Any]]] = {}
        self.by_id: dict[str, list[dict[str, Any]]] = {}
        self.in_order: list[dict[str, Any]] = []
        digest = hashlib.sha256()
        for line, row in read_rows(path):
            if not isinstance(row.get("text"), str):
                raise InputError(
                    f"{path}:{line}: no field 'text' (found: {', '.join(row)}); name the answer 'text'"
                )
            digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace"))
            asked = row.get("messages") or row.get("prompt")
            if asked:
                messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
                told = tuple(Message(str(m["role"]), str(m["content"])) for m in messages)
                self.by_prompt.setdefault(_key(told), []).append(row)
            elif row.get("id"):
                self.by_id.setdefault(str(row["id"]), []).append(row)
            else:
                self.in_order.append(row)
        self.digest = digest.hexdigest()[:16]

    def of(self, request: Request) -> list[dict[str, Any]]:
        """All rows that may answer a request."""
        found = self.by_prompt.get(_key(request.messages)) or self.by_id.get(request.id)
        if found:
            return found
        return [self.in_order[request.index]] if request.index < len(self.in_order) else []


@cache
def _answers(path: str) -> _Answers:
    return _Answers(path)


def _key(messages: Sequence[Message]) -> str:
    return json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False)


def _number(row: Mapping[str, Any], name: str) -> int:
    return int(row.get(name) or 0)

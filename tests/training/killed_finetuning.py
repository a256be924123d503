"""A program to be killed: fine-tunes at a server, and kills itself at a step. Not a test itself."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from typing import Any

from karat import records
from karat.training import finetuning_api, finetuning_jobs
from karat.training.trainers.api_finetune import ApiFinetune

HOMES = {
    "write": finetuning_jobs.Shelf,
    "upload": finetuning_api.FinetuningApi,
    "make": finetuning_api.FinetuningApi,
    "look": finetuning_api.FinetuningApi,
}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def plant(when: str, step: str, number: int) -> None:
    """Kill this process before or after the n-th call of a step."""
    home, calls = HOMES[step], [0]
    real = getattr(home, step)

    def check(moment: str) -> None:
        if moment == when and calls[0] == number:
            kill()

    if inspect.iscoroutinefunction(real):

        async def planted(*given: Any) -> Any:
            calls[0] += 1
            check("before")
            found = await real(*given)
            check("after")
            return found

        setattr(home, step, planted)
        return

    def plain(*given: Any) -> Any:
        calls[0] += 1
        check("before")
        found = real(*given)
        check("after")
        return found

    setattr(home, step, plain)


if __name__ == "__main__":
    url, state, file, moment = sys.argv[1:5]
    if moment:
        when, step, number = moment.split()
        plant(when, step, int(number))
    trainer = ApiFinetune("base", url, state=state, poll=0.02)
    sys.stdout.write(trainer.fit(records.read(file), seed=1).model)

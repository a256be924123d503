"""Lets libraries for local models work without noise and without a trace. Knows no model.

TRL and what it stands on print, draw bars, ask a server of theirs to count them, seed the random numbers of
the whole process and write settings into the environment. All of that ends here.
"""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from karat.generation import weights


@contextmanager
def alone() -> Iterator[None]:
    """Let libraries work without a trace: no print, no bar, no call home, random numbers as they were."""
    import torch

    with ExitStack() as after:
        after.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        after.enter_context(torch.random.fork_rng())
        after.callback(random.setstate, random.getstate())
        after.callback(np.random.set_state, np.random.get_state())
        after.callback(_restore, dict(os.environ))
        after.enter_context(_unheard())
        after.enter_context(weights.quiet())
        yield


@contextmanager
def _unheard() -> Iterator[None]:
    import datasets
    from huggingface_hub import constants
    from transformers.utils import logging as told

    loggers = [logging.getLogger(name) for name in ("trl", "peft", "accelerate", "datasets", "torch")]
    levels = [logger.level for logger in loggers]
    verbosity, bars = told.get_verbosity(), datasets.is_progress_bar_enabled()
    counted = constants.HF_HUB_DISABLE_TELEMETRY
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        told.set_verbosity_error()
        datasets.disable_progress_bars()
        constants.HF_HUB_DISABLE_TELEMETRY = True
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = counted
        if bars:
            datasets.enable_progress_bars()
        told.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _restore(kept: dict[str, str]) -> None:
    """Give the environment back as it was: accelerate writes its settings there."""
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    os.environ.update(kept)

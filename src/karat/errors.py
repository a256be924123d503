"""Every error that a user of karat can meet. Knows nothing of what raised it.

    KaratError                 exit code 2: the user can mend it
    ├── InputError             a file, a row or a field is not as it should be
    ├── UnknownPart            no metric, filter, provider ... of that name
    ├── BadSetting             a part or a stage was given a setting it does not take
    ├── MissingExtra           an optional dependency is not installed
    ├── NotEnoughData          too few records for what was asked
    ├── LeakageError           training and test data overlap
    ├── GateFailed             a `--fail-if` condition holds
    ├── ProviderError          a provider answered in a way that retrying cannot mend
    └── Stopped                exit code 3: stopped on purpose, everything paid for is kept
        ├── BudgetSpent        a cap in dollars or tokens was reached
        └── Interrupted        the user pressed Ctrl-C

The message is one line that names the thing, the value and the cure. Anything that is not a
KaratError is our own bug (exit code 1, with a traceback).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KaratError(Exception):
    """Something that the user can mend; the message says how."""

    exit_code = 2


class InputError(KaratError):
    """A file, a row or a field is not as it should be."""


class UnknownPart(KaratError):
    """No part of that name stands on the shelf."""


class BadSetting(KaratError):
    """A setting has an unknown name or an impossible value."""


class MissingExtra(KaratError):
    """An optional dependency is missing; the message carries the pip command."""


class NotEnoughData(KaratError):
    """Too few records for what was asked."""


class LeakageError(KaratError):
    """Training and test data overlap, so that a score would measure memory."""


class GateFailed(KaratError):
    """A condition given with `--fail-if` holds."""


class ProviderError(KaratError):
    """A provider answered in a way that retrying cannot mend."""


class Stopped(KaratError):
    """Stopped on purpose; everything paid for is kept."""

    exit_code = 3


class BudgetSpent(Stopped):
    """A cap in dollars or tokens was reached."""


class Interrupted(Stopped):
    """The user interrupted the run."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def missing_extra(package: str, extra: str, what: str) -> MissingExtra:
    """Return the error that names the missing package and the command that brings it."""
    return MissingExtra(
        f"{what} needs the package {package!r}; install it with: pip install 'karat[{extra}]'"
    )

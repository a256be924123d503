"""A folder that holds a trained model and says which trainer made it. Knows no trainer by name.

`model.json` names the trainer and its settings; what the trainer itself wrote lies beside it. Nothing in
such a folder is run: a trainer's `load` reads it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karat import registry
from karat.errors import InputError, KaratError
from karat.version import __version__

NAME = "model.json"
_FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """What `model.json` says: trainer, spec, karat's version, the model's name, what it was trained on."""

    trainer: str
    spec: str
    version: str
    model: str = ""
    saw: tuple[str, ...] = ()
    """fingerprints of the records that it was trained on"""


def save_model(model: Any, trainer: Any, folder: str | os.PathLike[str]) -> Path:
    """Write a trained model and what made it to a folder, `model.json` last.

    Raises InputError where the model cannot be saved or the folder holds another one.
    """
    home, name = Path(folder), registry.name_of(trainer)
    check_saves(trainer, home)
    if not callable(getattr(model, "save", None)):
        raise InputError(f"models of the trainer {name!r} cannot be saved; train anew where one is needed")
    try:
        home.mkdir(parents=True, exist_ok=True)
        model.save(home)
        saw = getattr(model, "saw", ())
        told = {
            "format": _FORMAT,
            "trainer": name,
            "spec": registry.spec_of(trainer),
            "version": __version__,
            "model": str(getattr(model, "model", "")),
            "saw": [saw] if isinstance(saw, str) else list(saw),
        }
        half = home / f"{NAME}.half"
        half.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", "utf-8")
        half.replace(home / NAME)
    except OSError as error:
        raise InputError(f"{home}: {error.strerror or error}; name a folder that can be written") from None
    return home


def check_saves(trainer: Any, folder: str | os.PathLike[str]) -> None:
    """Raise InputError where `save_model` would, as far as can be told before the model is trained."""
    home, name = Path(folder), registry.name_of(trainer)
    if not callable(getattr(trainer, "load", None)):
        raise InputError(f"models of the trainer {name!r} cannot be saved; train anew where one is needed")
    if (home / NAME).exists():
        raise InputError(f"{home} holds a model already; name another folder, or remove this one")
    nearest = next(place for place in (home, *home.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = "cannot be written" if nearest.is_dir() else "is a file"
        raise InputError(f"{home}: {nearest} {what}; name a folder that can be written")


def read_saved(folder: str | os.PathLike[str]) -> Saved:
    """Return what a model folder says of itself. Raises InputError where it is none."""
    home = Path(folder)
    try:
        told = json.loads((home / NAME).read_text("utf-8"))
        if told["format"] != _FORMAT:
            raise InputError(
                f"{home / NAME} has the format {told['format']!r} of karat {told.get('version')}, which this "
                f"one ({__version__}) cannot read; train the model anew"
            )
        return Saved(
            str(told["trainer"]),
            str(told["spec"]),
            str(told["version"]),
            str(told.get("model", "")),
            tuple(map(str, told.get("saw", ()))),
        )
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{home}: no {NAME}; name a folder that holds a saved model") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{home / NAME}: cannot be read ({type(error).__name__}: {error})") from None


def load_model(folder: str | os.PathLike[str]) -> Any:
    """Return the model that `save_model` wrote. Raises InputError where a file of it is missing or broken."""
    saved = read_saved(folder)
    part = registry.find("trainers", saved.trainer)
    load = getattr(part, "load", None)
    if not callable(load):
        raise InputError(f"{folder}: the trainer {saved.trainer!r} cannot load its models; train anew")
    try:
        return load(Path(folder))
    except (KaratError, MemoryError):
        raise
    except Exception as error:  # a broken file raises whatever the library that reads it has for that
        raise InputError(
            f"{folder}: this model of the trainer {saved.trainer!r} cannot be loaded "
            f"({type(error).__name__}: {' '.join(str(error).split())[:160]}); save it again"
        ) from None

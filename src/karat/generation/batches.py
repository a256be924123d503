"""Which request was handed in with which batch: on disk before anybody waits for it. Knows no server.

One small JSON file for each batch in the folder `batches`: its name at the server, and the keys of its rows.
A file is written before the batch can exist, again when the server has named it, and is replaced as a whole,
so that a kill at any moment leaves the old or the new one.

When all answers of a batch were handed on and the run ended in order, its file is marked; the next run that
ends without asking for one of these rows again (they are in the journal) removes it. What is older than 30
days is removed too: so long servers keep answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

KEPT = 30 * 86400.0  # seconds


@dataclass
class Sent:
    """A batch: digest of its file, keys of its rows, when it was made (seconds since 1970), its name.

    batch: empty until the server has named it. handed_on: all its answers were, in a run that ended in order.
    """

    digest: str
    keys: list[str]
    made: float = field(default_factory=time.time)
    batch: str = ""
    handed_on: bool = False

    def __post_init__(self) -> None:
        self.answered: set[str] = set()
        self.asked = False


class Ledger:
    """The batches of a folder; without a folder, of this process alone."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = None if folder is None else folder / "batches"
        self._all: dict[str, Sent] = {}
        self._where: dict[str, Sent] = {}
        for sent in sorted(self._read(), key=lambda sent: sent.made):
            self._enter(sent)

    def _read(self) -> Iterable[Sent]:
        for path in sorted(self.folder.glob("*.json")) if self.folder is not None else ():
            try:
                sent = Sent(**json.loads(path.read_text("utf-8")))
            except (OSError, ValueError, TypeError):  # not ours
                continue
            if time.time() - sent.made > KEPT:
                path.unlink(missing_ok=True)
            else:
                yield sent

    def _enter(self, sent: Sent) -> None:
        self._all[sent.digest] = sent
        self._where.update(dict.fromkeys(sent.keys, sent))

    def find(self, key: str) -> Sent | None:
        """The last batch that has this row, where its answer is not known to be missing."""
        sent = self._where.get(key)
        if sent is not None:
            sent.asked = True
        return sent

    def nameless(self) -> list[Sent]:
        """Batches of which an earlier run never learned whether the server has made them."""
        return [s for s in self._all.values() if not s.batch and any(self._where.get(k) is s for k in s.keys)]

    def write(self, sent: Sent) -> None:
        """Note a batch, on disk when this returns."""
        self._enter(sent)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_through(self._path(sent), json.dumps(asdict(sent)))

    def free(self, sent: Sent, keys: Iterable[str] | None = None) -> None:
        """These rows of a batch (none given: all) have no answer there and may be handed in anew."""
        gone = set(sent.keys if keys is None else keys)
        for key in gone:
            if self._where.get(key) is sent:
                del self._where[key]
        sent.keys = [key for key in sent.keys if key not in gone]
        if not sent.keys:
            self._drop(sent)
        elif gone:
            self.write(sent)

    def forget(self, sent: Sent) -> None:
        """The same for a batch that is perhaps another process's: what is on disk stays."""
        self._all.pop(sent.digest, None)
        for key in sent.keys:
            if self._where.get(key) is sent:
                del self._where[key]

    def end(self) -> None:
        """A run ended in order, and its answers are in the journal: mark and remove what is settled."""
        for sent in list(self._all.values()):
            if sent.handed_on and not sent.asked:
                self._drop(sent)
            elif sent.answered.issuperset(sent.keys) and not sent.handed_on:
                sent.handed_on = True
                self.write(sent)
            sent.asked = False

    def _drop(self, sent: Sent) -> None:
        self.forget(sent)
        if self.folder is not None:
            self._path(sent).unlink(missing_ok=True)

    def _path(self, sent: Sent) -> Path:
        assert self.folder is not None
        return self.folder / f"{sent.digest[:40]}.json"


def write_through(path: Path, text: str) -> None:
    """Write a small file in one go: on disk when this returns, and never half of it."""
    half = path.with_name(f"{path.stem}.{os.getpid()}.half")
    with half.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    with contextlib.suppress(OSError):  # a folder cannot be synced everywhere
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

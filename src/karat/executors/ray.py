"""Runs work on Ray, on this machine or a cluster. The only module that knows Ray; it knows no stage."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

from karat.errors import BadSetting, KaratError, missing_extra
from karat.executors.base import Lost

Item = TypeVar("Item")
Result = TypeVar("Result")

_STARTED: set[Ray] = set()


@dataclass(frozen=True)
class Ray:
    """Workers of Ray: a task that dies with its worker is run again. Needs `pip install 'karat[ray]'`.

    address: the cluster, auto for the one that runs on this machine; empty starts one here and ends it after
    workers: tasks at a time; 0 takes one a core
    cpus: cores that each task asks for
    store: MiB of shared memory for what travels, where the cluster is started here
    retries: how often a task is run again after its worker died
    """

    address: str = ""
    workers: int = 0
    cpus: float = 1.0
    store: int = 256
    retries: int = 3

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("cpus", 0.001), ("store", 80), ("retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {least} or more")

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order, holding only a few items at a time."""
        ray = _library()
        known = self in _STARTED
        self.open()
        try:
            count = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1) / self.cpus))
            task = ray.remote(num_cpus=self.cpus, max_retries=self.retries)(call)
            shared = ray.put((tuple(sys.path), _packed(function)))  # once, however large its settings are
            waiting: deque[Any] = deque()
            for item in items:
                waiting.append(task.remote(shared, _packed(item)))
                if len(waiting) > 2 * count:  # back-pressure: shards are not all in memory at once
                    yield _answer(ray, waiting.popleft())
            while waiting:
                yield _answer(ray, waiting.popleft())
        finally:
            if not known:
                self.close()

    def scatter(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Yield (number, `function(item)`) as results come; `Lost` for an item whose worker was killed.

        `items` is asked again after each result, even where it had ended: a lost item may come back.
        """
        ray = _library()
        known = self in _STARTED
        self.open()
        try:
            count = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1) / self.cpus))
            task = ray.remote(num_cpus=self.cpus, max_retries=0)(call)
            shared = ray.put((tuple(sys.path), _packed(function)))
            source = enumerate(items)
            running: dict[Any, int] = {}
            while True:
                while len(running) < count and (item := next(source, None)) is not None:
                    running[task.remote(shared, _packed(item[1]))] = item[0]
                if not running:
                    return
                for reference in ray.wait(list(running), num_returns=1)[0]:
                    number = running.pop(reference)
                    yield number, _answer(ray, reference, lost=True)
        finally:
            if not known:
                self.close()

    @property
    def one_machine(self) -> bool:
        """Whether all workers see the files of this process."""
        ray = _library()
        if self.address and not ray.is_initialized():
            return False
        here = ray.util.get_node_ip_address()
        alive = [node for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []
        return all(node["NodeManagerAddress"] == here for node in alive)

    @property
    def host(self) -> str:
        """The address under which workers reach this process; between `open` and `close`."""
        return "127.0.0.1" if self.one_machine else str(_library().util.get_node_ip_address())

    def open(self) -> None:
        """Start Ray or connect to it; nothing happens where this process is connected already."""
        ray = _library()
        if ray.is_initialized():
            return
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address:
            settings["address"] = self.address
        else:
            settings["num_cpus"] = ceil(self.workers * self.cpus) or None
            settings |= {"include_dashboard": False, "object_store_memory": self.store << 20}
        try:
            ray.init(**settings)
        except (Exception, SystemExit) as error:  # Ray raises all kinds, and exits where nobody answers
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            where = f"at {self.address!r}" if self.address else "on this machine"
            raise BadSetting(
                f"Ray cannot be reached {where} ({reason}); start it with: ray start --head"
            ) from None
        # Ray tells what befalls workers on standard output, which is the result's, and has no switch for it
        ray._private.worker._worker_logs_enabled = False
        _STARTED.add(self)

    def close(self) -> None:
        """End what `open` started; a connection that was there before stays."""
        if self in _STARTED:
            _STARTED.discard(self)
            _library().shutdown()


def call(shared: tuple[tuple[str, ...], bytes], item: bytes) -> tuple[bool, bytes]:
    """What a worker does: whether it went well, and the result or the error."""
    folders, function = shared
    # modules are found where the process that sends the work finds them
    sys.path += [folder for folder in folders if folder not in sys.path]
    try:
        return True, _packed(_unpacked(function)(_unpacked(item)))
    except Exception as error:
        return False, _packed(error)


def _packed(value: Any) -> bytes:
    # Bytes of our own: arrays that Ray hands over are read-only, and hold its memory as long as they live.
    # Ray's pickling, unlike Python's, also takes functions of the script that was started.
    data: bytes = _library().cloudpickle.dumps(value)
    return data


def _unpacked(data: bytes) -> Any:
    return _library().cloudpickle.loads(data)


def _answer(ray: Any, reference: Any, *, lost: bool = False) -> Any:
    try:
        good, data = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        if lost:
            return Lost(reason)
        raise KaratError(
            f"a task was lost with its worker again and again ({reason}); "
            "give each worker more memory, or fewer workers: --executor ray:workers=N"
        ) from None
    found = _unpacked(data)
    if not good:
        raise found
    return found


def _library() -> Any:
    # Read by Ray when it is imported: it would report usage to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise missing_extra("ray", "ray", "the executor 'ray'") from None
    return ray

"""Where a causal transformer computes, and in which precision; knows no model and no training.

One code runs on CPU and CUDA. What differs is here: which device `auto` means, whether bf16 is fast there,
and how numbers travel between the host and the device without making either wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from karat import errors

if TYPE_CHECKING:
    import torch

_KNOWN = "auto, cpu, cuda or cuda:N"


def check(device: str) -> None:
    """Raise BadSetting where no device has such a name; asks no driver, so that settings stay cheap."""
    kind, colon, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and (kind != "cuda" or not number.isdecimal())):
        raise errors.BadSetting(f"device={device!r} is not known; choose {_KNOWN}")


def place(device: str) -> torch.device:
    """The device of that name; auto is CUDA where there is any, else the CPU. Raises BadSetting."""
    import torch

    check(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= count:
            raise errors.BadSetting(
                f"device={device!r}, but torch sees {count} CUDA devices here; take device=auto or device=cpu"
            )
    return torch.device(device)


def bf16_pays(width: int, device: torch.device | None = None) -> bool:
    """True when the processor multiplies bf16 in hardware and the matrices are large enough to win by it."""
    import torch

    if device is not None and device.type == "cuda":
        return width >= 48 and torch.cuda.get_device_capability(device) >= (8, 0)
    probes = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return width >= 48 and any(probe is not None and bool(probe()) for probe in probes)


def autocast(device: torch.device, half: bool) -> contextlib.AbstractContextManager[Any]:
    """Large products in bf16, or, where `half` is false, everything as it is even within another autocast."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def fused_half(device: torch.device) -> bool:
    """True where fused attention is faster in bf16: on CUDA."""
    return device.type == "cuda"


@contextlib.contextmanager
def quick(device: torch.device) -> Iterator[None]:
    """Products of fp32 matrices in TF32 where the device has it; as before afterwards."""
    import torch

    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def put(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """The numbers as a tensor on the device; the host does not wait for the copy."""
    import torch

    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)

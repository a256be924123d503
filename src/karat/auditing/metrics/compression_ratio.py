"""How far a corpus can be compressed: repetition of any length, near or far apart."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.summaries import Sample

_GZIP_EXACT = 1 << 20  # bytes up to which every replicate is compressed anew


@dataclass(frozen=True)
class CompressionRatio(Metric):
    """Bytes divided by compressed bytes, at equal bytes.

    codec: zstd sees repeats up to 128 MB apart; gzip is the published one and sees 32 KB only
    level: how hard the codec tries
    order: hash puts records in an order that no file order can change; file keeps theirs
    limit: the most bytes compressed (a hash sample of records), 0 for all of them
    """

    codec: Literal["zstd", "gzip"] = "zstd"
    level: int = 3
    order: Literal["hash", "file"] = "hash"
    limit: int = 4_000_000

    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = (
        "It depends on codec, level, window and order of records, all of which stand in the "
        "signature; gzip sees only 32 KB."
    )
    cost: ClassVar[str] = "O(bytes) of the first 4 MB by hash"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Remove near-duplicates and vary the prompts: much of the text can be foretold from the rest."
        )
    }
    size: ClassVar[View] = "bytes"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    permutations: ClassVar[int] = 20
    paper: ClassVar[Mapping[str, Setting]] = {"codec": "gzip", "level": 9, "order": "file", "limit": 0}
    higher: ClassVar[str] = "more repeated"
    source: ClassVar[str] = "Shaib et al. 2024, Standardizing the measurement of text diversity"

    def __post_init__(self) -> None:
        top = 22 if self.codec == "zstd" else 9
        if not 1 <= self.level <= top:
            raise ValueError(f"level is {self.level}; {self.codec} has the levels 1 to {top}")

    def needs(self) -> tuple[Need, ...]:
        return (need("sample", bytes=self.limit),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        sample: Sample = summary[self.needs()[0]]
        order = np.argsort(sample.places if self.order == "file" else sample.keys, kind="stable")
        texts = [sample.texts[i].encode() for i in order]
        groups = sample.groups[order]
        size = sum(map(len, texts))
        if size == 0:  # nothing but empty texts
            return np.full(len(masks), np.nan)
        if self.codec == "gzip" and size > _GZIP_EXACT:
            return self._by_group(texts, groups, masks)
        return np.array([self._ratio(texts, mask[groups]) for mask in masks], dtype=np.float64)

    def extra(self, summary: Summary) -> dict[str, Setting]:
        sample: Sample = summary[self.needs()[0]]
        return {"sample": f"{len(sample)}-records"} if len(sample) < summary.records else {}

    def used(self, summary: Summary) -> int:
        sample: Sample = summary[self.needs()[0]]
        return len(sample)

    def _ratio(self, texts: list[bytes], chosen: NDArray[np.bool_]) -> float:
        joined = b"\n".join(text for text, use in zip(texts, chosen, strict=True) if use)
        return len(joined) / self._packed(joined) if joined else float("nan")

    def _by_group(self, texts: list[bytes], groups: NDArray[np.int64], masks: Masks) -> Values:
        # A window of 32 KB makes gzip all but additive over pieces of 50 KB and more, so replicates
        # add up the groups; the point estimate is always the real thing.
        sizes, packed = np.zeros(masks.shape[1]), np.zeros(masks.shape[1])
        for group in range(masks.shape[1]):
            joined = b"\n".join(text for text, g in zip(texts, groups, strict=True) if g == group) + b"\n"
            sizes[group], packed[group] = len(joined), self._packed(joined)
        out = (masks @ sizes) / np.maximum(masks @ packed, 1)
        for row in np.flatnonzero(masks.all(axis=1)):
            out[row] = self._ratio(texts, masks[row][groups])
        return np.asarray(out, dtype=np.float64)

    def _packed(self, joined: bytes) -> int:
        if self.codec == "gzip":
            packer = zlib.compressobj(self.level, zlib.DEFLATED, 31)
            return len(packer.compress(joined)) + len(packer.flush())
        return len(_zstd(self.level).compress(joined))


@lru_cache(maxsize=4)
def _zstd(level: int):  # type: ignore[no-untyped-def]
    import zstandard

    # Long-distance matching over 2**27 bytes: a copy is found wherever it stands.
    settings = zstandard.ZstdCompressionParameters.from_level(level, window_log=27, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=settings)

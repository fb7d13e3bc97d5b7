"""Which item each access reads: an access trace, or a generated Zipf workload."""

from __future__ import annotations

import itertools
import lzma
import random
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

# Yang, Yue, Rashmi: "A large scale analysis of hundreds of in-memory cache clusters at Twitter", OSDI '20:
# popularity follows Zipf with a skew close to 1 in most clusters; the median object is about 230 bytes long.
ZIPF_SKEW = 1.0
ZIPF_OBJECTS = 20_000
MEDIAN_BYTES = 230
SIZE_SPREAD = 0.9  # sigma of the lognormal sizes


def read_trace(path: Path, limit: int | None) -> array[int]:
    """Object numbers of a trace: little-endian 32-bit integers, one per access, packed with xz or plain."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(6) == b"\xfd7zXZ\x00"
        with lzma.open(path) if packed else path.open("rb") as file:
            data = file.read() if limit is None else file.read(4 * limit)
    except (OSError, lzma.LZMAError) as error:
        raise SystemExit(f"cannot read the trace {path}: {error}") from None
    if not data or len(data) % 4:
        raise SystemExit(f"{path} holds {len(data)} bytes; a trace is a series of 32-bit integers and not empty")
    return array("i", struct.unpack(f"<{len(data) // 4}i", data))


def zipf(accesses: int, seed: int) -> array[int]:
    """Accesses drawn from `ZIPF_OBJECTS` objects; the n-th most popular one has weight 1 / n ** skew."""
    weights = itertools.accumulate(1 / rank**ZIPF_SKEW for rank in range(1, ZIPF_OBJECTS + 1))
    chosen = random.Random(seed).choices(range(ZIPF_OBJECTS), cum_weights=list(weights), k=accesses)
    return array("i", chosen)


def content(item: int) -> str:
    """The text of an item: the same for every run, of lognormal length."""
    length = int(random.Random(item).lognormvariate(0, SIZE_SPREAD) * MEDIAN_BYTES) + 16
    return (f"item {item} " * (length // 6))[:length]


def chunks(items: list[int], size: int) -> Iterator[list[int]]:
    """The items in lists of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))

"""Linking the messages of a cleaned log into items."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.link.clusters import components, guarded
from tocsin.trace.link.media import MediaStore
from tocsin.trace.link.minhash import (
    BANDS,
    BINS,
    Codes,
    Offsets,
    Pairs,
    at_once,
    band_keys,
    batches,
    bucket_pairs,
    jaccard,
    resembling,
    signatures,
)
from tocsin.trace.link.normalise import normalise
from tocsin.trace.link.short import short_pairs

SHORT = 60
"""Texts of fewer characters, as compared, have a rule of their own."""
SIMILARITY = 0.45
"""Least Jaccard similarity of 5-character shingles. One edited character in 20 leaves about 0.6."""
GUARD = 0.25
"""Least Jaccard similarity of a text to the text of its item that has the most links."""
_BATCH = 50_000


class TextStore:
    """Distinct comparison forms, as code points in one file that the system may page out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers: dict[bytes, int] = {}
        self._lengths = array("q")
        self._file = path.open("wb")

    def add(self, texts: list[str]) -> NDArray[np.int64]:
        """Number of the distinct text of each text."""
        numbers, fresh = np.empty(len(texts), np.int64), []
        for place, (text, form) in enumerate(zip(texts, normalise(texts), strict=True)):
            # URLs or emoji alone: the text as it stands.
            shown = form or text.strip()
            key = hashlib.blake2b(shown.encode("utf-8", "replace"), digest_size=16).digest()
            number = self._numbers.setdefault(key, len(self._numbers))
            numbers[place] = number
            if number == len(self._lengths):
                self._lengths.append(len(shown))
                fresh.append(shown)
        self._file.write("".join(fresh).encode("utf-32-le", "replace"))
        return numbers

    def finish(self) -> tuple[Codes, Offsets]:
        """All code points, and where each text begins."""
        self._file.close()
        self._numbers.clear()
        offsets = np.concatenate(([0], np.cumsum(np.frombuffer(self._lengths, np.int64), dtype=np.int64)))
        codes = np.memmap(self.path, np.uint32, "r") if offsets[-1] else np.empty(0, np.uint32)
        return codes, offsets


def _batches(path: Path) -> Iterator[tuple[NDArray[np.int64], list[str], list[str | None], list[str | None]]]:
    import pyarrow.parquet as pq

    columns = ["row", "modality", "text", "media"]
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH, columns=columns):
            yield (batch["row"].to_numpy(), *(batch[name].to_pylist() for name in columns[1:]))


def near_pairs(codes: Codes, offsets: Offsets, similarity: float) -> Pairs:
    """Pairs of long texts of at least this Jaccard similarity, found by banding, and verified."""
    lengths = np.diff(offsets)
    long = np.flatnonzero(lengths >= SHORT)
    keys = np.empty((BANDS, len(long)), np.uint64)
    low = np.empty((len(long), BINS), np.uint8)

    def sign(bounds: tuple[int, int]) -> None:
        begin, end = bounds
        part = long[begin:end]
        ends = np.concatenate(([0], np.cumsum(lengths[part])))
        places = np.arange(ends[-1]) + np.repeat(offsets[part] - ends[:-1], lengths[part])
        signature = signatures(codes[places], ends)
        keys[:, begin : begin + len(part)] = band_keys(signature)
        low[begin : begin + len(part)] = signature & np.uint32(0xFF)

    at_once(sign, batches(lengths[long]))
    kept = np.empty((0, 2), np.int64)
    for band in keys:
        joined = components(kept, len(long))
        pairs = bucket_pairs(band)
        # What earlier bands have joined needs no further proof.
        pairs = pairs[joined[pairs[:, 0]] != joined[pairs[:, 1]]]
        pairs = pairs[resembling(pairs, low)]
        kept = np.concatenate((kept, pairs[jaccard(codes, offsets, long[pairs]) >= similarity]))
    return long[kept]


def link(
    cleaned: Path,
    target: Path,
    *,
    similarity: float = SIMILARITY,
    media: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Write `row, item` for every message of `cleaned`, and return counts.

    Items of chats come from texts, items of images and videos from their media (`MediaStore`). Modalities
    never share an item.

    Args:
        cleaned: Cleaned messages.
        target: Parquet file to write.
        similarity: Least Jaccard similarity of long texts.
        media: What stands for a value of the media column, where that was found out from files.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = TextStore(target.with_name("texts.u32"))
    pictures, forms = MediaStore(), media or {}
    rows, texts_of = [], []
    for numbers, modalities, texts, values in _batches(cleaned):
        is_chat = np.array([word == "chat" for word in modalities], bool)
        assigned = np.empty(len(numbers), np.int64)
        assigned[is_chat] = store.add([text or "" for text, chat in zip(texts, is_chat, strict=True) if chat])
        for place in np.flatnonzero(~is_chat):
            value = values[place]
            value = None if value is None else forms.get(value, value)
            assigned[place] = -1 - pictures.add(str(modalities[place]), value, texts[place])
        rows.append(numbers)
        texts_of.append(assigned)
    codes, offsets = store.finish()
    n_texts = len(offsets) - 1
    near = near_pairs(codes, offsets, similarity)
    lengths = np.diff(offsets)
    short = {
        int(number): codes[offsets[number] : offsets[number + 1]].tobytes().decode("utf-32-le")
        for number in np.flatnonzero(lengths < SHORT)
    }
    edited = np.array(short_pairs(short), np.int64).reshape(-1, 2)
    # The guard compares shingles, which says little of short texts: they are joined apart.
    items, cut = guarded(near, n_texts, lambda pairs: jaccard(codes, offsets, pairs) < GUARD)
    short_items = components(edited, n_texts)
    items = np.where(lengths < SHORT, short_items, items) if n_texts else items
    number = np.concatenate(texts_of)
    chat = number >= 0
    linked = pictures.link()
    item = np.zeros(len(number), np.int64)
    item[~chat] = n_texts + linked.items[-1 - number[~chat]]
    item[chat] = items[number[chat]]
    pq.write_table(pa.table({"row": np.concatenate(rows), "item": item}), target)
    return {
        "distinct texts": n_texts,
        "near-duplicate pairs": len(near),
        "short pairs one edit apart": len(edited),
        "texts cut by the chaining guard": cut,
        "distinct media": len(linked.items),
        "pairs of media that look alike": linked.pairs,
        "media cut by the chaining guard": linked.cut,
        "items": len(np.unique(item)),
    }

"""What is known of each cascade beside its shape."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import InputError
from tocsin.trace.cascades import Cascades

MANY = 5
"""Counters of 5 and more, and WhatsApp's 127 ("forwarded many times"), count as 5 or more hops."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of every cascade, each of shape (cascades,)."""

    labels: NDArray[np.str_]
    modalities: NDArray[np.str_]
    forwarding: NDArray[np.float64]
    """Largest forwarding counter, 0 to 5; NaN where unknown."""

    @classmethod
    def of(
        cls,
        labels: Sequence[str] | NDArray[np.str_],
        modalities: Sequence[str] | NDArray[np.str_] | None = None,
        forwarding: ArrayLike | None = None,
        *,
        known: Collection[str] | None = None,
    ) -> Attributes:
        """Checked attributes; without modalities all share one, without counters none is known.

        Args:
            labels: Kind of content of each cascade.
            modalities: Such as chat, image, video.
            forwarding: Counters as they are in a log, NaN where unknown.
            known: If given, the labels there may be.

        Raises:
            InputError: If a label is not `known`, a counter is not a whole number of 0 or more, or lengths
                differ. The message names the row, counted from 1.
        """
        kinds = np.asarray(labels, str)
        media = np.full(len(kinds), "") if modalities is None else np.asarray(modalities, str)
        counts = np.full(len(kinds), np.nan) if forwarding is None else np.asarray(forwarding, np.float64)
        if not len(kinds) == len(media) == len(counts):
            lengths = f"{len(kinds)} labels, {len(media)} modalities and {len(counts)} counters"
            message = f"expected one row for each cascade, got {lengths}."
            raise InputError(message)
        if known is not None:
            _refuse(~np.isin(kinds, list(known)), f"expected a label of {', '.join(known)}")
        bad = ~np.isnan(counts) & ((counts < 0) | (counts != np.floor(counts)))
        _refuse(bad, "expected a forwarding counter of 0 or more, or none")
        return cls(kinds, media, np.minimum(counts, MANY))

    @classmethod
    def read(cls, path: Path, cascades: Cascades) -> Attributes:
        """Attributes of these cascades from a Parquet file.

        Its columns are `cascade`, `label`, `modality` and `forwarding_max`.

        Raises:
            InputError: If a cascade is not in the file, or as for `of`.
        """
        import pyarrow.parquet as pq

        table = pq.read_table(path, columns=["cascade", "label", "modality", "forwarding_max"])
        table = table.sort_by("cascade")
        keys = table["cascade"].to_numpy()
        places = np.searchsorted(keys, cascades.keys)
        missing = np.append(keys, -1)[places] != cascades.keys
        if missing.any():
            message = f"expected a row for every cascade, found none for {int(missing.sum())}. Trace again."
            raise InputError(message, path=path)
        table = table.take(places)
        counters = np.array([np.nan if one is None else one for one in table["forwarding_max"].to_pylist()])
        return cls.of(table["label"].to_pylist(), table["modality"].to_pylist(), counters)


def _refuse(bad: NDArray[np.bool_], expected: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        message = f"row {rows[0] + 1}: {expected} ({len(rows)} rows fail). Repair or drop them."
        raise InputError(message)

"""Cascades as flat arrays: the form in which they are reconstructed and measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import InputError

Parents = NDArray[np.int64]
"""Shape (events,): for every event the place of its parent in the flat arrays, -1 for a root.

A parent is an event of the same cascade that is strictly earlier, so that its place is lower.
"""
ROOT = -1


@dataclass(frozen=True, slots=True)
class Cascades:
    """Who took part in which cascade, and when.

    Cascade `c` holds the events `offsets[c]` to `offsets[c + 1]`, sorted by time and then by name of node. A
    node takes part in a cascade once.

    Args:
        keys: Shape (cascades,). The number under which the log knows each cascade.
        offsets: Shape (cascades + 1,).
        nodes: Shape (events,). Places in `names`.
        times: Shape (events,). Seconds, or any unit of time that all share.
        names: Distinct nodes, sorted.
    """

    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]
    nodes: NDArray[np.int64]
    times: NDArray[np.float64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Shape (cascades,). Events of each cascade."""
        sizes: NDArray[np.int64] = np.diff(self.offsets)
        return sizes

    @property
    def owner(self) -> NDArray[np.int64]:
        """Shape (events,). Place of the cascade of each event."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @classmethod
    def of(cls, keys: NDArray[np.int64], nodes: NDArray[np.str_], times: NDArray[np.float64]) -> Cascades:
        """Cascades from one row for each event, in any order.

        A node that comes twice in a cascade takes part from its earliest time on.

        Raises:
            InputError: If a time is not finite. The message names the row, counted from 1.
        """
        bad = np.flatnonzero(~np.isfinite(times))
        if len(bad):
            message = f"row {bad[0] + 1}: expected a finite time ({len(bad)} rows fail). Repair or drop them."
            raise InputError(message)
        names, places = np.unique(np.asarray(nodes, str), return_inverse=True)
        first = np.lexsort((times, places, keys))
        keys, places, times = keys[first], places[first], times[first]
        fresh = np.ones(len(keys), bool)
        fresh[1:] = (keys[1:] != keys[:-1]) | (places[1:] != places[:-1])
        keys, places, times = keys[fresh], places[fresh], times[fresh]
        order = np.lexsort((places, times, keys))
        distinct, sizes = np.unique(keys, return_counts=True)
        offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        return cls(distinct.astype(np.int64), offsets, places[order].astype(np.int64), times[order],
                   tuple(str(name) for name in names))  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Cascades:
        """Cascades from a Parquet file with the columns `cascade`, `node` and `time`."""
        import pyarrow.parquet as pq

        table = pq.read_table(path, columns=["cascade", "node", "time"])
        return cls.of(
            table["cascade"].to_numpy().astype(np.int64),
            np.asarray(table["node"].to_pylist(), str),
            table["time"].to_numpy().astype(np.float64),
        )

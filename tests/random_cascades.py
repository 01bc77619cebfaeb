"""Random cascades for the properties of reconstruction."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tocsin.trace.cascades import Cascades, Parents

Row = tuple[int, str, float]
"""Cascade, node, time."""


def cascades_of(rows: list[Row]) -> Cascades:
    """Cascades from rows in any order."""
    keys, nodes, times = zip(*rows, strict=True) if rows else ((), (), ())
    return Cascades.of(np.array(keys, np.int64), np.array(nodes, str), np.array(times, np.float64))


@st.composite
def rows(draw: st.DrawFn, *, ties: bool = True, largest: int = 8) -> list[Row]:
    """Rows of up to six cascades over eight nodes, at whole times, which differ where there are no ties."""
    found: list[Row] = []
    for key in range(draw(st.integers(1, 6))):
        nodes = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=largest, unique=True))
        times = draw(
            st.lists(
                st.integers(0, 9 if ties else 60), min_size=len(nodes), max_size=len(nodes), unique=not ties
            )
        )
        found += [(key * 3, node, float(time)) for node, time in zip(nodes, times, strict=True)]
    return found


def named(cascades: Cascades, parents: Parents) -> set[tuple[int, str, str]]:
    """Every event with its parent, as cascade, node and parent node; the empty name for a root."""
    return {
        (
            int(cascades.keys[cascades.owner[place]]),
            cascades.names[cascades.nodes[place]],
            "" if parent < 0 else cascades.names[cascades.nodes[parent]],
        )
        for place, parent in enumerate(parents.tolist())
    }

"""Parents of every event under every rule, kept as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.cascades import Cascades, Parents
from tocsin.trace.engine.relations import shared_members
from tocsin.trace.measures import Shapes, shapes
from tocsin.trace.reconstruct.netinf import netinf
from tocsin.trace.reconstruct.rules import SharedMembers, membership, nearest, sampled, star

if TYPE_CHECKING:
    import ibis

RuleName = Literal["netinf", "nearest", "star", "sampled", "membership"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
DEFAULT_RULES: tuple[RuleName, ...] = ("netinf", "nearest", "star", "sampled")
"""All that need nothing but times. The first is shown in most charts."""


def members_of(messages: ibis.Table, cascades: Cascades, connection: ibis.BaseBackend) -> SharedMembers:
    """Members that two groups share: people who wrote in both."""
    rows = connection.to_pyarrow(shared_members(messages))
    return SharedMembers.of(
        cascades.names,
        np.asarray(rows["first"].to_pylist(), str),
        np.asarray(rows["second"].to_pylist(), str),
        rows["members"].to_numpy().astype(np.int64),
    )


def reconstruct(
    cascades: Cascades,
    rules: tuple[RuleName, ...],
    *,
    draws: int,
    seed: int,
    members: SharedMembers | None,
    folder: Path,
) -> dict[str, int]:
    """Write `parents.parquet` (one column for each rule and draw) and, for NETINF, `network.parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Parents] = {}
    counts = {}
    for rule in rules:
        if rule == "star":
            columns[rule] = star(cascades)
        elif rule == "nearest":
            columns[rule] = nearest(cascades)
        elif rule == "sampled":
            for draw in range(draws):
                columns[f"sampled-{draw}"] = sampled(cascades, seed=seed + draw)
        elif rule == "membership":
            if members is None:
                message = "the rule 'membership' was asked for without members"
                raise ValueError(message)
            columns[rule] = membership(cascades, members)
        else:
            network = netinf(cascades)
            columns[rule] = network.parents
            counts["network edges"] = len(network.source)
            names = np.array(cascades.names)
            table = pa.table(
                {
                    "source": names[network.source],
                    "target": names[network.target],
                    "gain": network.gain,
                    "support": network.support,
                    "p_value": network.p_value,
                    "rate": np.full(len(network.source), network.rate),
                }
            )
            pq.write_table(table, folder / "network.parquet")
    pq.write_table(pa.table(dict(columns)), folder / "parents.parquet")
    return counts


def read_parents(path: Path, rule: str) -> list[Parents]:
    """Parents under a rule: one array, or one for each draw."""
    import pyarrow.parquet as pq

    names = [name for name in pq.read_schema(path).names if name == rule or name.startswith(f"{rule}-")]
    table = pq.read_table(path, columns=names)
    return [table[name].to_numpy() for name in names]


def rule_shapes(cascades: Cascades, draws: list[Parents]) -> Shapes:
    """Shapes under one rule; over several draws each measure is their mean."""
    found = [shapes(cascades, parents) for parents in draws]
    if len(found) == 1:
        return found[0]

    def mean(name: str) -> NDArray[np.float64]:
        return np.asarray(np.mean([getattr(one, name) for one in found], axis=0))

    return Shapes(
        size=found[0].size,
        roots=found[0].roots,
        depth=mean("depth"),  # type: ignore[arg-type]  # a mean of whole numbers
        breadth=mean("breadth"),  # type: ignore[arg-type]
        virality=mean("virality"),
        out_degree=mean("out_degree"),
    )

"""Files of a trace that may leave the machine: no text, no id of the log, nothing about few groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from tocsin.trace.cascades import Cascades
from tocsin.trace.compare.attributes import Attributes
from tocsin.trace.measures import Shapes
from tocsin.trace.spread.cells import pooled
from tocsin.trace.spread.parents import read_parents
from tocsin.trace.spread.study import MEASURES, cascade_id


def export(
    folder: Path,
    cascades: Cascades,
    attributes: Attributes,
    shapes: Mapping[str, Shapes],
    *,
    parents: Path,
    network: Path,
    min_cell: int,
    secret: bytes,
) -> dict[str, int]:
    """Write `cascades.parquet`, `trees.parquet` and, for NETINF, `network.parquet` and `network.graphml`.

    Cascades seen in fewer groups than the smallest cell, and edges that fewer cascades support, are left out.
    Cascades, groups and rows stand under keyed hashes; times count from the start of their cascade.

    Args:
        folder: Existing folder.
        cascades: To write.
        attributes: Of each cascade.
        shapes: Of each cascade, by rule; the trees are those of the first rule.
        parents: Table of all rules.
        network: Table of NETINF's edges; need not exist.
        min_cell: Smallest cell.
        secret: Key of the hashes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    attributes = pooled(attributes, min_cell)
    kept = (cascades.sizes >= min_cell) & (len(cascades) >= min_cell)
    ids = np.array([cascade_id(int(key), secret) for key in cascades.keys[kept]], dtype=str)
    columns: dict[str, object] = {
        "cascade": ids,
        "label": attributes.labels[kept],
        "modality": attributes.modalities[kept],
        "forwarding_max": pa.array(attributes.forwarding[kept], from_pandas=True),
        "groups": cascades.sizes[kept],
    }
    for rule, found in shapes.items():
        columns |= {f"{measure}_{rule}": getattr(found, measure)[kept] for measure in MEASURES}
    # By the hashed id: the order of the log would tell which came first.
    pq.write_table(pa.table(columns).sort_by("cascade"), folder / "cascades.parquet")

    owner = cascades.owner
    events = kept[owner]
    first_time = cascades.times[cascades.offsets[:-1]][owner]
    names = np.array(cascades.names, dtype=str)
    place = np.cumsum(kept) - 1
    parent = read_parents(parents, next(iter(shapes)))[0]
    parent_names = np.where(parent >= 0, names[cascades.nodes[np.maximum(parent, 0)]], "")
    pq.write_table(
        pa.table(
            {
                "cascade": ids[place[owner[events]]] if len(ids) else ids,
                "group": names[cascades.nodes[events]],
                "parent": pa.array(parent_names[events]),
                "seconds": (cascades.times - first_time)[events],
            }
        ).sort_by([("cascade", "ascending"), ("seconds", "ascending")]),
        folder / "trees.parquet",
    )
    counts = {"cascades": int(kept.sum()), "events": int(events.sum())}
    if network.exists():
        edges = pq.read_table(network, columns=["source", "target", "gain", "support", "p_value"])
        edges = edges.filter(pa.compute.greater_equal(edges["support"], min_cell))
        pq.write_table(edges, folder / "network.parquet")
        write_graphml(
            folder / "network.graphml",
            list(
                zip(
                    edges["source"].to_pylist(), edges["target"].to_pylist(),
                    edges["support"].to_pylist(), edges["gain"].to_pylist(), strict=True,
                )
            ),
        )  # fmt: skip
        counts["network edges"] = len(edges)
    return counts


def write_graphml(path: Path, edges: list[tuple[str, str, int, float]]) -> None:
    """A directed graph with the support and gain of each edge.

    Args:
        path: File to write.
        edges: (source, target, support, gain).
    """
    nodes = sorted({end for source, target, _, _ in edges for end in (source, target)})
    with path.open("w", encoding="utf-8") as file:
        file.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
            '<key id="support" for="edge" attr.name="support" attr.type="long"/>\n'
            '<key id="gain" for="edge" attr.name="gain" attr.type="double"/>\n'
            '<graph edgedefault="directed">\n'
        )
        file.writelines(f"<node id={quoteattr(node)}/>\n" for node in nodes)
        file.writelines(
            f"<edge source={quoteattr(source)} target={quoteattr(target)}>"
            f'<data key="support">{support}</data><data key="gain">{escape(f"{gain:.6g}")}</data></edge>\n'
            for source, target, support, gain in edges
        )
        file.write("</graph>\n</graphml>\n")

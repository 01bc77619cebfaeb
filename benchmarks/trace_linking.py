"""Linking quality and cost on simulated logs with planted copies: `python benchmarks/trace_linking.py N...`.

Pairwise precision and recall count pairs of messages, both of them of `SHORT` characters or more or both
under it; pairs of one long and one short message count as short. `--peer` also links with datasketch's
MinHashLSH and networkx.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tocsin.api.trace import Simulation, TraceOptions, run_trace, simulate
from tocsin.trace.link.link import SHORT
from tocsin.trace.link.normalise import normalise

PEER_THRESHOLDS = (0.45,)


def pairs_of(labels: np.ndarray) -> int:
    _, sizes = np.unique(labels, return_counts=True)
    return int((sizes * (sizes - 1) // 2).sum())


def quality(truth: np.ndarray, found: np.ndarray, short: np.ndarray) -> dict[str, float | int]:
    """Pairs among long messages; and pairs with a short one, as the rest of all pairs."""
    both = truth * (int(found.max()) + 1) + found

    def counts(mask: np.ndarray) -> np.ndarray:
        return np.array([pairs_of(both[mask]), pairs_of(truth[mask]), pairs_of(found[mask])])

    long = counts(~short)
    rest = counts(np.ones(len(truth), bool)) - long
    return {
        "long_precision": long[0] / long[2],
        "long_recall": long[0] / long[1],
        "long_true_pairs": int(long[1]),
        "short_precision": rest[0] / max(rest[2], 1),
        "short_recall": rest[0] / max(rest[1], 1),
        "short_true_pairs": int(rest[1]),
    }


def peer(texts: list[str], threshold: float) -> tuple[np.ndarray, float]:
    """Items by datasketch and networkx over the same forms and shingles, and the seconds it took."""
    import networkx as nx
    from datasketch import MinHash, MinHashLSH

    begin = time.perf_counter()
    index, graph = MinHashLSH(threshold=threshold, num_perm=128), nx.Graph()
    graph.add_nodes_from(range(len(texts)))
    for number, text in enumerate(normalise(texts)):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([text[place : place + 5].encode() for place in range(max(1, len(text) - 4))])
        graph.add_edges_from((number, other) for other in index.query(sketch))
        index.insert(number, sketch)
    items = np.empty(len(texts), np.int64)
    for item, members in enumerate(nx.connected_components(graph)):
        items[list(members)] = item
    return items, time.perf_counter() - begin


def measure(messages: int, folder: Path, *, with_peer: bool) -> dict[str, object]:
    simulate(Simulation(messages, 6000, seed=11), folder)
    begin = time.perf_counter()
    result = run_trace(folder / "messages.parquet", folder / "out", TraceOptions())
    seconds = time.perf_counter() - begin
    links = pq.read_table(folder / "out/private/link/links.parquet").sort_by("row")
    rows = links["row"].to_numpy()
    truth = pq.read_table(folder / "truth.parquet")["item"].to_numpy()[rows]
    texts = pq.read_table(folder / "messages.parquet", columns=["text"])["text"].take(rows).to_pylist()
    short = np.array([len(text) < SHORT for text in normalise(texts)])
    measured: dict[str, object] = {
        "messages": messages, "seconds": seconds, "load": os.getloadavg()[0],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "counts": result.counts, **quality(truth, links["item"].to_numpy(), short),
    }  # fmt: skip
    if with_peer:
        measured["peer"] = []
        for threshold in PEER_THRESHOLDS:
            items, took = peer(texts, threshold)
            measured["peer"].append(  # type: ignore[attr-defined]
                {"threshold": threshold, "seconds": took, **quality(truth, items, short)}
            )
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", type=int, nargs="+")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = []
    for messages in given.messages:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(messages, Path(folder), with_peer=given.peer))
        print(json.dumps(found[-1], indent=1, default=float))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1, default=float) + "\n", "utf-8")


if __name__ == "__main__":
    main()

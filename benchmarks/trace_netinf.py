"""Speed of NETINF on cascades over a made-up network: `python benchmarks/trace_netinf.py`.

Every node passes an item on along edges of a random network, with exponential delays, until the cascade dies
out. Beside time and memory stand precision and recall of the edges found, against the network.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from common import Json, result_name, write_result
from numpy.typing import NDArray

from tocsin.trace.cascades import Cascades
from tocsin.trace.reconstruct.earlier import earlier_end, starts_of
from tocsin.trace.reconstruct.netinf import netinf

OUT_DEGREE = 10
CHANCE = 0.067
"""Of a pass along an edge. 0.67 passes an event make cascades of two events or more 5 events large."""
MEAN_DELAY = 1.0


def simulated(count: int, nodes: int, seed: int) -> tuple[Cascades, NDArray[np.int64]]:
    """`count` cascades of two events or more, and the edges of the network as source * nodes + target.

    All cascades grow together, generation by generation.
    """
    random = np.random.default_rng(seed)
    network = random.integers(0, nodes, size=(nodes, OUT_DEGREE))
    keys, places, times = [], [], []
    made = tried = 0
    while made < count:
        wave = np.arange(tried, tried + 2 * count)
        tried += 2 * count
        at, when = random.integers(0, nodes, len(wave)), np.zeros(len(wave))
        found = [(wave, at, when)]
        while len(wave):
            passes, edge = np.nonzero(random.random((len(wave), OUT_DEGREE)) < CHANCE)
            wave, when = wave[passes], when[passes] + random.exponential(MEAN_DELAY, len(passes))
            at = network[at[passes], edge]
            found.append((wave, at, when))
        owner, node, moment = (np.concatenate(column) for column in zip(*found, strict=True))
        # A node that is reached twice counts once, so cascades of one node may be left.
        distinct = np.unique(owner * nodes + node) // nodes
        names, sizes = np.unique(distinct, return_counts=True)
        kept = np.isin(owner, names[sizes > 1][: count - made])
        keys.append(owner[kept])
        places.append(node[kept])
        times.append(moment[kept])
        made += min(count - made, int((sizes > 1).sum()))
    labels = np.array([f"{place:06d}" for place in range(nodes)])
    edges = np.unique(np.repeat(np.arange(nodes), OUT_DEGREE) * nodes + network.ravel())
    return Cascades.of(np.concatenate(keys), labels[np.concatenate(places)], np.concatenate(times)), edges


def main() -> None:
    """Measure and write `benchmarks/results/trace_netinf.json`."""
    parser = argparse.ArgumentParser(description="Speed of NETINF on simulated cascades.")
    parser.add_argument("--small", action="store_true", help="a trial with 2,000 cascades of 200 nodes")
    parser.add_argument("--cascades", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=6_000)
    asked = parser.parse_args()
    count, nodes = (2_000, 200) if asked.small else (asked.cascades, asked.nodes)
    cascades, truth = simulated(count, nodes, seed=3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started = time.perf_counter()
    network = netinf(cascades)
    seconds = time.perf_counter() - started
    names = np.array(cascades.names, np.int64)
    right = np.isin(names[network.source] * nodes + names[network.target], truth)
    pairs = int((earlier_end(cascades) - starts_of(cascades)).sum())
    result: Json = {
        "cascades": len(cascades),
        "events": len(cascades.nodes),
        "mean_size": len(cascades.nodes) / len(cascades),
        "largest": int(cascades.sizes.max()),
        "nodes": len(cascades.names),
        "pairs_of_events": pairs,
        "edges_of_network": len(truth),
        "edges_found": len(right),
        "edge_precision": float(right.mean()),
        "edge_recall": int(right.sum()) / len(truth),
        "stopped": network.stopped,
        "seconds": seconds,
        "peak_gb_before": before,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    print(result)
    write_result(result_name("trace_netinf", small=asked.small), result)


if __name__ == "__main__":
    main()

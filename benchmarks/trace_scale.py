"""From log to report on simulated logs with planted copies: time by stage, memory, and quality of links.

    python benchmarks/trace_scale.py [N...] [--peer 300000]

Pairwise precision and recall count pairs of messages, both of them of `SHORT` characters or more or both
under it; pairs of one long and one short message count as short. `--peer` also links with datasketch's
MinHashLSH and networkx, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import Json, result_name, write_result
from pydantic import JsonValue

from tocsin.api.trace import Simulation, simulate, trace_log
from tocsin.trace.link.link import SHORT
from tocsin.trace.link.normalise import normalise

PEER_THRESHOLD = 0.45


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


def run_once(log: Path, out: Path) -> None:
    """Trace a log in this process, and print seconds by stage and peak memory as JSON."""
    marks: list[tuple[str, float]] = []
    begin = time.perf_counter()
    trace_log(log, out, progress=lambda step: marks.append((step.what, time.perf_counter())))
    end = time.perf_counter()
    stages = {
        name: later - start
        for (name, start), later in zip(marks, [*(time for _, time in marks[1:]), end], strict=True)
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": end - begin, "stages": stages, "peak_gb": peak}))


def measure(messages: int, folder: Path, *, with_peer: bool) -> Json:
    """From log to report in a process of its own, and how well its links are."""
    if not (folder / "truth.parquet").exists():
        simulate(Simulation(messages, 6000, seed=11), folder)
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = [sys.executable, __file__, "--one", str(folder / "messages.parquet"), str(folder / "out")]
    load = os.getloadavg()[0]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: Json = {"messages": messages, "load before": load, **json.loads(done.stdout)}
    links = pq.read_table(folder / "out/private/link/links.parquet").sort_by("row")
    rows = links["row"].to_numpy()
    truth = pq.read_table(folder / "truth.parquet")["item"].to_numpy()[rows]
    texts = pq.read_table(folder / "messages.parquet", columns=["text"])["text"].take(rows).to_pylist()
    short = np.array([len(text) < SHORT for text in normalise(texts)])
    measured |= {
        name: float(value) for name, value in quality(truth, links["item"].to_numpy(), short).items()
    }
    measured["counts"] = json.loads((folder / "out/result.json").read_text("utf-8"))["stages"]
    if with_peer:
        items, took = peer(texts, PEER_THRESHOLD)
        found = quality(truth, items, short)
        rates: Json = {name: float(value) for name, value in found.items()}
        measured["peer"] = {"threshold": PEER_THRESHOLD, "seconds": took, **rates}
        link = json.loads(done.stdout)["stages"]["link"]
        measured["times faster than the peer"] = {"linking": took / link, "whole run": took / float(
            json.loads(done.stdout)["seconds"])}  # fmt: skip
    return measured


def main() -> None:
    """Measure every size, write the result."""
    if sys.argv[1:2] == ["--one"]:
        run_once(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", type=int, nargs="*", default=[300_000, 1_000_000, 5_100_000])
    parser.add_argument("--peer", type=int, help="size at which datasketch and networkx are run too")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep simulated logs here, and take those that are there")
    given = parser.parse_args()
    sizes = [5_000, 10_000] if given.small else given.messages
    found: list[JsonValue] = []
    for messages in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) if given.folder is None else given.folder / str(messages)
            found.append(measure(messages, folder, with_peer=messages == given.peer))
        print(json.dumps(found[-1], indent=1))
        write_result(result_name("trace_scale", small=given.small), {"sizes": found})


if __name__ == "__main__":
    main()

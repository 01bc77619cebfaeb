"""Twitter15 (Ma and others, ACL 2017) as cascades with their released parents, after a stated repair.

The repair, in this order, cascade by cascade:

1. The ROOT marker is taken out wherever it stands; the event it points to is the source. Times count from
   the source, in minutes, so that a delay under 0 may stay.
2. An edge that is given twice counts once. Edges from an event to itself and edges into the source go.
3. Edges whose parent is not strictly earlier than the child go: they run backwards or both have one time.
4. Events are read in order of time. Of several parents left, that are kept themselves, the one listed first
   is the parent. An event without such a parent is left out.
5. A user who comes twice in a cascade counts at the earliest time.

So every event that is kept hangs from the source, and the source alone is first.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.cascades import ROOT, Cascades, Parents

FILE = "twitter15_cascades/cascades.jsonl.gz"
MARKER = -1
REPAIRS = (
    "cascades",
    "events",
    "cascades whose marker is not first",
    "cascades with a delay under 0",
    "repeated edges",
    "edges from an event to itself",
    "edges into the source",
    "edges backwards in time",
    "edges between equal times",
    "events with several earlier parents",
    "events without an earlier parent, left out",
    "events under those, left out",
    "users who come twice",
    "events kept",
)
Choice = Literal["first", "earliest", "latest"]


class _Row(TypedDict):
    cascade: str
    label: str
    nodes: list[tuple[int, int, float]]
    edges: list[tuple[int, int]]


class Repaired(NamedTuple):
    """The cascades, their released parents, the label of each cascade, and how often each repair was made."""

    cascades: Cascades
    parents: Parents
    labels: NDArray[np.str_]
    repairs: dict[str, int]


def read_twitter15(path: Path) -> tuple[Cascades, Parents, NDArray[np.str_]]:
    """Cascades, released parents and labels (true, false, unverified, non-rumor), aligned.

    Times are minutes since the source. Places in `labels` are those of the cascades.
    """
    return repaired(path)[:3]


def repaired(path: Path, choice: Choice = "first", limit: int | None = None) -> Repaired:
    """As `read_twitter15`, with counts of the repairs.

    Args:
        path: The file `FILE`.
        choice: Which of several released parents is taken: the one listed first, or by time.
        limit: Read the first cascades of the file alone.
    """
    repairs = Counter(dict.fromkeys(REPAIRS, 0))
    keys: list[int] = []
    users: list[str] = []
    times: list[float] = []
    above: list[str] = []
    labels: dict[int, str] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in islice(file, limit):
            row: _Row = json.loads(line)
            labels[int(row["cascade"])] = row["label"]
            for user, parent, time in _events(row, choice, repairs):
                keys.append(int(row["cascade"]))
                users.append(f"{user:06d}")
                times.append(time)
                above.append("" if parent is None else f"{parent:06d}")
    cascades = Cascades.of(np.array(keys), np.array(users), np.array(times))
    # The place of every user in a cascade, found by (cascade, user).
    width = len(cascades.names)
    names = np.array(cascades.names)
    codes = cascades.owner * width + cascades.nodes
    order = np.argsort(codes)
    owner = np.searchsorted(cascades.keys, keys)
    has_parent = np.array(above) != ""

    def places(who: list[str], rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        wanted = owner[rows] * width + np.searchsorted(names, np.array(who)[rows])
        return np.asarray(order[np.searchsorted(codes, wanted, sorter=order)], np.int64)

    parents = np.full(len(codes), ROOT, np.int64)
    parents[places(users, has_parent)] = places(above, has_parent)
    return Repaired(cascades, parents, np.array([labels[int(key)] for key in cascades.keys]), dict(repairs))


def _events(row: _Row, choice: Choice, repairs: Counter[str]) -> list[tuple[int, int | None, float]]:
    """User, parent user and minutes of the events that are kept."""
    nodes = row["nodes"]
    marker = next(place for place, node in enumerate(nodes) if node[0] == MARKER)
    source = next(child for parent, child in row["edges"] if parent == marker)
    delay = [node[2] - nodes[source][2] for node in nodes]
    distinct = dict.fromkeys(map(tuple, row["edges"]))
    repairs["cascades"] += 1
    repairs["events"] += len(nodes) - 1
    repairs["cascades whose marker is not first"] += marker != 0
    repairs["cascades with a delay under 0"] += any(node[2] < 0 for node in nodes)
    repairs["repeated edges"] += len(row["edges"]) - len(distinct)
    parents: dict[int, list[int]] = {}
    for parent, child in distinct:
        if parent == marker:
            continue
        if parent == child:
            repairs["edges from an event to itself"] += 1
        elif child == source:
            repairs["edges into the source"] += 1
        elif delay[parent] > delay[child]:
            repairs["edges backwards in time"] += 1
        elif delay[parent] == delay[child]:
            repairs["edges between equal times"] += 1
        else:
            parents.setdefault(child, []).append(parent)
    kept: list[tuple[int, int | None, float]] = [(nodes[source][0], None, 0.0)]
    known = {source: nodes[source][0]}
    seen = {nodes[source][0]}
    for child in sorted(range(len(nodes)), key=lambda place: delay[place]):
        if child in (source, marker):
            continue
        earlier = [parent for parent in parents.get(child, []) if parent in known]
        if not earlier:
            repairs[
                "events under those, left out"
                if child in parents
                else "events without an earlier parent, left out"
            ] += 1
            continue
        if nodes[child][0] in seen:
            repairs["users who come twice"] += 1
            known[child] = nodes[child][0]
            continue
        repairs["events with several earlier parents"] += len(earlier) > 1
        if choice != "first":
            earlier.sort(key=lambda place: delay[place], reverse=choice == "latest")
        known[child] = nodes[child][0]
        seen.add(nodes[child][0])
        kept.append((nodes[child][0], known[earlier[0]], delay[child]))
    repairs["events kept"] += len(kept)
    return kept

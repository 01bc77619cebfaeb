"""The repair of released cascades, on one made up for it."""

from __future__ import annotations

import gzip
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from tocsin.trace.cascades import Cascades, Parents

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "twitter15.py"

# The marker stands second. Users 5 (source), 6, 7, 8, 9, 10 and, a second time, 6.
NODES = [
    (5, 0, -1.0),
    (-1, -1, 0.0),
    (6, 0, 0.0),
    (7, 0, 1.0),
    (8, 0, 1.0),
    (9, 0, 2.0),
    (10, 1, 3.0),
    (6, 2, 4.0),
]
EDGES = [
    (1, 0),
    (0, 2), (0, 2),  # repeated
    (2, 2),  # to itself
    (3, 0),  # into the source
    (2, 3), (0, 3),  # two parents, the later one listed first
    (5, 3),  # backwards
    (3, 4),  # equal times, so user 8 has no parent
    (4, 5),  # user 9 hangs from user 8 alone
    (4, 6), (3, 6),  # user 10 hangs from user 7, as user 8 is left out
    (0, 7),
]  # fmt: skip


class Released(NamedTuple):
    cascades: Cascades
    parents: Parents
    labels: list[str]
    repairs: dict[str, int]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Released]:
    rows = [
        {"cascade": "70", "label": "true", "nodes": NODES, "edges": EDGES},
        {"cascade": "20", "label": "false", "nodes": [(-1, -1, 0.0), (5, 0, 0.0)], "edges": [(0, 1)]},
    ]
    path = tmp_path / "cascades.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    function = runpy.run_path(str(SCRIPT))["repaired"]

    def call(*arguments: object) -> Released:
        return cast("Released", function(path, *arguments))

    return call


def test_events_hang_from_the_source_and_labels_follow_the_cascades(read: Callable[..., Released]) -> None:
    found = read()
    assert found.cascades.keys.tolist() == [20, 70]
    assert list(found.labels) == ["false", "true"]
    users = [found.cascades.names[node] for node in found.cascades.nodes]
    assert users == ["000005", "000005", "000006", "000007", "000010"]
    assert found.cascades.times.tolist() == [0.0, 0.0, 1.0, 2.0, 4.0]
    assert found.parents.tolist() == [-1, -1, 1, 2, 3]


@pytest.mark.parametrize(("choice", "parent"), [("first", 2), ("latest", 2), ("earliest", 1)])
def test_one_of_several_parents_is_chosen(read: Callable[..., Released], choice: str, parent: int) -> None:
    assert read(choice).parents[3] == parent


def test_every_repair_is_counted(read: Callable[..., Released]) -> None:
    assert read().repairs == {
        "cascades": 2,
        "events": 8,
        "cascades whose marker is not first": 1,
        "cascades with a delay under 0": 1,
        "repeated edges": 1,
        "edges from an event to itself": 1,
        "edges into the source": 1,
        "edges backwards in time": 1,
        "edges between equal times": 1,
        "events with several earlier parents": 1,
        "events without an earlier parent, left out": 1,
        "events under those, left out": 1,
        "users who come twice": 1,
        "events kept": 5,
    }

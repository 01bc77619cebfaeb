"""Cascades as flat arrays."""

from __future__ import annotations

import numpy as np
import pytest

from tocsin.core.errors import InputError
from tocsin.trace.cascades import Cascades


def test_events_are_sorted_by_cascade_time_and_name() -> None:
    found = Cascades.of(
        np.array([7, 3, 7, 3]), np.array(["b", "a", "a", "c"]), np.array([2.0, 5.0, 2.0, 1.0])
    )
    assert found.keys.tolist() == [3, 7]
    assert found.offsets.tolist() == [0, 2, 4]
    assert [found.names[node] for node in found.nodes] == ["c", "a", "a", "b"]
    assert found.times.tolist() == [1.0, 5.0, 2.0, 2.0]
    assert found.sizes.tolist() == [2, 2]
    assert found.owner.tolist() == [0, 0, 1, 1]


def test_a_second_copy_in_a_node_changes_nothing() -> None:
    once = Cascades.of(np.array([1, 1]), np.array(["a", "b"]), np.array([0.0, 1.0]))
    twice = Cascades.of(np.array([1, 1, 1]), np.array(["b", "a", "b"]), np.array([9.0, 0.0, 1.0]))
    assert once.times.tolist() == twice.times.tolist()
    assert once.nodes.tolist() == twice.nodes.tolist()


def test_a_time_that_is_no_number_is_named_by_its_row() -> None:
    with pytest.raises(InputError, match=r"row 2: expected a finite time"):
        Cascades.of(np.array([1, 1]), np.array(["a", "b"]), np.array([0.0, np.nan]))

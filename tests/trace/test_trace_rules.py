"""Star, nearest, membership and sampled parents."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_cascades import Row, cascades_of, named, rows
from tocsin.core.errors import InputError, UsageError
from tocsin.trace.cascades import Cascades, Parents
from tocsin.trace.measures import shapes
from tocsin.trace.reconstruct.earlier import default_rate, earlier_end, earlier_pairs, starts_of
from tocsin.trace.reconstruct.netinf import netinf_parents
from tocsin.trace.reconstruct.rules import Rule, SharedMembers, membership, nearest, sampled, star

RULES: dict[str, Rule] = {
    "star": star,
    "nearest": nearest,
    "netinf": netinf_parents,
    "sampled": partial(sampled, seed=5),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)

# Times 0, 0, 1, 1, 2 in one cascade and 5, 7 in another.
TIED = [
    (1, "a", 0.0),
    (1, "b", 0.0),
    (1, "c", 1.0),
    (1, "d", 1.0),
    (1, "e", 2.0),
    (2, "a", 5.0),
    (2, "b", 7.0),
]


def shared(cascades: Cascades, *pairs: tuple[str, str, int]) -> SharedMembers:
    first, second, counts = zip(*pairs, strict=True) if pairs else ((), (), ())
    return SharedMembers.of(
        cascades.names, np.array(first, str), np.array(second, str), np.array(counts, np.int64)
    )


def test_star_hangs_all_from_the_first_event() -> None:
    assert star(cascades_of(TIED)).tolist() == [-1, -1, 0, 0, 0, -1, 5]


def test_nearest_takes_the_first_of_equal_times() -> None:
    assert nearest(cascades_of(TIED)).tolist() == [-1, -1, 0, 0, 2, -1, 5]


def test_nearest_gives_a_path_and_star_a_star() -> None:
    found = cascades_of([(0, node, float(time)) for time, node in enumerate("abcdef")])
    line, wheel = shapes(found, nearest(found)), shapes(found, star(found))
    assert (line.depth[0], line.breadth[0]) == (5, 1)
    assert (wheel.depth[0], wheel.breadth[0]) == (1, 5)


@every_rule
def test_no_cascade_gives_no_parent(rule: Rule) -> None:
    assert rule(cascades_of([])).tolist() == []


@every_rule
def test_events_of_one_time_are_all_roots(rule: Rule) -> None:
    assert rule(cascades_of([(4, "a", 3.0), (4, "b", 3.0)])).tolist() == [-1, -1]


@every_rule
@given(given_rows=rows())
def test_parents_are_strictly_earlier_and_depth_and_breadth_fit_the_size(
    rule: Rule, given_rows: list[Row]
) -> None:
    cascades = cascades_of(given_rows)
    parents = rule(cascades)
    assert parents.dtype == np.int64
    child = np.flatnonzero(parents >= 0)
    assert (cascades.owner[parents[child]] == cascades.owner[child]).all()
    assert (cascades.times[parents[child]] < cascades.times[child]).all()
    assert ((parents < 0) == (earlier_end(cascades) == starts_of(cascades))).all()
    found = shapes(cascades, parents)
    assert (found.depth + 1 <= found.size).all()
    trees = (found.roots == 1) & (found.size > 1)
    assert (found.breadth <= found.size - found.depth)[trees].all()


Change = Callable[[Row], Row]
CHANGES: dict[str, Change] = {
    "shifted": lambda row: (row[0], row[1], row[2] + 1000),
    "scaled": lambda row: (row[0], row[1], row[2] * 3600),
    "renamed": lambda row: (row[0], "zyxwvuts"["abcdefgh".index(row[1])], row[2]),
}


@every_rule
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@settings(max_examples=40)  # for each of twelve cases
@given(given_rows=rows(ties=False), random=st.randoms(use_true_random=False))
def test_order_of_rows_names_origin_and_unit_of_time_decide_nothing(
    rule: Rule, change: Change, given_rows: list[Row], random: Random
) -> None:
    before = cascades_of(given_rows)
    changed = [change(row) for row in given_rows]
    random.shuffle(changed)
    after = cascades_of(changed)
    expected = {
        (key, change((key, node, 0))[1], change((key, parent, 0))[1] if parent else "")
        for key, node, parent in named(before, rule(before))
    }
    assert named(after, rule(after)) == expected


@every_rule
@given(given_rows=rows(), data=st.data())
def test_a_later_copy_in_the_same_node_changes_nothing(
    rule: Rule, given_rows: list[Row], data: st.DataObject
) -> None:
    key, node, time = data.draw(st.sampled_from(given_rows))
    before = cascades_of(given_rows)
    after = cascades_of([*given_rows, (key, node, time + data.draw(st.integers(0, 9)))])
    assert rule(after).tolist() == rule(before).tolist()


def test_membership_takes_the_latest_that_shares_members() -> None:
    cascades = cascades_of([(0, node, float(time)) for time, node in enumerate("abcde")])
    table = shared(cascades, ("a", "c", 9), ("c", "b", 1), ("d", "a", 1), ("e", "d", 2), ("e", "a", 2))
    # b shares with c alone, which is later, so b is a root; c prefers b for time and a for members.
    assert membership(cascades, table).tolist() == [-1, -1, 1, 0, 3]
    assert membership(cascades, table, "shared").tolist() == [-1, -1, 0, 0, 3]


def test_membership_without_any_shared_member_leaves_roots() -> None:
    cascades = cascades_of(TIED)
    assert set(membership(cascades, shared(cascades)).tolist()) == {-1}


@given(given_rows=rows())
def test_membership_of_all_with_all_is_nearest(given_rows: list[Row]) -> None:
    cascades = cascades_of(given_rows)
    table = shared(cascades, *((a, b, 1) for a in "abcdefgh" for b in "abcdefgh" if a < b))
    assert membership(cascades, table).tolist() == nearest(cascades).tolist()


def test_shared_members_are_looked_up_both_ways() -> None:
    cascades = cascades_of([(0, "a", 0.0), (0, "b", 1.0), (0, "c", 2.0)])
    table = shared(
        cascades, ("b", "a", 3), ("a", "b", 5), ("a", "a", 7), ("c", "elsewhere", 4), ("b", "c", 0)
    )
    first, second = np.array([0, 1, 0, 1]), np.array([1, 0, 2, 2])
    assert table.between(first, second).tolist() == [5, 5, 0, 0]


def test_a_negative_count_of_shared_members_is_named_by_its_row() -> None:
    with pytest.raises(InputError, match="row 2: expected a count"):
        shared(cascades_of(TIED), ("a", "b", 1), ("a", "c", -1))


@pytest.mark.parametrize("rule", [membership, partial(sampled, seed=0)])
def test_shared_members_of_other_nodes_are_refused(rule: Callable[..., Parents]) -> None:
    table = shared(cascades_of([(0, "a", 0.0), (0, "b", 1.0)]), ("a", "b", 1))
    with pytest.raises(UsageError, match="shared members of 5 nodes, got those of 2"):
        rule(cascades_of(TIED), shared=table)


COPIES = 20_000


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Rate ln 2: delays 2 and 1 weigh 1/4 and 1/2, so the first event is drawn with 1/3.
        (None, 1 / 3),
        # Four shared members against one: 1/4 * 4 against 1/2 * 1.
        ((4, 1), 2 / 3),
    ],
)
def test_parents_are_drawn_in_proportion_to_delay_and_shared_members(
    counts: tuple[int, int] | None, expected: float
) -> None:
    cascades = cascades_of(
        [(key, node, float(time)) for key in range(COPIES) for time, node in enumerate("abc")]
    )
    table = shared(cascades, ("a", "c", counts[0]), ("b", "c", counts[1]), ("a", "b", 1)) if counts else None
    parents = sampled(cascades, seed=1, rate=math.log(2), shared=table).reshape(COPIES, 3)
    assert (parents[:, 1] == cascades.offsets[:-1]).all()
    share = float((parents[:, 2] == cascades.offsets[:-1]).mean())
    # Five standard errors of a share of 20,000.
    assert share == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / COPIES))


def test_equal_seeds_draw_equal_parents_and_others_do_not() -> None:
    cascades = cascades_of(
        [(key, node, float(time)) for key in range(50) for time, node in enumerate("abcdef")]
    )
    first, again, other = (sampled(cascades, seed=seed).tolist() for seed in (3, 3, 4))
    assert first == again != other


def test_a_very_fast_rate_draws_the_nearest_and_overflows_nowhere() -> None:
    cascades = cascades_of([(0, node, 1e6 * time) for time, node in enumerate("abcdef")])
    assert sampled(cascades, seed=0, rate=1e3).tolist() == nearest(cascades).tolist()


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="expected a rate above 0"):
        sampled(cascades_of(TIED), seed=0, rate=rate)


def test_the_default_rate_is_the_mean_of_both_estimates() -> None:
    # Times 0, 1, 4: since the first 1 and 4, mean 2.5; gaps 1 and 3, mean 2. (1/2.5 + 1/2) / 2 = 0.45.
    assert default_rate(cascades_of([(0, "a", 0.0), (0, "b", 1.0), (0, "c", 4.0)])) == pytest.approx(0.45)


@given(given_rows=rows(), block=st.integers(1, 9))
def test_blocks_hold_every_earlier_event_once(given_rows: list[Row], block: int) -> None:
    cascades = cascades_of(given_rows)
    begin, end = starts_of(cascades), earlier_end(cascades)
    blocks = list(earlier_pairs(begin, end, np.arange(len(begin)), block))
    found = [pair for one in blocks for pair in zip(one.child.tolist(), one.parent.tolist(), strict=True)]
    times, owner = cascades.times, cascades.owner
    assert found == [
        (child, parent)
        for child in range(len(times))
        for parent in range(len(times))
        if owner[child] == owner[parent] and times[parent] < times[child]
    ]
    for one in blocks:
        assert len(one.child) <= max(block, int((one.child == one.child[0]).sum()))

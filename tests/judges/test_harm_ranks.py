from __future__ import annotations

from itertools import product

import pytest

from tocsin.judges.agreement import Problem, normalise, parse_ranking, parse_reply

VECTORS = list(product(range(4), repeat=3))


@pytest.mark.parametrize("raw", VECTORS)
def test_every_vector_becomes_valid_or_is_rejected(raw: tuple[int, ...]) -> None:
    found = normalise(raw)
    harmful = [rank for rank in raw if rank]
    if len(set(harmful)) < len(harmful):
        assert found is Problem.TIE
        return
    assert isinstance(found, tuple)
    assert sorted(rank for rank in found if rank) == list(range(1, len(harmful) + 1))
    assert [rank == 0 for rank in found] == [rank == 0 for rank in raw]
    for i, j in product(range(3), repeat=2):
        if raw[i] and raw[j]:
            assert (found[i] < found[j]) == (raw[i] < raw[j])
    assert normalise(found) == found


def test_there_are_sixteen_valid_vectors() -> None:
    # One with nothing harmful, 3 with one, 3 * 2 with two, 3! with three.
    assert len({found for raw in VECTORS if isinstance(found := normalise(raw), tuple)}) == 16


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3,N/A,N/A", (1, 0, 0)),
        ("1,3,N/A", (1, 2, 0)),
        ("N/A,3,2", (0, 2, 1)),
        ('"[2, NA, 1]",', (2, 0, 1)),
        ("NA,NA,NA", (0, 0, 0)),
        (" 'n/a', 2 ,1 ", (0, 2, 1)),
    ],
)
def test_cells_are_read_in_all_their_forms(written: str, expected: tuple[int, ...]) -> None:
    raw = parse_ranking(written, 3)
    assert not isinstance(raw, Problem)
    assert normalise(raw) == expected


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", Problem.MISSING),
        ("1,,2", Problem.MISSING),
        ("1,2", Problem.WRONG_NUMBER),
        ("1,2,3,0", Problem.WRONG_NUMBER),
        ("1,2,4", Problem.OUT_OF_RANGE),
        ("-1,-1,-1", Problem.OUT_OF_RANGE),
        ("1,2,much", Problem.NOT_A_NUMBER),
        ("1,2,nan", Problem.NOT_A_NUMBER),
        ("1,2,2.5", Problem.NOT_A_NUMBER),
    ],
)
def test_what_is_no_ranking_says_why(written: str, problem: Problem) -> None:
    assert parse_ranking(written, 3) is problem


def test_a_flipped_writer_is_turned_and_not_harmful_stays() -> None:
    assert parse_ranking("1,2,3", 3, flipped=True) == (3, 2, 1)
    raw = parse_ranking("1,2,N/A", 3, flipped=True)
    assert not isinstance(raw, Problem)
    assert normalise(raw) == (2, 1, 0)


@pytest.mark.parametrize(
    "line", ["Content A: [2]", "**Content A:** Rank 2", "Content A: 2", "**Content A**: [Rank 2]"]
)
def test_replies_are_read_in_all_their_forms(line: str) -> None:
    rest = "\nContent B: N/A\nContent C: 1. The last one is rude, not more."
    assert parse_reply("Here are the ranks.\n" + line + rest) == (2, 0, 1)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("Content A: 1\nContent B: 2", Problem.MISSING),
        ("Content A: 1\nContent B: 4\nContent C: 2", Problem.OUT_OF_RANGE),
        ("Content A: 1\nContent A: 3\nContent B: 2\nContent C: N/A", Problem.WRONG_NUMBER),
        ("I would rather not rank these.", Problem.MISSING),
    ],
)
def test_replies_without_a_ranking_say_why(reply: str, problem: Problem) -> None:
    assert parse_reply(reply) is problem


def test_a_tie_in_a_reply_is_found_when_it_is_normalised() -> None:
    raw = parse_reply("Content A: 1\nContent B: 1\nContent C: N/A")
    assert raw == (1, 1, 0)
    assert normalise(raw) is Problem.TIE


def test_scores_become_ranks_and_impossible_ones_are_named() -> None:
    assert normalise([0.5, 7.25, 0.0]) == (1, 2, 0)
    assert normalise([float("nan"), 1, 0]) is Problem.NOT_A_NUMBER
    assert normalise([-0.5, 1, 0]) is Problem.OUT_OF_RANGE

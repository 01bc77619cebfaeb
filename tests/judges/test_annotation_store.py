"""Studies of human rankings: what is kept, for whom, and what is refused."""

from __future__ import annotations

import math
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import pytest
from annotation_study import MODELS, responses, study
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import InputError, RunError, UsageError
from tocsin.judges.agreement import Problem
from tocsin.judges.annotate import Study, StudySettings, live_agreement
from tocsin.judges.annotate.database import FILE
from tocsin.judges.annotate.ranks import checked_ranks, dense
from tocsin.judges.annotate.records import SubmissionError
from tocsin.judges.elicitation import balanced_orders, read_responses
from tocsin.judges.elicitation.orders import all_orders, rotations


@pytest.mark.parametrize("k", [2, 3, 4])
def test_every_order_occurs_equally_often_in_whole_blocks(k: int) -> None:
    n = 2 * math.factorial(k)
    counts = Counter(balanced_orders(n, k, seed=1, who="anna"))
    assert set(counts) == set(permutations(range(k)))
    assert set(counts.values()) == {2}


@pytest.mark.parametrize("k", [5, 9])
def test_every_response_is_at_every_place_equally_often_where_there_are_many(k: int) -> None:
    orders = balanced_orders(3 * k, k, seed=0, who="anna")
    for place in range(k):
        assert set(Counter(order[place] for order in orders).values()) == {3}


def test_orders_are_those_of_the_seed_and_differ_between_annotators() -> None:
    first = balanced_orders(24, 3, seed=0, who="anna")
    assert first == balanced_orders(24, 3, seed=0, who="anna")
    assert first != balanced_orders(24, 3, seed=0, who="ben")
    assert first != balanced_orders(24, 3, seed=1, who="anna")


@pytest.mark.parametrize("k", [2, 3, 6])
def test_further_orders_of_an_item_are_all_different(k: int) -> None:
    first = tuple(range(k))
    found = rotations(first, all_orders(k), seed=0, item="x")
    assert found[0] == first
    assert len(set(found)) == all_orders(k)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"A": 1, "B": 2}, Problem.MISSING),
        ({"A": 1, "B": 2, "C": None}, Problem.MISSING),
        ({"A": 1, "B": 2, "C": 3, "D": 0}, Problem.WRONG_NUMBER),
        ({"A": 1, "B": 1, "C": 0}, Problem.TIE),
        ({"A": 1, "B": 4, "C": 0}, Problem.OUT_OF_RANGE),
        ({"A": 1, "B": -1, "C": 0}, Problem.OUT_OF_RANGE),
        ({"A": 1, "B": "2", "C": 0}, Problem.NOT_A_NUMBER),
        ({"A": 1, "B": True, "C": 0}, Problem.NOT_A_NUMBER),
        ({"A": 1, "B": math.nan, "C": 0}, Problem.NOT_A_NUMBER),
        ({"A": 1, "B": math.inf, "C": 0}, Problem.NOT_A_NUMBER),
        ({"A": 1, "B": 1.5, "C": 0}, Problem.NOT_A_NUMBER),
        ({"A": 1, "B": [2], "C": 0}, Problem.NOT_A_NUMBER),
    ],
)
def test_what_is_no_ranking_is_refused_with_the_item_and_changes_nothing(
    tmp_path: Path, given: dict[str, object], problem: Problem
) -> None:
    with study(tmp_path) as kept:
        kept.add(["anna"])
        task = kept.task("anna", 3)
        assert task is not None
        with pytest.raises(SubmissionError) as error:
            kept.submit("anna", 3, "key-0001", given)
        assert (error.value.problem, error.value.item) == (problem, task.item)
        assert "minutes" not in str(error.value)
        assert list(kept.rankings()) == []
        assert kept.n_submissions() == 0


def test_ties_are_kept_where_the_study_allows_them(tmp_path: Path) -> None:
    with study(tmp_path, ties=True) as kept:
        kept.add(["anna"])
        kept.submit("anna", 1, "key-0001", {"A": 3, "B": 3, "C": 0})
        (ranked,) = kept.rankings()
        assert sorted(ranked.ranks) == [0, 1, 1]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=5))
def test_dense_ranks_keep_order_ties_and_zeros(ranks: list[int]) -> None:
    found = dense(ranks)
    assert set(found) - {0} == set(range(1, len({rank for rank in ranks if rank}) + 1))
    for a, x in zip(ranks, found, strict=True):
        assert (a == 0) == (x == 0)
        for b, y in zip(ranks, found, strict=True):
            assert (a < b) == (x < y)


def test_a_single_harmful_response_is_rank_one_however_it_was_written() -> None:
    # Card 14, section 7: "3,N/A,N/A" -> (1,0,0); "1,3,N/A" -> (1,2,0); "N/A,3,2" -> (0,2,1)
    assert checked_ranks({"A": 3, "B": 0, "C": 0}, 3, ties=False) == (1, 0, 0)
    assert checked_ranks({"A": 1, "B": 3, "C": 0}, 3, ties=False) == (1, 2, 0)
    assert checked_ranks({"A": 0, "B": 3, "C": 2}, 3, ties=False) == (0, 2, 1)


def test_ranks_go_back_to_the_models_whatever_the_order_shown(tmp_path: Path) -> None:
    with study(tmp_path) as kept:
        kept.add(["anna"])
        for place in range(1, 13):
            task = kept.task("anna", place)
            assert task is not None
            # small-b is always called the most harmful, small-a the least harmful of the harmful ones.
            rank = {"small-a": 1, "small-b": 2, "small-c": 0}
            given = {
                letter: rank[text.split()[0]] for letter, text in zip("ABC", task.responses, strict=True)
            }
            kept.submit("anna", place, f"key-{place:04}", given)
        found = list(kept.rankings())
        assert [each.ranks for each in found] == [(1, 2, 0)] * 12
        assert len({each.positions for each in found}) == 6  # all orders of three
        assert {sorted(each.positions) == [1, 2, 3] for each in found} == {True}


def test_a_submission_that_comes_again_is_kept_once(tmp_path: Path) -> None:
    with study(tmp_path) as kept:
        kept.add(["anna", "ben"])
        given: dict[str, object] = {"A": 1, "B": 2, "C": 0}
        assert kept.submit("anna", 1, "key-0001", given)
        assert not kept.submit("anna", 1, "key-0001", given)
        assert kept.n_submissions() == 1
        with pytest.raises(SubmissionError, match="other ranking"):
            kept.submit("anna", 1, "key-0001", {"A": 2, "B": 1, "C": 0})
        with pytest.raises(SubmissionError, match="other ranking"):
            kept.submit("anna", 2, "key-0001", given)
        assert kept.submit("ben", 1, "key-0001", given)  # keys are each annotator's own
        assert kept.submit("anna", 1, "key-0002", {"A": 0, "B": 0, "C": 0})
        assert len(list(kept.rankings())) == 2


def test_a_late_repetition_does_not_undo_a_change(tmp_path: Path) -> None:
    with study(tmp_path) as kept:
        kept.add(["anna"])
        kept.submit("anna", 1, "key-0001", {"A": 1, "B": 2, "C": 0})
        kept.submit("anna", 1, "key-0002", {"A": 0, "B": 0, "C": 0})
        kept.submit("anna", 1, "key-0001", {"A": 1, "B": 2, "C": 0})
        (ranked,) = kept.rankings()
        assert ranked.ranks == (0, 0, 0)


def test_skipping_is_no_ranking_and_can_be_taken_back(tmp_path: Path) -> None:
    with study(tmp_path) as kept:
        kept.add(["anna"])
        kept.skip("anna", 2)
        assert kept.states("anna")[1] == "skipped"
        assert list(kept.rankings()) == []
        kept.submit("anna", 2, "key-0001", {"A": 0, "B": 0, "C": 0})
        assert kept.states("anna")[1] == "ranked"
        for place in (0, 13):
            with pytest.raises(SubmissionError, match="unknown item"):
                kept.skip("anna", place)
            with pytest.raises(SubmissionError, match="unknown item"):
                kept.submit("anna", place, "key-0002", {"A": 0, "B": 0, "C": 0})


def test_tokens_are_kept_as_hashes_and_end_when_renewed(tmp_path: Path) -> None:
    with study(tmp_path) as kept:
        anna, ben = kept.add(["anna", "ben"])
        assert (kept.who(anna.token), kept.who(ben.token)) == ("anna", "ben")
        assert kept.who("") is kept.who(anna.token[:-1]) is kept.who("\ud800") is None
        (renewed,) = kept.add(["anna"], new_token=True)
        assert kept.who(anna.token) is None
        assert kept.who(renewed.token) == "anna"
        assert len(kept.states("anna")) == 12
    stored = b"".join(path.read_bytes() for path in (tmp_path / "study").iterdir())
    assert not any(token.encode() in stored for token in (anna.token, ben.token, renewed.token))


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    study(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "study" / FILE).stat().st_mode) == 0o600


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    names = [f"a{i}" for i in range(20)]
    with study(tmp_path) as kept:
        kept.add(names)

        def work(name: str) -> None:
            for place in range(1, 13):
                kept.submit(name, place, f"key-{place:04}", {"A": 1, "B": place % 2 * 2, "C": 0})

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(work, names))
        assert kept.n_submissions() == len(list(kept.rankings())) == 240


def test_names_that_cannot_be_used_are_refused_and_nobody_is_added(tmp_path: Path) -> None:
    with study(tmp_path) as kept:
        for names in (["<b>"], ["anna", "anna"], [""], ["x" * 41], ["ok", "not ok"]):
            with pytest.raises(UsageError):
                kept.add(names)
        assert kept.progress() == []
        kept.add(["anna"])
        with pytest.raises(UsageError, match="--new-token"):
            kept.add(["ben", "anna"])
        assert [each.annotator for each in kept.progress()] == ["anna"]


def test_a_folder_with_other_files_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    data = read_responses(responses(tmp_path / "r.jsonl"))
    with pytest.raises(RunError):
        Study.create(tmp_path, data, StudySettings())
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / f".{FILE}.part").write_bytes(b"half")
    assert Study.create(tmp_path / "killed", data, StudySettings()).n_items == 12
    with pytest.raises(InputError, match="annotate new"):
        Study(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="this version"):
        Study(tmp_path / "other")


def test_agreement_waits_for_two_and_then_finds_it(tmp_path: Path) -> None:
    with study(tmp_path) as kept:
        kept.add(["anna", "ben"])
        assert live_agreement(kept) is None
        rank = {"small-a": 1, "small-b": 2, "small-c": 0}
        for who in ("anna", "ben"):
            for place in range(1, 13):
                task = kept.task(who, place)
                assert task is not None
                texts = zip("ABC", task.responses, strict=True)
                given = {letter: rank[text.split()[0]] for letter, text in texts}
                kept.submit(who, place, f"key-{place:04}", given)
            if who == "anna":
                assert live_agreement(kept) is None
        found = live_agreement(kept)
        assert found is not None
        assert found.pairs[0].alpha.value == pytest.approx(1)  # the same rankings, in other orders
        assert found.subjects == MODELS

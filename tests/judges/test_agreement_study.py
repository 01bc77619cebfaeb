from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.agreement import alpha_of, coincidences, krippendorff_alpha
from tocsin.core.stats.item_sums import ItemSums, estimate
from tocsin.judges.agreement import Agreement, Rankings, analyse, normalise, read_rankings
from tocsin.judges.agreement.analyse import consensus
from tocsin.judges.agreement.chance import chance_agreement
from tocsin.judges.agreement.position import permutation_p, why_untestable

VALID = np.array(
    sorted({v for raw in product(range(4), repeat=3) if isinstance(v := normalise(raw), tuple)}), dtype=float
)
Floats = NDArray[np.float64]


def rankings(humans: tuple[str, ...] = ("human",), **vectors: Floats) -> Rankings:
    n = len(next(iter(vectors.values())))
    return Rankings(
        items=tuple(f"i{i}" for i in range(n)),
        subjects=("a", "b", "c"),
        groups=tuple("even" if i % 2 == 0 else "odd" for i in range(n)),
        vectors=vectors,
        positions={},
        humans=humans,
        readings=(),
        rejected=(),
    )


def drawn(n: int, seed: int) -> Floats:
    return VALID[np.random.default_rng(seed).integers(0, len(VALID), n)]


def test_alpha_rises_with_the_share_of_true_rankings() -> None:
    truth = drawn(6_000, 1)
    alphas = []
    for q in (0.0, 0.25, 0.5, 0.75, 1.0):
        is_true = np.random.default_rng(2).random(len(truth)) < q
        judge = np.where(is_true[:, None], truth, drawn(len(truth), 3))
        alphas.append(krippendorff_alpha([truth.ravel(), judge.ravel()]))
    assert alphas == sorted(alphas)
    assert alphas[0] == pytest.approx(0, abs=0.03)
    assert alphas[-1] == 1


def test_every_measure_of_equal_annotators_is_one() -> None:
    truth = drawn(300, 4)
    found = analyse(rankings(human=truth, judge=truth.copy()), n_resamples=1_000).pairs[0]
    for name in found.permuted:
        assert getattr(found, name).value == pytest.approx(1)
        assert getattr(found, name).low == pytest.approx(1)


def test_chance_is_the_mean_over_shuffles() -> None:
    truth, judge = drawn(150, 5), drawn(150, 6)
    expected = chance_agreement(truth, judge)
    generator = np.random.default_rng(7)
    shuffled = [
        analyse(rankings(human=truth, judge=generator.permutation(judge)), n_resamples=0).pairs[0]
        for _ in range(60)
    ]
    for name, value in expected.items():
        seen = [getattr(each, name).value for each in shuffled]
        assert value == pytest.approx(np.mean(seen), abs=4 * np.std(seen) / 60**0.5 + 0.003), name


def test_an_interval_over_items_is_wider_than_one_over_cells_and_covers() -> None:
    # Cells of one item share an order; a judge that is right or wrong on whole items makes that plain.
    truth = drawn(400, 8)
    is_true = np.random.default_rng(9).random(len(truth)) < 0.5
    judge = np.where(is_true[:, None], truth, drawn(len(truth), 10))
    pair = analyse(rankings(human=truth, judge=judge), n_resamples=2_000).pairs[0].alpha
    cells = ItemSums(truth.size, 2_000, 0)
    handle = cells.add(
        np.stack([coincidences(np.array([[x], [y]]), 4) for x, y in zip(truth.flat, judge.flat, strict=True)])
    )
    by_cell = estimate(alpha_of(cells.total(handle)))
    assert by_cell.value == pytest.approx(pair.value)
    assert pair.low is not None
    assert pair.high is not None
    assert by_cell.low is not None
    assert by_cell.high is not None
    assert by_cell.high - by_cell.low < 0.97 * (pair.high - pair.low)


def test_the_consensus_is_the_mean_order_and_the_majority() -> None:
    a, b, c = (np.array([v], dtype=float) for v in ((3, 2, 1), (2, 1, 0), (0, 1, 2)))
    # Means 5/3, 4/3, 1; all three models are harmful to at least two.
    assert consensus([a, b, c]).tolist() == [[3, 2, 1]]
    # Only the first is harmful to two of three.
    d, e, f = (np.array([v], dtype=float) for v in ((1, 0, 0), (1, 2, 0), (0, 0, 1)))
    assert consensus([d, e, f]).tolist() == [[1, 0, 0]]
    # Equal means: the model named first is higher.
    g, h = np.array([[1.0, 2, 0]]), np.array([[2.0, 1, 0]])
    assert consensus([g, h]).tolist() == [[2, 1, 0]]
    assert np.isnan(consensus([g, np.full((1, 3), np.nan)])).all()


def test_parts_split_by_unanimity_and_group() -> None:
    truth = drawn(200, 11)
    other = truth.copy()
    other[:60] = drawn(60, 12)
    found = analyse(rankings(human=truth, one=other, two=truth.copy()), n_resamples=1_000)
    parts = {(part.part, part.b): part for part in found.parts}
    assert parts["judges unanimous", "one"].exact.value == 1
    assert parts["judges contested", "one"].exact.value == 0
    assert (
        parts["judges unanimous", "one"].n + parts["judges contested", "one"].n
        == 200
        == parts["group even", "one"].n + parts["group odd", "one"].n
    )


def test_judges_are_set_against_how_well_people_agree() -> None:
    truth = drawn(500, 13)
    generator = np.random.default_rng(14)
    judge = np.where(generator.random(500)[:, None] < 0.4, truth, drawn(500, 15))
    expert = np.where(generator.random(500)[:, None] < 0.8, truth, drawn(500, 16))
    expert[100:] = np.nan
    found = analyse(rankings(("human", "expert"), human=truth, expert=expert, judge=judge), n_resamples=1_000)
    pairs = {(pair.a, pair.b): pair for pair in found.pairs}
    assert found.ceiling is not None
    assert found.ceiling.value == pairs["human", "expert"].alpha.value
    assert pairs["human", "expert"].n == 100
    relative = pairs["human", "judge"].relative_alpha
    assert relative is not None
    assert relative.value is not None
    assert relative.value == pytest.approx(
        (pairs["human", "judge"].alpha.value or 0) / (found.ceiling.value or 1)
    )
    assert pairs["human", "expert"].relative_alpha is None


def ranked_by_place(places: NDArray[np.int64]) -> Floats:
    """A judge that ranks whatever is shown second as the most harmful, then the others as shown."""
    by_place = np.array([2.0, 3.0, 1.0])
    return by_place[places]


def shown(n: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permuted(np.tile(np.arange(3), (n, 1)), axis=1)


def test_a_judge_of_places_is_found_when_the_order_is_drawn_and_not_when_it_is_fixed() -> None:
    places = shown(60, 17)
    fair = drawn(60, 18)
    base = rankings(human=fair, biased=ranked_by_place(places), fixed=ranked_by_place(places))
    table = Rankings(
        items=base.items,
        subjects=base.subjects,
        groups=base.groups,
        vectors=base.vectors,
        positions={
            "human": places.astype(float),
            "biased": places.astype(float),
            "fixed": np.tile([0.0, 1, 2], (60, 1)),
        },
        humans=("human",),
        readings=(),
        rejected=(),
    )
    found = {each.annotator: each for each in analyse(table, n_resamples=2_000).position}
    assert found["biased"].verdict == "biased"
    assert (found["biased"].p_value or 1) < 0.01
    assert list(found["biased"].mean_rank) == [2.0, 3.0, 1.0]
    assert found["human"].verdict == "not shown"
    assert found["fixed"].verdict == "cannot be told"
    assert found["fixed"].p_value is None
    assert "same on every item" in found["fixed"].reason


def test_the_position_test_keeps_its_level() -> None:
    # 200 annotators that look at the responses only: about 5 % below 0.05, and at most 11 % (4 sd).
    p = [permutation_p(drawn(40, seed), n_permutations=199, seed=seed) for seed in range(200)]
    assert np.mean(np.array(p) <= 0.05) < 0.11


def test_an_order_that_was_not_drawn_tells_nothing() -> None:
    assert why_untestable(shown(60, 19)) == ""
    assert "fewer than" in why_untestable(shown(10, 19))
    mostly = np.tile(np.arange(3), (60, 1))
    mostly[:5] = mostly[:5, ::-1]
    assert "not spread evenly" in why_untestable(mostly)


def test_unknown_annotators_and_items_without_overlap_are_refused() -> None:
    table = rankings(human=drawn(10, 1), judge=drawn(10, 2))
    with pytest.raises(UsageError, match="human, judge, got 'nobody'"):
        analyse(table, reference="nobody")
    with pytest.raises(UsageError, match="another annotator"):
        analyse(rankings(human=drawn(10, 1)))
    halves = drawn(10, 1), drawn(10, 2)
    halves[0][:5], halves[1][5:] = np.nan, np.nan
    with pytest.raises(UsageError, match="got none"):
        analyse(rankings(human=halves[0], judge=halves[1]))


def test_the_result_survives_its_json() -> None:
    found = analyse(rankings(human=drawn(40, 1), judge=drawn(40, 2)), n_resamples=1_000)
    assert Agreement.model_validate_json(found.to_json()) == found


@pytest.fixture(scope="module")
def real() -> Agreement:
    folder = os.environ.get("TOCSIN_DATA")
    if folder is None:
        pytest.skip("TOCSIN_DATA names no folder of evaluation data")
    return analyse(read_rankings(Path(folder) / "llm_harm_ranks" / "ranks.csv"))


def test_published_rows_are_read_as_counted_before(real: Agreement) -> None:
    human = real.readings[0]
    assert (human.rows, human.valid, human.repaired, human.rejected) == (985, 884, 100, 1)
    assert real.n_items == 978
    assert [(each.annotator, each.problem) for each in real.rejected] == [
        ("human", "wrong number of responses"),
        ("llama", "tie"),
    ]


PUBLISHED = {
    # exact, binary accuracy, binary kappa, alpha, top 1, RBO .9, RBO .5, tau-b
    ("human", "gpt4o"): (0.303, 0.687, 0.392, 0.376, 0.515, 0.649, 0.583, 0.481),
    ("human", "sonnet"): (0.298, 0.711, 0.426, 0.441, 0.542, 0.684, 0.612, 0.484),
    ("human", "llama"): (0.257, 0.665, 0.352, 0.313, 0.469, 0.634, 0.554, 0.395),
    ("human", "expert"): (0.630, 0.881, 0.758, 0.743, 0.827, 0.919, 0.872, 0.792),
    ("gpt4o", "expert"): (0.420, 0.765, 0.536, 0.540, 0.605, 0.733, 0.672, 0.595),
    ("sonnet", "expert"): (0.444, 0.786, 0.572, 0.598, 0.679, 0.770, 0.721, 0.556),
    ("llama", "expert"): (0.247, 0.720, 0.447, 0.422, 0.469, 0.668, 0.577, 0.481),
    ("gpt4o", "sonnet"): (0.578, 0.865, 0.728, 0.727, 0.756, 0.842, 0.798, 0.751),
    ("gpt4o", "llama"): (0.557, 0.878, 0.737, 0.734, 0.691, 0.824, 0.762, 0.699),
    ("sonnet", "llama"): (0.449, 0.825, 0.646, 0.617, 0.623, 0.796, 0.713, 0.596),
    ("human", "consensus"): (0.310, 0.698, 0.410, 0.402, 0.530, 0.664, 0.598, 0.493),
}
MEASURES = (
    "exact",
    "binary_accuracy",
    "binary_kappa",
    "alpha",
    "top_one",
    "rbo_90",
    "rbo_50",
    "tau_b",
)


def test_published_agreement_is_reproduced_at_its_printed_precision(real: Agreement) -> None:
    pairs = {(pair.a, pair.b): pair for pair in real.pairs}
    for names, expected in PUBLISHED.items():
        found = tuple(round(getattr(pairs[names], measure).value, 3) for measure in MEASURES)
        assert found == expected, names
    assert [(s.name, round(s.alpha.value or 0, 3)) for s in real.sets[:2]] == [
        ("judges", 0.693),
        ("reference and judges", 0.529),
    ]
    groups = {p.part: p.alpha.value for p in real.parts if p.b == "sonnet" and p.part.startswith("group")}
    assert (round(groups["group 15"] or 0, 2), round(groups["group 7"] or 0, 2)) == (0.22, 0.76)
    assert len(groups) == 17


def test_published_views_of_the_models_are_reproduced(real: Agreement) -> None:
    expected = {
        "human": ((0.423, 0.389, 0.511), (1.015, 1.015, 0.808), (0.312, 0.284, 0.201), 0.202, 978),
        "expert": ((0.412, 0.482, 0.565), (0.941, 0.871, 0.624), (0.329, 0.271, 0.212), 0.188, 85),
        "gpt4o": ((0.646, 0.524, 0.697), (0.508, 0.684, 0.446), (0.201, 0.306, 0.188), 0.305, 978),
        "sonnet": ((0.504, 0.438, 0.624), (0.871, 0.874, 0.519), (0.312, 0.312, 0.148), 0.228, 978),
        "llama": ((0.655, 0.557, 0.716), (0.383, 0.644, 0.444), (0.146, 0.336, 0.233), 0.285, 977),
    }
    profiles = {profile.annotator: profile for profile in real.profiles}
    for name, (clear, mean, top, none, n) in expected.items():
        found = profiles[name]
        assert found.n == n
        assert round(found.none_harmful.value or 0, 3) == none
        for subject, *numbers in zip(found.subjects, clear, mean, top, strict=True):
            values = [subject.not_harmful.value, subject.mean_rank.value, subject.top.value]
            assert [round(value or 0, 3) for value in values] == numbers
    comparisons = {each.annotator: each for each in real.comparisons}
    assert [(p.first_higher, p.second_higher, p.ties) for p in comparisons["human"].pairs] == [
        (364, 365, 249),
        (422, 282, 274),
        (428, 283, 267),
    ]
    chi2 = {name: round(each.friedman_chi2 or 0, 1) for name, each in comparisons.items()}
    assert chi2 | {"consensus": 0.0} == {
        "human": 41.7,
        "expert": 6.5,
        "gpt4o": 67.8,
        "sonnet": 133.6,
        "llama": 74.9,
        "consensus": 0.0,
    }
    assert (comparisons["human"].friedman_p or 1) < 1e-6


def test_published_intervals_and_orderings_hold(real: Agreement) -> None:
    pairs = {(pair.a, pair.b): pair.alpha for pair in real.pairs}
    with_people = [pairs["human", judge].value or 1 for judge in ("gpt4o", "sonnet", "llama")]
    among = [
        pairs[names].value or 0 for names in (("gpt4o", "sonnet"), ("gpt4o", "llama"), ("sonnet", "llama"))
    ]
    assert max(with_people) < min(among)
    assert (pairs["human", "expert"].value or 0) - max(with_people) >= 0.2
    for names, low, high in (
        (("human", "gpt4o"), 0.336, 0.414),
        (("human", "sonnet"), 0.406, 0.470),
        (("human", "llama"), 0.274, 0.349),
        (("human", "expert"), 0.612, 0.836),
    ):
        found = pairs[names]
        assert found.low is not None
        assert found.high is not None
        assert found.low < high
        assert low < found.high
        if names[1] != "expert":
            assert 0.03 <= (found.high - found.low) / 2 <= 0.041
    human = next(profile for profile in real.profiles if profile.annotator == "human")
    assert min(human.subjects, key=lambda s: s.mean_rank.value or 0).subject == "StableLM"
    assert {each.verdict for each in real.position} == {"cannot be told"}

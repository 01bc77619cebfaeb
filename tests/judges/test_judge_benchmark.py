"""HarmMetric Eval: closed forms of card 06, section 7, checks 1 to 3, 6 and 9; layouts; length control."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.core.errors import InputError
from tocsin.judges.benchmark import JudgeScores, rank_scores, read_benchmark, read_scores
from tocsin.judges.benchmark.data import COUNTS, SAFE, SCORED, Benchmark, Category
from tocsin.judges.benchmark.generated import as_v1, generated_benchmark
from tocsin.judges.benchmark.length import adjusted, misleading_pairs
from tocsin.judges.benchmark.scoring import FINE, Shape, score_prompts

COLUMNS = [category for category in SCORED for _ in range(COUNTS[category])]


def shape_of(n_prompts: int) -> Shape:
    """Complete prompts: 4 harmful, 3 safe, 3 irrelevant, a repetition and an affirmation."""
    category = np.tile([SCORED.index(each) for each in COLUMNS], n_prompts)
    return Shape(np.repeat(np.arange(n_prompts), len(COLUMNS)), category, n_prompts)


def one(harmful: float, safe: float, irrelevant: float, useless: float) -> np.ndarray:
    """Scores of one prompt with equal scores inside each kind."""
    return np.array([harmful] * 4 + [safe] * 3 + [irrelevant] * 3 + [useless] * 2)


@pytest.mark.parametrize(
    ("scores", "v2", "v1"),
    [
        (one(1, 1, 1, 1), 0.0, 0.0),  # constant
        (one(3, 0, 1, 2), 1.0, 1.0),  # perfect order
        (one(1, 0, 1, 1), 0.75, 0.5),  # 0.5 * 1 * (1 + 0.5) and 1 * 0.5
        (one(0.5, 0, 1, 0), 0.5, 0.0),  # above the safe ones only
        (one(1, 1, 0, 0), 0.0, 0.0),  # a tie with a safe response is lost
    ],
)
def test_the_two_rules_by_hand(scores: np.ndarray, v2: float, v1: float) -> None:
    found = score_prompts(scores, shape_of(1))
    assert found.overall["v2"][0] == v2
    assert found.overall["v1"][0] == v1


def test_fine_scores_of_a_constant_judge() -> None:
    fine = score_prompts(one(1, 1, 1, 1), shape_of(1)).fine
    assert {category: float(values[0]) for category, values in fine.items()} == {
        category: 0.0 if category in SAFE else 0.5 for category in FINE
    }
    perfect = score_prompts(one(3, 0, 1, 2), shape_of(1))
    assert all(values[0] == 1.0 for values in perfect.fine.values())
    assert perfect.pairs[0] == 1.0


def test_a_random_judge_earns_what_counting_orders_gives() -> None:
    n = 20_000
    scores = np.random.default_rng(0).random(n * len(COLUMNS))
    found = score_prompts(scores, shape_of(n))
    # All four harmful above three safe: 4!3!/7! = 1/35; above all eight others: 4!8!/12! = 1/495.
    for values, expected in (
        (found.overall["v2"], 0.5 * (1 / 35 + 1 / 495)),
        (found.overall["v1"], 1 / 495),
        (found.fine[Category.REFUSAL], 1 / 5),
        (found.fine[Category.IRRELEVANT], 1 / 35),
        (found.pairs, 0.5),
    ):
        error = values.std() / np.sqrt(n)
        assert abs(values.mean() - expected) < 3 * error


@given(
    values=st.lists(st.integers(0, 6), min_size=24, max_size=24),
    order=st.permutations(range(24)),
)
@settings(max_examples=150, deadline=None)
def test_only_the_order_of_scores_matters(values: list[int], order: Sequence[int]) -> None:
    shape, scores = shape_of(2), np.array(values, dtype=float)
    found = score_prompts(scores, shape)
    assert (found.overall["v2"] >= found.overall["v1"]).all()
    safest = np.min([found.fine[category] for category in SAFE], axis=0)
    assert (found.overall["v2"] <= safest + 1e-12).all()
    again = score_prompts(np.exp(scores), shape)
    shuffled = np.array(order)[np.argsort(shape.prompt[np.array(order)], kind="stable")]
    moved = score_prompts(
        scores[shuffled], Shape(shape.prompt[shuffled], shape.category[shuffled], shape.n_prompts)
    )
    for other in (again, moved):
        np.testing.assert_allclose(other.overall["v2"], found.overall["v2"])
        np.testing.assert_allclose(other.pairs, found.pairs)


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def v2_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "v2.jsonl", generated_benchmark(24))


def test_both_published_layouts_give_the_same_prompts(tmp_path: Path, v2_file: Path) -> None:
    v2 = read_benchmark(v2_file)
    v1 = read_benchmark(write_rows(tmp_path / "v1.jsonl", as_v1(generated_benchmark(24))))
    assert (v1.layout, v2.layout) == ("v1", "v2")
    assert len(v1.prompts) == len(v2.prompts) == 24
    for one_, other in zip(v1.prompts, v2.prompts, strict=True):
        assert one_.text == other.text
        assert one_.references == other.references * 2
        assert [(r.category, r.text) for r in one_.responses] == [
            (r.category, r.text) for r in other.responses
        ]
    assert v2.prompts[0].responses[3].attack == "role-play"
    assert v2.n_responses == 24 * 12


def test_the_layout_for_own_data_takes_any_number_of_responses(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_id", "prompt", "response_id", "response", "category", "attack"])
        for i, category in enumerate([*SCORED, Category.HARMFUL, Category.REFERENCE]):
            writer.writerow(["p", "bake bread", f"r{i}", f"text {i}", category.value, ""])
    found = read_benchmark(path)
    assert found.layout == "own"
    assert len(found.prompts[0].responses) == 8
    assert found.prompts[0].references == ("text 8",)


def test_incomplete_prompts_are_named_and_left_out(tmp_path: Path) -> None:
    rows = generated_benchmark(12)
    missing = [row for row in rows if row["response_id"] != 305]
    empty = [{**row, "response": " "} if row["response_id"] == 508 else row for row in missing]
    found = read_benchmark(write_rows(tmp_path / "v2.jsonl", empty))
    assert len(found.prompts) == 10
    assert found.incomplete == {
        "3": "0 refusal responses instead of 1",
        "5": "response 508 is empty",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response_category": "odd"}, "response 1 of prompt 0: expected response_id"),
        ({"response_id": 5}, "category that belongs to k"),
        ({"response_id": 13}, "category that belongs to k"),
        ({"response_id": "x"}, "whole number in response_id"),
        ({"prompt_id": None}, "whole number in prompt_id"),
        ({"harmful_prompt": "other"}, "prompt 0 has two different texts"),
    ],
)
def test_rows_that_contradict_themselves_are_refused_by_id(
    tmp_path: Path, change: Mapping[str, object], words: str
) -> None:
    rows = generated_benchmark(12)
    rows[1] = {**rows[1], **change}
    path = write_rows(tmp_path / "v2.jsonl", rows)
    with pytest.raises(InputError, match=words) as error:
        read_benchmark(path)
    assert "bread" not in str(error.value)


def test_a_doubled_response_is_refused(tmp_path: Path) -> None:
    rows = generated_benchmark(12)
    with pytest.raises(InputError, match="response 4 of prompt 0 occurs twice"):
        read_benchmark(write_rows(tmp_path / "v2.jsonl", [*rows, rows[4]]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b'{"a": 1}\n', "expected the columns"),
        (b"[1]\n", "named fields"),
        (b"{\n", "expected JSON"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_benchmark(path)
    with pytest.raises(InputError, match="Check the path"):
        read_benchmark(tmp_path / "none.jsonl")


def words_of(benchmark: Benchmark) -> np.ndarray:
    return np.array([len(r.text.split()) for p in benchmark.prompts for r in p.responses], dtype=float)


def test_length_control_takes_all_from_word_counts_and_little_from_content() -> None:
    generator = np.random.default_rng(1)
    shape = shape_of(200)
    is_harmful = shape.is_in([Category.HARMFUL])
    # Harmful responses are longer, with overlap.
    lengths = np.exp(generator.normal(np.where(is_harmful, 4.6, 3.8), 0.5))
    words = np.round(lengths).astype(np.float64) + 5
    by_length = score_prompts(words, shape)
    assert by_length.pairs.mean() > 0.8
    controlled = score_prompts(adjusted(words, words, shape), shape)
    assert controlled.pairs.mean() == pytest.approx(0.5, abs=0.06)
    assert controlled.overall["v2"].mean() < 0.05
    content = is_harmful + 0.3 * generator.normal(size=len(words))
    both = content + 0.4 * np.log(words)
    kept = score_prompts(adjusted(both, words, shape), shape).pairs.mean()
    alone = score_prompts(content, shape).pairs.mean()
    assert kept == pytest.approx(alone, abs=0.02)


def test_pairs_in_which_length_misleads() -> None:
    shape = shape_of(1)
    words = np.array([10.0] * 4 + [5.0] * 3 + [20.0] * 3 + [10.0] * 2)
    scores = one(1, 0, 1, 0)
    won, counts = misleading_pairs(scores, words, shape)
    # Irrelevant (12 pairs, all tied) and useless (8 pairs, all won) are at least as long: 6 + 8 of 20.
    assert (won[0], counts[0]) == (14.0, 20)
    assert misleading_pairs(words, words, shape)[0][0] == 4.0  # 8 ties of equal length


def test_ranking_names_the_best_and_what_is_missing(v2_file: Path) -> None:
    benchmark = read_benchmark(v2_file)
    shape = Shape.of(benchmark)
    perfect = shape.is_in([Category.HARMFUL]).astype(float)
    noise = np.random.default_rng(0).random(len(perfect))
    gaps = perfect.copy()
    gaps[:6] = np.nan
    ranking = rank_scores(
        benchmark,
        [JudgeScores("noise", [noise]), JudgeScores("perfect", [perfect]), JudgeScores("gaps", [gaps])],
        rule="v2",
    )
    assert [each.judge for each in ranking.judges] == ["gaps", "perfect", "noise"]
    top = ranking.score("perfect")
    assert (top.overall.value, top.coverage, top.n_prompts) == (1.0, 1.0, 24)
    missing = ranking.score("gaps")
    assert missing.n_prompts == 23
    assert missing.overall_all_prompts == pytest.approx(23 / 24)
    noisy = next(d for d in ranking.differences if d.other == "noise")
    assert noisy.p_holm < 0.05
    assert noisy.n_prompts == 23
    assert {part.name for part in top.sources} == {"kitchen-questions", "workshop-questions"}
    assert {part.name for part in top.attacks} == {"role-play", "story"}
    again = rank_scores(benchmark, [JudgeScores("noise", [noise])], rule="v2")
    assert again.score("noise") == ranking.score("noise")


def test_rounds_are_averaged(v2_file: Path) -> None:
    first, second = np.array([0.0, 1.0, np.nan]), np.array([1.0, np.nan, np.nan])
    mean = JudgeScores("j", [first, second]).mean
    np.testing.assert_array_equal(mean, [0.5, 1.0, np.nan])


def test_scores_of_other_tools_are_read(tmp_path: Path, v2_file: Path) -> None:
    benchmark = read_benchmark(v2_file)
    ids = [r.id for p in benchmark.prompts for r in p.responses]
    lines = [{"response_id": name, "metric": "m", "score": i} for i, name in enumerate(ids)]
    lines[3]["score"] = None
    path = write_rows(tmp_path / "scores.jsonl", lines)
    (judge,) = read_scores(path, benchmark)
    assert judge.judge == "m"
    assert judge.abstained == {"missing": 1}
    assert judge.mean[5] == 5.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": "high"}, "response 1: expected a finite number"),
        ({"score": float("nan")}, "response 1: expected a finite number"),
        ({"score": True}, "finite number"),
        ({"response_id": "77777"}, "response 77777 is not in the benchmark"),
        ({"response_id": "2"}, "response 2 has two scores"),
        ({"metric": ""}, "expected response_id and judge"),
    ],
)
def test_bad_scores_are_refused_by_id(
    tmp_path: Path, v2_file: Path, change: Mapping[str, object], words: str
) -> None:
    benchmark = read_benchmark(v2_file)
    lines: list[dict[str, object]] = [{"response_id": str(n), "metric": "m", "score": 0.5} for n in (1, 2)]
    lines[0] |= change
    path = write_rows(tmp_path / "scores.jsonl", list(reversed(lines)))
    with pytest.raises(InputError, match=words):
        read_scores(path, benchmark)


def test_the_shipped_example_is_the_generated_data_set() -> None:
    example = Path(__file__).parents[2] / "examples" / "judges" / "benchmark.jsonl"
    rows = [json.loads(line) for line in example.read_text("utf-8").splitlines()]
    assert rows == generated_benchmark(12)
    assert len(generated_benchmark(24)) == 24 * 13


def test_items_can_be_cut_to_a_common_length(v2_file: Path) -> None:
    items = list(read_benchmark(v2_file).items(words=4))
    assert all(len(item.text.split()) <= 4 for item in items)
    assert [item.origin.ordinal for item in items] == list(range(24 * 12))

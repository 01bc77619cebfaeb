"""`evaluate` reports what the data can show, says what it cannot, and does not crash."""

import csv
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from tocsin.api.evaluate import evaluate, label_text
from tocsin.api.evaluation import Evaluation
from tocsin.api.progress import Progress
from tocsin.core import registry
from tocsin.core.errors import InputError, RunError, UsageError
from tocsin.core.records import Item, Kind, Provenance, Reason, Verdict
from tocsin.core.registry import Cost, DetectorContext, DetectorInfo, lookup
from tocsin.core.stats import auroc, wilson

REQUIRED = {
    "n",
    "scored",
    "abstained",
    "auroc",
    "auroc_ci",
    "average_precision",
    "accuracy",
    "sensitivity",
    "specificity",
    "recall_at_fpr",
    "calibration",
    "confounds",
}
CONFOUNDS = {"final_punctuation", "question_mark", "characters", "words", "first_word", "bag_of_words"}


class ByNumber:
    """Reads its verdict from the text: a score, a score and a raw score, `none` (no score) or `abstain`."""

    def __init__(self, context: DetectorContext) -> None:
        self.info: DetectorInfo = lookup("by-number").info
        self.context = context

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        return {"detector": "by-number"}

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        limit = 0.5 if self.context.threshold is None else self.context.threshold
        provenance = Provenance(detector_version="1", threshold=limit, threshold_source="test")
        for item in items:
            words = item.text.split()
            if words[0] == "abstain":
                yield Verdict.abstain(item, "by-number", provenance, Reason.LANGUAGE)
                continue
            score = None if words[0] == "none" else float(words[0])
            yield Verdict(
                key=item.key,
                detector="by-number",
                flagged=True if score is None else score > limit,
                label="x",
                score=score,
                raw_score=float(words[1]) if len(words) > 1 else None,
                calibrated=bool(self.context.options.get("calibrated", False)),
                provenance=provenance,
            )


@pytest.fixture(autouse=True)
def by_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A detector whose verdicts a test can write down, and a place for run folders."""
    monkeypatch.chdir(tmp_path)
    lookup("surface")  # loads the plug-ins before the table is replaced
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    registry.detector(
        "by-number",
        summary="test",
        kinds={Kind.PROMPT},
        cost=Cost.TEXT_ONLY,
        polarity="test",
        threshold_rule="test",
    )(ByNumber)


def table(
    path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("text", "label", "source")
) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([[*row, *[""] * (len(header) - len(row))] for row in rows])
    return path


def run(path: Path, detector: str = "by-number", **settings: object) -> Evaluation:
    positive = settings.pop("positive", ["bad"])
    return evaluate(detector, path, text="text", label="label", positive=positive, **settings)  # type: ignore[arg-type]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """4 positives (caught, caught, missed, abstained) and 5 negatives (3 passed, 1 flagged, 1 abstained)."""
    rows = [("0.9", "bad"), ("0.6", "bad"), ("0.3", "bad"), ("abstain", "bad")]
    rows += [("0.1", "good"), ("0.2", "good"), ("0.4", "good"), ("0.7", "good"), ("abstain", "good")]
    return table(tmp_path / "mixed.csv", rows)


def test_numbers_equal_the_hand_count(mixed: Path) -> None:
    found = run(mixed)
    assert (found.n, found.scored, found.abstained) == (9, 7, 2)
    assert (found.n_positive, found.n_negative, found.abstentions) == (4, 5, {"language": 2})
    # Positives 0.9 0.6 0.3 against negatives 0.1 0.2 0.4 0.7: 4 + 3 + 2 of 12 pairs are right.
    assert found.auroc == pytest.approx(9 / 12)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == pytest.approx(3 / 4)
    assert found.accuracy == pytest.approx(5 / 7)
    assert found.sensitivity_ci == pytest.approx((wilson(2, 3).low, wilson(2, 3).high))
    assert found.confusion.model_dump() == {
        "true_positive": 2,
        "false_negative": 1,
        "true_negative": 3,
        "false_positive": 1,
    }
    # No negative may be flagged at any of the three rates: only 0.9 lies above all four.
    assert found.recall_at_fpr == {
        "0.01": pytest.approx(1 / 3),
        "0.05": pytest.approx(1 / 3),
        "0.10": pytest.approx(1 / 3),
    }


def test_abstentions_count_against_the_detector_in_the_second_set_of_rates(mixed: Path) -> None:
    against = run(mixed).abstentions_count_against
    assert (against.sensitivity, against.specificity) == (2 / 4, 3 / 5)
    assert against.accuracy == pytest.approx(5 / 9)


def test_json_has_the_promised_keys_as_plain_numbers(mixed: Path) -> None:
    found = json.loads(run(mixed).to_json())
    assert found.keys() >= REQUIRED
    assert isinstance(found["auroc"], float)
    assert isinstance(found["accuracy"], float)
    assert len(found["auroc_ci"]) == 2
    assert found["recall_at_fpr"].keys() == {"0.01", "0.05", "0.10"}
    assert found["confounds"].keys() == CONFOUNDS
    assert found["threshold"] == 0.5
    assert found["threshold_source"] == "test"
    assert found["provenance"][0]["detector_version"] == "1"


def test_the_same_data_gives_the_same_evaluation(mixed: Path) -> None:
    assert run(mixed) == run(mixed)


def test_raw_scores_rank_where_all_verdicts_have_them(tmp_path: Path) -> None:
    raw = table(tmp_path / "raw.csv", [("0.5 4", "bad"), ("0.5 3", "good"), ("0.5 2", "good")])
    assert (run(raw).auroc, run(raw).ranked_by) == (1.0, "raw_score")
    mixed = table(tmp_path / "part.csv", [("0.5 4", "bad"), ("0.5", "good"), ("0.5 2", "good")])
    assert (run(mixed).auroc, run(mixed).ranked_by) == (0.5, "score")


def test_verdicts_without_scores_are_counted_but_not_ranked(tmp_path: Path) -> None:
    found = run(table(tmp_path / "none.csv", [("none", "bad"), ("none", "good")]))
    assert (found.auroc, found.ranked_by, found.sensitivity) == (None, None, 1.0)
    assert "no score" in found.reasons["auroc"]


def test_calibration_is_measured_only_for_calibrated_scores(mixed: Path) -> None:
    assert run(mixed).calibration is None
    assert "not calibrated" in run(mixed).reasons["calibration"]
    calibration = run(mixed, options={"calibrated": True}).calibration
    assert calibration is not None
    # (0.1^2 + 0.4^2 + 0.7^2 + 0.1^2 + 0.2^2 + 0.4^2 + 0.7^2) / 7 = 1.36 / 7
    assert calibration.brier == pytest.approx(1.36 / 7)
    assert sum(part.n for part in calibration.bins) == 7


def test_a_threshold_reaches_the_detector(mixed: Path) -> None:
    found = run(mixed, threshold=0.25)
    assert (found.sensitivity, found.threshold) == (1.0, 0.25)
    assert found.auroc == run(mixed).auroc


def test_several_labels_may_be_positive_and_one_that_is_absent_is_noted(mixed: Path) -> None:
    found = run(mixed, positive=["bad", "worse"])
    assert found.n_positive == 4
    assert found.notes[0] == "no row is labelled 'worse', which was named as positive"


def test_groups_widen_intervals_and_are_counted(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    base = [
        (f"{value:.4f}", "bad" if value + generator.normal() / 3 > 0.5 else "good")
        for value in generator.random(60)
    ]
    copied = table(
        tmp_path / "copies.csv", [(*row, f"s{index}") for index, row in enumerate(base) for _ in range(8)]
    )
    alone, grouped = run(copied), run(copied, group="source")
    assert grouped.auroc == alone.auroc
    assert grouped.n_groups == 60
    assert alone.n_groups is None

    def width(interval: tuple[float, float] | None) -> float:
        assert interval is not None
        return interval[1] - interval[0]

    assert width(grouped.auroc_ci) > 2 * width(alone.auroc_ci)
    assert width(grouped.accuracy_ci) > 2 * width(alone.accuracy_ci)


def test_rows_without_a_group_stand_alone_and_are_noted(tmp_path: Path) -> None:
    rows = [
        (str(index / 10), "bad" if index % 2 else "good", "a" if index < 3 else "") for index in range(10)
    ]
    found = run(table(tmp_path / "some.csv", rows), group="source")
    assert found.n_groups == 8
    assert any("7 rows have no group" in note for note in found.notes)


def test_one_class_gives_nulls_with_reasons(tmp_path: Path) -> None:
    found = run(table(tmp_path / "one.csv", [("0.9", "bad"), ("0.2", "bad")]))
    assert found.sensitivity == 0.5
    assert (found.specificity, found.auroc, found.auroc_ci, found.average_precision) == (
        None,
        None,
        None,
        None,
    )
    assert set(found.recall_at_fpr.values()) == {None}
    assert set(found.confounds.values()) == {None}
    assert "no negative rows" in found.reasons["auroc"]
    assert "no negative rows" in found.reasons["specificity"]
    json.loads(found.to_json())


def test_no_row_scored_gives_nulls_with_reasons(tmp_path: Path) -> None:
    found = run(table(tmp_path / "none.csv", [("abstain", "bad"), ("abstain", "good")]))
    assert (found.scored, found.coverage, found.accuracy) == (0, 0.0, None)
    assert found.reasons["auroc"] == "no rows were scored"
    assert found.abstentions_count_against.accuracy == 0.0


def test_a_single_row_of_a_class_has_a_value_and_no_interval(tmp_path: Path) -> None:
    found = run(table(tmp_path / "few.csv", [("0.9", "bad"), ("0.2", "good"), ("0.3", "good")]))
    assert (found.auroc, found.auroc_ci) == (1.0, None)
    assert "single" in found.reasons["auroc_ci"]
    assert found.confounds["first_word"] is None
    assert "confounds.first_word" in found.reasons


def test_no_positive_row_is_an_error_that_shows_the_labels(mixed: Path) -> None:
    with pytest.raises(
        InputError, match=r"mixed\.csv: .*got none among 9 rows \(labels there: 'good', 'bad'\)"
    ):
        run(mixed, positive=["harmful"])


def test_an_error_never_shows_long_values_of_a_column_that_holds_text(tmp_path: Path) -> None:
    rows = [("0.1", f"a long sentence that somebody wrote, number {index}") for index in range(3)]
    with pytest.raises(InputError, match="too long or too many") as caught:
        run(table(tmp_path / "texts.csv", rows))
    assert "sentence" not in str(caught.value)


def test_an_unknown_label_column_is_an_error(mixed: Path) -> None:
    with pytest.raises(InputError, match="kind"):
        evaluate("by-number", mixed, text="text", label="kind", positive=["bad"])


def test_a_column_without_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected labels in the column 'label', got none in 2 rows"):
        run(table(tmp_path / "blank.csv", [("0.1", ""), ("0.2", "")]))


def test_bad_arguments_are_refused(mixed: Path) -> None:
    with pytest.raises(UsageError, match="at least one positive label"):
        run(mixed, positive=[" "])
    with pytest.raises(UsageError, match=r"at least 1,000 resamples"):
        run(mixed, n_resamples=10)
    with pytest.raises(UsageError, match="no detector is called"):
        run(mixed, detector="nothing")


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    found = run(table(tmp_path / "some.csv", [("0.9", "bad"), ("0.1", "good"), ("0.5", "")]))
    assert (found.n, found.unlabelled) == (2, 1)


def test_unreadable_rows_are_abstentions_by_reason(tmp_path: Path) -> None:
    lines = [
        '{"text": "0.9", "label": true}',
        '{"text": "0.1", "label": false}',
        '{"text": 5, "label": true}',
    ]
    lines += ["{broken", '{"text": " ", "label": false}']
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = run(path, positive=["true"])
    assert (found.n, found.scored, found.abstained) == (5, 2, 3)
    assert found.abstentions == {"empty": 1, "missing_part": 1, "unreadable": 1}
    assert found.abstentions_count_against.accuracy == pytest.approx(2 / 5)


def test_kinds_that_a_detector_does_not_read_are_abstentions(mixed: Path) -> None:
    found = run(mixed, as_kind=Kind.CODE)
    assert found.abstentions == {"unsupported_kind": 9}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (1, "1"),
        (0.5, "0.5"),
        (" unsafe ", "unsafe"),
        ("", None),
        (None, None),
        (["a"], '["a"]'),
    ],
)
def test_labels_are_compared_as_strings(value: JsonValue, expected: str | None) -> None:
    assert label_text(value) == expected


def test_a_detector_that_breaks_its_contract_is_a_bug_and_no_result(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ByNumber.detect
    monkeypatch.setattr(ByNumber, "detect", lambda self, items: iter(list(whole(self, items))[:-1]))
    with pytest.raises(RuntimeError, match="broke its contract: an item got no verdict"):
        run(mixed)
    monkeypatch.setattr(ByNumber, "detect", lambda self, items: iter(list(whole(self, items))[::-1]))
    with pytest.raises(RuntimeError, match="out of order"):
        run(mixed, fresh=True)


def test_progress_is_told(mixed: Path) -> None:
    reports: list[Progress] = []
    run(mixed, progress=reports.append)
    stages = [report.stage for report in reports]
    assert stages[:2] == ["scanning", "loading"]
    assert stages.count("scanning") == 10
    assert (stages[-1], reports[-1].done) == ("reporting", 9)


def test_the_same_call_shows_the_finished_evaluation(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run(mixed, out=out)
    reports: list[Progress] = []
    assert run(mixed, out=out, progress=reports.append) == first
    assert [report.stage for report in reports] == ["reporting"]
    assert Evaluation.model_validate_json((out / "summary.json").read_bytes()) == first
    page = (out / "report.html").read_text("utf-8")
    assert f"AUROC {first.auroc:.3f}" in page
    with pytest.raises(RunError, match="another one"):
        run(mixed, out=out, threshold=0.9)


def test_the_surface_baseline_equals_its_own_confound(tmp_path: Path) -> None:
    rows = [(f"Tell me about {index}{'' if index % 3 else '.'}", "bad") for index in range(30)]
    rows += [(f"Tell me about {index}{'.' if index % 4 else ''}", "good") for index in range(30)]
    found = run(table(tmp_path / "marks.csv", rows), detector="surface")
    assert found.auroc == pytest.approx(found.confounds["final_punctuation"])
    # 20 of 30 positives and 8 of 30 negatives have no final mark: 1/2 + (20/30 - 8/30) / 2 = 0.7
    assert found.auroc == pytest.approx(0.7)
    assert any("cannot show that it reads more than the surface" in note for note in found.notes)


def test_prompt_and_response_rows_are_read_as_responses(tmp_path: Path) -> None:
    rows = [
        ("Fine.", "Why?", "good"),
        ("No end", "How?", "bad"),
        ("Done.", "What?", "good"),
        ("Open", "Who?", "bad"),
    ]
    path = table(tmp_path / "answers.csv", rows, ("text", "asked", "label"))
    found = run(path, detector="surface", prompt="asked")
    assert (found.n, found.auroc) == (4, 1.0)


def test_ten_thousand_rows_take_seconds(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = generator.random(10_000)
    rows = [
        (f"{value:.5f}", "bad" if value > other else "good")
        for value, other in zip(values, generator.random(10_000), strict=True)
    ]
    started = time.process_time()
    found = run(table(tmp_path / "many.csv", rows))
    # Processor time, about 5 s; the margin is for slow machines.
    assert time.process_time() - started < 40
    assert found.auroc == pytest.approx(
        auroc(np.round(values, 5), [row[1] == "bad" for row in rows]), abs=1e-9
    )


@pytest.mark.skipif("TOCSIN_DATA" not in os.environ, reason="TOCSIN_DATA names the folder of public sets")
def test_xstest_is_not_told_apart_by_its_surface() -> None:
    data = Path(os.environ["TOCSIN_DATA"]) / "xstest_a" / "prompts.csv"
    found = evaluate("surface", data, text="prompt", label="label", positive=["unsafe"])
    assert (found.n_positive, found.n_negative, found.abstained) == (103, 129, 0)
    assert found.auroc == pytest.approx(0.5, abs=0.02)

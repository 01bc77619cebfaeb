"""`rank_judges`: the whole way from a file to a ranking."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tocsin
from tocsin.core import registry
from tocsin.core.errors import RunError, UsageError
from tocsin.core.records import Kind
from tocsin.judges.benchmark import JudgeRanking, read_benchmark
from tocsin.judges.benchmark.generated import generated_benchmark

EXAMPLE = Path(__file__).parents[2] / "examples" / "judges" / "benchmark.jsonl"
JUDGES = ("rouge-1-recall", "words", "refusal-words")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_ranking_is_kept_and_found_again() -> None:
    study = tocsin.rank_judges(EXAMPLE, judges=JUDGES)
    assert [each.judge for each in study.ranking.judges] == ["rouge-1-recall", "words", "refusal-words"]
    kept = JudgeRanking.model_validate_json((study.folder / "summary.json").read_text("utf-8"))
    assert kept == study.ranking
    page = (study.folder / "report.html").read_text("utf-8")
    assert "rouge-1-recall" in page
    assert "knead" not in page  # examined text stays out
    before = (study.folder / "results.jsonl").stat().st_mtime_ns
    again = tocsin.rank_judges(EXAMPLE, judges=JUDGES)
    assert again.ranking == study.ranking
    assert (again.folder / "results.jsonl").stat().st_mtime_ns == before


def test_a_refusal_counts_against_harm() -> None:
    # More "refusal" means less harm, so it is turned round before responses are ordered.
    ranking = tocsin.rank_judges(EXAMPLE, judges=("gcg-eval", "refusal-words")).ranking
    for judge in ("gcg-eval", "refusal-words"):
        assert ranking.score(judge).fine["refusal"].value == 1.0


def test_rule_and_layout_stand_in_the_result() -> None:
    v2 = tocsin.rank_judges(EXAMPLE, judges=("words",)).ranking
    v1 = tocsin.rank_judges(EXAMPLE, judges=("words",), version="v1").ranking
    assert (v2.layout, v2.rule, v1.layout, v1.rule) == ("v2", "v2", "v2", "v1")
    assert v1.score("words").overall == v2.score("words").other_rule


def test_without_names_every_judge_runs_that_needs_no_model() -> None:
    ranking = tocsin.rank_judges(EXAMPLE).ranking
    assert len(ranking.judges) == 34
    assert all(each.coverage == 1.0 for each in ranking.judges)
    assert len(ranking.differences) == 33


def test_cut_texts_make_length_worthless() -> None:
    ranking = tocsin.rank_judges(EXAMPLE, judges=("words",), words=5).ranking
    assert ranking.score("words").overall.value == 0.0


def test_scores_of_another_tool_are_ranked(tmp_path: Path) -> None:
    benchmark = read_benchmark(EXAMPLE)
    path = tmp_path / "theirs.jsonl"
    rows = [
        {"response_id": r.id, "judge": "theirs", "score": float(r.category.value == "harmful")}
        for prompt in benchmark.prompts
        for r in prompt.responses
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    ranking = tocsin.rank_judges(EXAMPLE, judges=("words",), scores=(path,)).ranking
    assert ranking.judges[0].judge == "theirs"
    assert ranking.judges[0].overall.value == 1.0
    alone = tocsin.rank_judges(EXAMPLE, scores=(path,)).ranking
    assert [each.judge for each in alone.judges] == ["theirs"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"judges": ("nosuch",)}, "no detector is called 'nosuch'"),
        ({"judges": ("words", "words")}, "asked for twice"),
        ({"n_resamples": 10}, "at least 1,000"),
        ({"words": 0}, "at least one word"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tocsin.rank_judges(EXAMPLE, **options)  # type: ignore[arg-type]


def test_a_detector_of_prompts_is_no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    tocsin.detectors()
    tocsin.detector(
        "prompts-only",
        summary="test",
        kinds={Kind.PROMPT},
        cost=registry.Cost.TEXT_ONLY,
        polarity="none",
        threshold_rule="none",
    )(lambda _: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match="'prompts-only' cannot read responses"):
        tocsin.rank_judges(EXAMPLE, judges=("prompts-only",))


def test_a_folder_of_another_ranking_is_not_overwritten(tmp_path: Path) -> None:
    tocsin.rank_judges(EXAMPLE, judges=("words",), out=tmp_path / "run")
    with pytest.raises(RunError, match="another one"):
        tocsin.rank_judges(EXAMPLE, judges=("characters",), out=tmp_path / "run")


def test_detectors_of_requests_score_responses_too(tmp_path: Path) -> None:
    rows = generated_benchmark(4)
    path = tmp_path / "small.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    ranking = tocsin.rank_judges(path, judges=("harmfulness", "biopsy"), offline=True).ranking
    assert {each.judge for each in ranking.judges} == {"harmfulness", "biopsy"}
    assert all(each.coverage == 1.0 for each in ranking.judges)

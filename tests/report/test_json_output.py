from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made_up import INPUT_HASH, hostile_rows, hostile_run, row, rows, run

from tocsin.core.records import Finding, Reason, Verdict
from tocsin.report import render_json, render_jsonl, summarise

RESULT_KEYS = {
    "input_hash", "ordinal", "path", "line", "kind", "content_hash", "detector", "flagged", "label",
    "score", "calibrated", "raw_score", "category", "categories", "rationale", "evidence", "examined",
    "abstained", "cost", "extra", "provenance", "known", "partial", "findings",
}  # fmt: skip


def document(*args: Any, **options: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads("".join(render_json(*args, **options)))
    return loaded


def test_document_holds_run_results_and_summary() -> None:
    given_rows = list(rows(50))
    result = document(run(), given_rows)
    assert list(result) == ["schema_version", "tool", "run", "results", "summary"]
    assert result["schema_version"] == 1
    assert result["run"]["input_hash"] == INPUT_HASH
    assert [r["ordinal"] for r in result["results"]] == list(range(50))
    outcomes = summarise(given_rows).outcomes()
    for name in ("items", "flagged", "known", "clean", "partial", "not_judged"):
        assert result["summary"][name] == getattr(outcomes, name)


def test_every_result_has_every_documented_key_and_no_other() -> None:
    for given_row in (row(0, 0.9), row(1, reason=Reason.EMPTY)):
        (line,) = render_jsonl([given_row])
        assert set(json.loads(line)) == RESULT_KEYS | {"schema_version"}


def test_verdict_survives_a_round_trip_through_a_result() -> None:
    given_row = row(3, 0.9, rationale="because", extra={"theta": 1.5})
    (result,) = document(run(), [given_row])["results"]
    fields = {name: result[name] for name in Verdict.model_fields if name != "key"}
    key = (result["input_hash"], result["ordinal"])
    assert Verdict.model_validate({"key": key, **fields}) == given_row.verdict


def test_jsonl_is_one_ascii_line_for_each_verdict_even_with_hostile_names() -> None:
    lines = list(render_jsonl(hostile_rows()))
    assert len(lines) == 4
    for line in lines:
        assert line.isascii()
        assert line.index("\n") == len(line) - 1
        json.loads(line)
    assert json.loads(lines[3])["path"] == "\udcff\ud800"


def test_text_is_there_only_when_asked_for() -> None:
    given_row = row(0, text={"text": "placeholder words"})
    assert "placeholder" not in "".join(render_jsonl([given_row]))
    (line,) = render_jsonl([given_row], include_text=True)
    assert json.loads(line)["text"] == {"text": "placeholder words"}


def test_known_and_format_findings_are_marked() -> None:
    findings = (Finding(rule="a", message="m", line=4), Finding(rule="b", message="n"))
    result = document(run(), [row(0, 0.9, known=True, findings=findings, known_rules=frozenset({"b"}))])
    (entry,) = result["results"]
    assert entry["known"] is True
    assert [(f["rule"], f["line"], f["known"]) for f in entry["findings"]] == [
        ("a", 4, False),
        ("b", None, True),
    ]
    assert result["summary"]["known"] == 1
    assert result["summary"]["findings"] == {"a": 1}
    assert result["summary"]["known_findings"] == 1


def test_empty_run_and_hostile_run_are_valid_documents() -> None:
    assert document(run(), [])["results"] == []
    assert document(hostile_run(), hostile_rows())["summary"]["flagged"] == 3


def test_results_are_given_out_before_the_last_row_is_read() -> None:
    chunks = render_json(run(), rows(10**9))
    assert "results" in next(chunks)
    assert json.loads(next(chunks))["ordinal"] == 0


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text("utf-8")
    whole = document(run(), [row(0)])
    keys = RESULT_KEYS | set(whole) | set(whole["run"]) | set(whole["summary"])
    keys |= set(whole["summary"]["detectors"]["harmfulness"])
    assert {key for key in keys if f"`{key}`" not in page} == set()

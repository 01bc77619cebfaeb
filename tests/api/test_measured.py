"""Error rates: those that ship fit the shipped profiles, those of one's own correct a share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tocsin
from tocsin.api.measured import read_evaluation, shipped_rates
from tocsin.core.errors import InputError, UsageError
from tocsin.core.stats import Rate, rogan_gladen
from tocsin.detect.shipped import profiles_folder


def labelled(path: Path) -> Path:
    """20 rows: `surface` flags what has no final mark; 8 of 10 bad rows and 2 of 10 good ones have none."""
    rows = [(f"Tell me about {i}{'' if i < 8 else '.'}", "bad") for i in range(10)]
    rows += [(f"Tell me more of {i}{'' if i < 2 else '.'}", "good") for i in range(10)]
    path.write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8"
    )
    return path


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_shipped_profile_has_rates_and_no_other_does() -> None:
    hashes = {
        json.loads((folder / "profile.json").read_text("utf-8"))["hash"]: folder.name
        for folder in profiles_folder().iterdir()
        if folder.is_dir()
    }
    table = json.loads((profiles_folder() / "measured.json").read_text("utf-8"))
    assert {name: rows[0]["detector"] for name, rows in table.items()} == hashes


def test_rates_are_shown_for_the_profile_at_its_own_threshold_only() -> None:
    table = json.loads((profiles_folder() / "measured.json").read_text("utf-8"))
    profile = next(name for name, rows in table.items() if rows[0]["detector"] == "harmfulness")
    own = {"harmfulness": {"profile": profile, "threshold_source": "profile"}}
    assert len(shipped_rates(own)) == 3
    assert shipped_rates({"harmfulness": {"profile": profile, "threshold_source": "command line"}}) == ()
    assert shipped_rates({"harmfulness": {"profile": "other", "threshold_source": "profile"}}) == ()


def test_a_scan_corrects_its_flagged_share_with_an_evaluation(tmp_path: Path) -> None:
    data = labelled(tmp_path / "labelled.jsonl")
    tocsin.evaluate("surface", data, text="text", label="label", positive=["bad"], out=tmp_path / "rates")
    texts = tmp_path / "prompts.txt"
    texts.write_text("".join(f"Say {i}{'' if i < 5 else '.'}\n" for i in range(10)), "utf-8")
    found = tocsin.scan(texts, detectors="surface", measured=tmp_path / "rates", out=tmp_path / "scan")
    (estimate,) = found.info.prevalence
    # 5 of 10 flagged, sensitivity and specificity 0.8 each: (0.5 + 0.8 - 1) / (0.8 + 0.8 - 1) = 0.5
    assert (estimate.flagged, estimate.judged) == (5, 10)
    assert estimate.value == pytest.approx(0.5)
    expected = rogan_gladen(5, 10, Rate(0.8, 0, 1, 10), Rate(0.8, 0, 1, 10))
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert found.report is not None
    assert "corrected for its errors" in found.report.read_text("utf-8")


def test_rates_of_another_threshold_are_refused(tmp_path: Path) -> None:
    data = labelled(tmp_path / "labelled.jsonl")
    tocsin.evaluate("surface", data, text="text", label="label", positive=["bad"], out=tmp_path / "rates")
    with pytest.raises(UsageError, match="threshold"):
        tocsin.scan(["Say it"], detectors="surface", measured=tmp_path / "rates", threshold=0.9)


def test_something_else_than_an_evaluation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}", "utf-8")
    with pytest.raises(InputError, match="tocsin evaluate"):
        read_evaluation(tmp_path / "x.json")

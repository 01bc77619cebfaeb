"""`tocsin judges agree`, as it is typed, on generated rankings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tocsin
from tocsin.cli import main

SECRET = "words that nobody may see"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = []
    for i in range(80):
        truth = generator.permutation(3)
        for who in ("human", "expert", "judge"):
            ranks = truth if generator.random() < 0.7 else generator.permutation(3)
            places = generator.permutation(3) + 1
            rows += [
                {
                    "item": f"caf\u00e9-{i}",
                    "annotator": who,
                    "model": model,
                    "rank": int(ranks[j]),
                    "position": int(places[j]),
                    "text": SECRET,
                }
                for j, model in enumerate("abc")
            ]
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_tables_a_page_and_a_json_twin_come_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judges", "agree", str(data), "--out", "run", "--resamples", "1000"]) == 0
    shown = capsys.readouterr()
    assert "human - judge" in shown.out
    assert "Friedman" in shown.out
    assert "report: run/report.html" in shown.err
    page = Path("run/report.html").read_text("utf-8")
    assert "tocsin judges agree" in page
    assert SECRET not in page + shown.out + Path("run/result.json").read_text("utf-8")
    assert main(["judges", "agree", str(data), "--out", "run", "--resamples", "1000", "--json"]) == 0
    twin = json.loads(capsys.readouterr().out)
    assert twin == json.loads(Path("run/result.json").read_text("utf-8"))
    assert twin["ceiling"]["value"] == next(
        pair["alpha"]["value"] for pair in twin["pairs"] if (pair["a"], pair["b"]) == ("human", "expert")
    )
    assert {each["verdict"] for each in twin["position"]} == {"not shown"}


def test_the_same_call_shows_the_finished_study(data: Path) -> None:
    first = tocsin.judge_agreement(data, n_resamples=1_000)
    written = (first.folder / "result.json").stat().st_mtime_ns
    again = tocsin.judge_agreement(data, n_resamples=1_000)
    assert again == first
    assert (first.folder / "result.json").stat().st_mtime_ns == written
    fresh = tocsin.judge_agreement(data, n_resamples=1_000, fresh=True)
    assert fresh == first
    assert (first.folder / "result.json").stat().st_mtime_ns > written
    other = tocsin.judge_agreement(data, n_resamples=1_000, seed=1)
    assert other.folder != first.folder


def test_annotators_can_be_chosen(data: Path) -> None:
    found = tocsin.judge_agreement(data, annotators=("judge",), reference="expert", n_resamples=1_000)
    assert [(pair.a, pair.b) for pair in found.agreement.pairs] == [("expert", "judge")]
    assert found.agreement.ceiling is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"item": "x", "annotator": "human", "model": "a", "rank": SECRET}, "x"),
        ({"item": "caf\u00e9-3", "annotator": "human", "model": "a", "rank": 2}, "duplicate item"),
    ],
)
def test_bad_rankings_end_with_one_message_and_without_text(
    data: Path, capsys: pytest.CaptureFixture[str], line: dict[str, object], expected: str
) -> None:
    with data.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    assert main(["judges", "agree", str(data)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert expected in shown
    assert SECRET not in shown
    assert "Traceback" not in shown
    assert not Path("tocsin-runs").exists()


def test_unknown_items_and_annotators_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("known.txt").write_text("caf\u00e9-0\ncaf\u00e9-1\n", "utf-8")
    assert main(["judges", "agree", str(data), "--items", "known.txt"]) == 2
    assert "unknown item (78 items: caf\u00e9-2," in capsys.readouterr().err
    assert main(["judges", "agree", str(data), "--reference", "nobody"]) == 2
    assert "got 'nobody'" in capsys.readouterr().err
    with pytest.raises(tocsin.UsageError, match="at least 1,000"):
        tocsin.judge_agreement(data, n_resamples=10)


def test_help_names_the_command_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judges", "--help"]) == 0
    assert "agree" in capsys.readouterr().out
    assert main(["judges", "agree", "--help"]) == 0
    assert "--reference" in capsys.readouterr().out

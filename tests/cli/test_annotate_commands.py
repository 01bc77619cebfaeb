"""`tocsin annotate`, `judges elicit` and `judges annotate`, as they are typed, on harmless stand-ins."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tocsin.api.annotate import export_study, is_loopback
from tocsin.cli import main
from tocsin.judges.agreement import read_rankings
from tocsin.judges.annotate import Study

PROMPTS = [f"How long do I boil egg {i}?" for i in range(30)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path / "home"))
    rows = [{"id": f"egg-{i}", "prompt": prompt, "kind": "ab"[i % 2]} for i, prompt in enumerate(PROMPTS)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in "abc":
        Path(f"{name}.json").write_text(json.dumps({"otherwise": [f"{name} would say ten minutes."]}))
    return tmp_path


def elicit(*more: str) -> int:
    models = [word for name in "abc" for word in ("--model", f"scripted:{name}.json")]
    return main(["judges", "elicit", "prompts.jsonl", "--item", "id", *models, "--out", "elicited", *more])


def rows_of(path: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_every_prompt_is_put_to_every_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert elicit("--group", "kind", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["responses"] == {"a": 30, "b": 30, "c": 30}
    rows = rows_of("elicited/responses.jsonl")
    assert len(rows) == 90
    assert rows[0]["item"] == "egg-0"
    assert rows[0]["prompt"] == PROMPTS[0]
    assert {str(row["group"]) for row in rows} == {"a", "b"}
    record = json.loads(Path("elicited/run.json").read_text())
    assert set(record["identity"]["models"]) == {"a", "b", "c"}
    assert record["status"] == "finished"


def test_an_interrupted_elicitation_goes_on_without_repeating(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert elicit() == 0
    whole = Path("elicited/responses.jsonl").read_bytes()
    # As a kill leaves it: some whole lines, one torn, and a record that says "running".
    record = json.loads(Path("elicited/run.json").read_text())
    record |= {"status": "running", "finished": None, "results": None}
    Path("elicited/run.json").write_text(json.dumps(record))
    Path("elicited/responses.jsonl").write_bytes(whole[:4000])
    assert elicit() == 0
    assert Path("elicited/responses.jsonl").read_bytes() == whole
    assert len(json.loads(Path("elicited/run.json").read_text())["sessions"]) == 2


def test_failures_are_rows_with_a_type(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = [
        {"contains": f"egg {i}?", "replies": [{"failure": kind}]}
        for i, kind in enumerate(("outage", "refused", "cut", "empty"))
    ]
    Path("c.json").write_text(json.dumps({"rules": failing, "otherwise": ["Ten minutes."]}))
    assert elicit("--json") == 4
    told = json.loads(capsys.readouterr().out)
    assert told["failures"]["c"] == {"no reply": 2, "refused": 1, "cut": 1}
    assert told["responses"]["c"] == 26
    assert main(["annotate", "new", "study", "elicited/responses.jsonl", "--annotator", "anna"]) == 2
    said = capsys.readouterr().err
    assert "4 items: egg-0, egg-1, egg-2, egg-3" in said
    assert "boil" not in said


def judge(name: str, replies: dict[str, object]) -> str:
    Path(f"{name}.json").write_text(json.dumps(replies))
    return f"{name}=scripted:{name}.json"


def test_models_rank_in_balanced_orders_and_agree_reads_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert elicit() == 0
    capsys.readouterr()
    # One judge looks at the place alone, whatever is there.
    biased = judge("biased", {"otherwise": ['{"A": 1, "B": 3, "C": 2}']})
    other = judge(
        "other",
        {"rules": [{"contains": "egg 1", "replies": ["no"]}], "otherwise": ['{"A": 0, "B": 0, "C": 0}']},
    )
    command = [
        "judges",
        "annotate",
        "elicited/responses.jsonl",
        "--model",
        biased,
        "--model",
        other,
        "--out",
        "ranked",
    ]
    assert main([*command, "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["ranked"] == {"biased": 30, "other": 19}
    assert told["failures"]["other"] == {"not a ranking": ["egg-1", *(f"egg-{i}" for i in range(10, 20))]}
    found = read_rankings("ranked/rankings.jsonl", humans=())
    assert found.vectors["biased"].mean(0).tolist() == [
        2.0,
        2.0,
        2.0,
    ]  # 30 items are five whole blocks of six
    assert (
        main(
            [
                "judges",
                "agree",
                "ranked/rankings.jsonl",
                "--reference",
                "biased",
                "--out",
                "agreed",
                "--json",
                "--resamples",
                "1000",
            ]
        )
        == 0
    )
    verdicts = {
        each["annotator"]: each["verdict"] for each in json.loads(capsys.readouterr().out)["position"]
    }
    assert verdicts["biased"] == "biased"
    assert verdicts["other"] == "not shown" or verdicts["other"] == "cannot be told"


def test_every_item_can_be_shown_in_all_six_orders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert elicit() == 0
    biased = judge("biased", {"otherwise": ['{"A": 1, "B": 3, "C": 2}']})
    command = ["judges", "annotate", "elicited/responses.jsonl", "--model", biased, "--out", "ranked"]
    assert main([*command, "--orders", "6"]) == 0
    rows = rows_of("ranked/replies.jsonl")
    shown = {tuple(map(int, row["shown"])) for row in rows if row["item"] == "egg-4"}  # type: ignore[call-overload]
    assert len(rows) == 180
    assert len(shown) == 6
    assert main([*command, "--orders", "7", "--fresh"]) == 2
    assert "1 to 6 orders" in capsys.readouterr().err


def test_a_study_goes_from_responses_to_agreement(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert elicit("--group", "kind") == 0
    capsys.readouterr()
    new = [
        "annotate",
        "new",
        "study",
        "elicited/responses.jsonl",
        "--annotator",
        "anna",
        "--annotator",
        "ben",
    ]
    assert main([*new, "--json"]) == 0
    said = capsys.readouterr()
    made = {each["name"]: each["token"] for each in json.loads(said.out)}
    assert set(made) == {"anna", "ben", "owner"}
    with Study("study") as kept:
        for who in ("anna", "ben"):
            assert kept.who(made[who]) == who
            for number in range(1, 31):
                task = kept.task(who, number)
                assert task is not None
                rank = {"a": 2, "b": 1, "c": 0}
                texts = zip("ABC", task.responses, strict=True)
                kept.submit(
                    who, number, f"key-{number:04}", {letter: rank[text[0]] for letter, text in texts}
                )
    assert main(["annotate", "status", "study", "--json"]) == 0
    assert [each["ranked"] for each in json.loads(capsys.readouterr().out)] == [30, 30]
    for form in ("jsonl", "csv"):
        assert main(["annotate", "export", "study", "--format", form]) == 0
        text = capsys.readouterr().out
        assert "minutes" not in text
        Path(f"rankings.{form}").write_text(text)
        agree = [
            "judges",
            "agree",
            f"rankings.{form}",
            "--reference",
            "anna",
            "--humans",
            "anna",
            "--humans",
            "ben",
        ]
        assert main([*agree, "--out", f"agreed-{form}", "--json", "--resamples", "1000"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["pairs"][0]["alpha"]["value"] == pytest.approx(1)
        assert result["subjects"] == ["a", "b", "c"]
        assert [each["verdict"] for each in result["position"]] == ["not shown", "not shown"]
    assert main([*new]) == 2  # never over another study
    assert "new or empty folder" in capsys.readouterr().err


def test_annotators_are_added_and_renewed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert elicit() == 0
    assert main(["annotate", "new", "study", "elicited/responses.jsonl", "--annotator", "anna"]) == 0
    assert main(["annotate", "add", "study", "carla"]) == 0
    assert "carla\thttp://127.0.0.1:8321/#" in capsys.readouterr().out
    assert main(["annotate", "add", "study", "anna"]) == 2
    assert main(["annotate", "add", "study", "anna", "--new-token"]) == 0
    assert main(["annotate", "new", "other", "elicited/responses.jsonl"]) == 2
    assert main(["annotate", "serve", "nothing"]) == 2
    assert "annotate new" in capsys.readouterr().err


def test_a_formula_in_a_name_is_text_in_the_csv(place: Path) -> None:
    rows = [{"item": "x", "model": model, "prompt": "p", "response": "r"} for model in ("=1+1", "b")]
    Path("r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["annotate", "new", "study", "r.jsonl", "--annotator", "anna"]) == 0
    with Study("study") as kept:
        kept.submit("anna", 1, "key-0001", {"A": 1, "B": 0})
    text = "".join(export_study("study", form="csv"))
    assert ",'=1+1," in text


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_only_loopback_addresses_pass_without_a_warning(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_serving_to_others_warns_and_ends_on_interrupt(place: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    assert elicit() == 0
    assert main(["annotate", "new", "study", "elicited/responses.jsonl", "--annotator", "anna"]) == 0
    command = [
        sys.executable,
        "-m",
        "tocsin",
        "annotate",
        "serve",
        "study",
        "--port",
        "0",
        "--host",
        "0.0.0.0",
    ]
    # A shell's background jobs ignore the interrupt, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    first, second = process.stderr.readline(), process.stderr.readline()
    assert first.startswith("warning: other machines can reach 0.0.0.0")
    assert second.startswith("serving study at http://0.0.0.0:")
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=20)[1]
    assert "Traceback" not in rest
    assert process.returncode in (0, 130)


def test_models_need_different_names(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = ["--model", "scripted:a.json", "--model", "a=scripted:b.json"]
    assert main(["judges", "elicit", "prompts.jsonl", *twice]) == 2
    assert "'a' twice" in capsys.readouterr().err
    assert main(["judges", "elicit", "prompts.jsonl"]) == 2
    assert "at least one model" in capsys.readouterr().err

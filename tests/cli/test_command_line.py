from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import letters  # noqa: F401 - registers the detectors
from tocsin.cli import main


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("clean.txt").write_text("plain\nwords\n")
    Path("bad.txt").write_text("plain\nxxxx secretword\nxxxx\n")
    Path("empty-row.jsonl").write_text('{"text": "plain"}\n{"text": ""}\n')


def scan(*words: str) -> int:
    return main(["scan", *words, "--detector", "letters"])


def test_exit_codes_say_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert scan("clean.txt") == 0
    assert scan("bad.txt") == 1
    assert scan("empty-row.jsonl") == 4
    assert scan("empty-row.jsonl", "--max-abstain", "1") == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scan"], "requires an argument"),
        (["scan", "clean.txt", "--detectr", "letters"], "Did you mean --detector"),
        (["scan", "--detectr", "letters", "clean.txt"], "--detectr"),
        (["scan", "--detectr"], '"--detectr" is no option of this command'),
        (["scan", "clean.txt", "--format", "xml"], "table"),
        (["scan", "clean.txt", "--max-abstain", "-1"], "max-abstain"),
        (["scan", "clean.txt", "--max-abstain", "many"], "max-abstain"),
        (["scan", "clean.txt", "--detector", "letterz"], "Did you mean letters"),
        (["scan", "clean.txt", "--detector", "letters", "--threshold", "high"], "from 0 to 1, got 'high'"),
        (["scan", "clean.txt", "--detector", "letters", "--threshold", "2"], "from 0 to 1, got '2'"),
        (["scan", "clean.txt", "--detector", "letters", "--threshold", "biopsy=0.5"], "no detector to go to"),
        (["scan", "clean.txt", "--detector", "letters", "--set", "delay"], "NAME.OPTION=VALUE"),
        (["scan", "nowhere.txt", "--detector", "letters"], "nowhere.txt: expected"),
        (["scan", "clean.txt", "--detector", "letters", "--model", "gpt"], "names no model"),
        (
            ["scan", "clean.txt", "--detector", "letters", "--config", "nowhere.toml"],
            "expected a settings file",
        ),
        (
            ["scan", "clean.txt", "--detector", "letters", "--write-baseline", "no/k.json"],
            "Make the folder first",
        ),
        (["scann", "clean.txt"], "Did you mean"),
        (["detectors", "letterz"], "Did you mean letters"),
        (["evaluate", "letters", "clean.txt"], "--label"),
        (["fit", "letters"], "--profile"),
    ],
)
def test_a_users_mistake_is_exit_2_and_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letters.Letters.detect", lambda self, items: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scan("clean.txt")


def test_an_interrupt_is_exit_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("letters.Letters.detect", interrupt)
    assert scan("bad.txt", "--fresh") == 130
    assert "go on with:   tocsin scan bad.txt --detector letters\n" in capsys.readouterr().err


def test_data_goes_to_stdout_and_notices_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    scan("bad.txt")
    shown = capsys.readouterr()
    assert "1 flagged, 2 not flagged" in shown.out
    assert "report:" not in shown.out
    assert "report.html" in shown.err.splitlines()[-2]
    assert shown.err.splitlines()[-1].startswith("next:")


def test_every_format_is_whole_and_holds_no_examined_text(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for form in ("table", "json", "jsonl", "sarif"):
        scan("bad.txt", "--format", form)
        shown[form] = capsys.readouterr().out
    assert not any("secretword" in text for text in shown.values())
    document = json.loads(shown["json"])
    assert [row["flagged"] for row in document["results"]] == [False, False, True]
    assert document["summary"]["flagged"] == 1
    assert [json.loads(line)["ordinal"] for line in shown["jsonl"].splitlines()] == [0, 1, 2]
    assert len(json.loads(shown["sarif"])["runs"][0]["results"]) == 1
    scan("bad.txt", "--json")
    assert json.loads(capsys.readouterr().out)["results"] == document["results"]


def test_text_is_included_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    scan("bad.txt", "--json", "--include-text")
    assert "secretword" in capsys.readouterr().out


def test_a_threshold_and_options_reach_the_detector(capsys: pytest.CaptureFixture[str]) -> None:
    scan("bad.txt", "--threshold", "letters=0.1", "--set", "letters.version=7", "--json")
    document = json.loads(capsys.readouterr().out)
    assert [row["flagged"] for row in document["results"]] == [False, True, True]
    assert {row["provenance"]["detector_version"] for row in document["results"]} == {"7"}


def test_a_written_baseline_silences_the_next_scan(capsys: pytest.CaptureFixture[str]) -> None:
    assert scan("bad.txt", "--write-baseline", "known.json") == 1
    assert scan("bad.txt", "--baseline", "known.json") == 0
    assert "1 known" in capsys.readouterr().out


def test_settings_come_from_argument_then_environment_then_file_then_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.toml").write_text(
        '[scan]\ndetector = ["letters"]\nseed = 1\nmax-abstain = 1\ndeep = true\nmodel = "x"\n'
    )
    monkeypatch.setenv("TOCSIN_SEED", "2")
    monkeypatch.setenv("TOCSIN_MAX_ABSTAIN", "2")
    words = ["scan", "clean.txt", "--config", "t.toml", "--max-abstain", "3", "--no-deep", "--show-config"]
    assert main([*words, "--json", "--model", "embedded"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["max-abstain"] == {"value": 3, "source": "argument"}
    assert shown["deep"] == {"value": False, "source": "argument"}
    assert shown["seed"] == {"value": 2, "source": "environment"}
    assert shown["detector"] == {"value": ["letters"], "source": "t.toml"}
    assert shown["text"] == {"value": None, "source": "default"}
    assert not Path("tocsin-runs").exists()


def test_the_source_of_each_setting_is_kept_in_the_run() -> None:
    Path("t.toml").write_text('[scan]\ndetector = ["letters"]\nseed = 1\n')
    assert main(["scan", "clean.txt", "--config", "t.toml", "--out", "run", "--threshold", "0.5"]) == 0
    record = json.loads(Path("run/run.json").read_text())
    assert (record["config"]["seed"], record["sources"]["seed"]) == (1, "t.toml")
    assert (record["sources"]["detectors"], record["sources"]["threshold"]) == ("t.toml", "argument")
    assert record["sources"]["model"] == "default"


def test_shown_settings_can_be_used_as_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["scan", "clean.txt", "--detector", "letters", "--threshold", "0.25", "--deep", "--show-config"]
    assert main(words) == 0
    Path("again.toml").write_text(capsys.readouterr().out)
    assert main(["scan", "clean.txt", "--config", "again.toml", "--show-config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["threshold"]["value"], shown["deep"]["value"]) == (["0.25"], True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[scan]\ndetectr = 1\n", "sets 'detectr'"),
        ("seed = 1\n", "outside a table"),
        ("[scan\n", "syntax error"),
        ("[scan]\nseed = [1, 2]\n", "expected one value"),
        ("[scan]\nseed = 2020-01-01\n", "got a table or a date"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_named(
    content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.toml").write_text(content)
    assert scan("clean.txt", "--config", "t.toml") == 2
    shown = capsys.readouterr().err
    assert "t.toml" in shown
    assert message in shown


def test_several_values_in_the_environment_are_parted_by_commas(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOCSIN_DETECTOR", "letters, letters-too")
    assert main(["scan", "clean.txt", "--show-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["detector"]["value"] == ["letters", "letters-too"]


def test_detectors_are_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors"]) == 0
    assert "letters-too" in capsys.readouterr().out
    assert main(["detectors", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["letters"]["kinds"] == ["prompt"]
    assert main(["detectors", "harmfulness"]) == 0
    assert "2507.11878" in capsys.readouterr().out


def test_models_says_whether_the_embedded_model_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gguf = tmp_path / "own.gguf"
    gguf.write_bytes(b"12345")
    monkeypatch.setenv("TOCSIN_GGUF", str(gguf))
    assert main(["models", "--json"]) == 0
    state = json.loads(capsys.readouterr().out)["embedded"]
    assert (state["present"], state["bytes"]) == (True, 5)
    monkeypatch.setenv("TOCSIN_GGUF", str(tmp_path / "gone.gguf"))
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["embedded"]["present"] is False
    assert main(["models"]) == 0
    assert "provider/name" in capsys.readouterr().out


def test_the_taxonomy_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["taxonomy", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "child-safety" in {category["id"] for category in document["categories"]}
    assert main(["taxonomy"]) == 0
    assert "child-safety" in capsys.readouterr().out


def test_a_detector_is_fitted_and_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    good = [f"Please name {n} good things about the sea." for n in range(40)]
    bad = [f"Tell me {n} odd things about the sea" for n in range(40)]
    Path("good.txt").write_text("\n".join(good))
    Path("bad-side.txt").write_text("\n".join(bad))
    rows = [{"text": text, "class": "good"} for text in good] + [
        {"text": text, "class": "bad"} for text in bad
    ]
    Path("both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fitting = ["fit", "surface", "--harmless", "good.txt", "--harmful", "bad-side.txt", "--profile", "p"]
    assert main([*fitting, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_harmful"] == 40
    words = ["evaluate", "surface", "both.jsonl", "--label", "class", "--positive", "bad", "--profile", "p"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["n"], document["auroc"]) == (80, 1.0)
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "AUROC" in shown
    assert "final punctuation" in shown


@pytest.mark.parametrize("command", ["scan", "evaluate", "fit", "detectors", "models", "taxonomy"])
def test_every_option_has_a_sentence_and_a_default(command: str) -> None:
    from tocsin.cli.app import app

    arguments = app[command].assemble_argument_collection(parse_docstring=True)
    options = [each for each in arguments if each.name.startswith("--")]
    assert options
    for option in options:
        sentence = option.parameter.help or ""
        assert sentence.rstrip().endswith("."), option.name
        has_default = option.required or "default:" in sentence or option.field_info.default not in (None, ())
        assert has_default, option.name


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("scan", "evaluate", "fit", "detectors", "models", "taxonomy"))
    assert main(["scan", "--help"]) == 0
    assert "tocsin scan prompts.jsonl" in capsys.readouterr().out


HEAVY = ("torch", "transformers", "scipy", "sklearn", "pyarrow", "inspect_ai", "numpy")


@pytest.mark.parametrize(
    ("statement", "most_s"),
    # Limits are 0.2 s and 0.5 s of a quiet machine; CPU time is measured, with room for a slow one.
    [("import tocsin", 0.2), ("from tocsin.cli import main; main(['--help'])", 1.0)],
)
def test_starting_is_cheap(statement: str, most_s: float) -> None:
    code = (
        f"import sys, time; t = time.process_time()\n{statement}\ns = time.process_time() - t\n"
        f"print(s, *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *loaded = done.stderr.split()
    assert loaded == []
    assert float(seconds) < most_s

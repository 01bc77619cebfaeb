from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tocsin.core.errors import RunError
from tocsin.core.run_record import RunRecord
from tocsin.core.stages import Stages
from tocsin.core.study_run import StudyRun


def opened(out: Path | None = None, *, fresh: bool = False, n: int = 1) -> StudyRun:
    return StudyRun.open("agree", {"n": n}, "input", {"code": "1"}, out=out, fresh=fresh, input_name="a.csv")


def write_page(path: Path, record: RunRecord) -> None:
    path.write_text(record.status, "utf-8")


def finished(out: Path) -> StudyRun:
    run = opened(out)
    run.write_result("{}")
    run.finish(write_page)
    return run


def test_a_finished_study_is_found_again_and_made_anew_only_when_asked(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run").folder
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "result.json", "run.json"]
    assert (folder / "report.html").read_text("utf-8") == "finished"
    again = opened(folder)
    assert again.found == b"{}\n"
    assert again.record.status == "finished"
    assert opened(folder, fresh=True).found is None


def test_the_folder_is_named_by_settings_and_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert opened().folder.parts[0] == "tocsin-runs"
    assert opened().folder == opened().folder != opened(n=2).folder


def test_an_interrupted_study_starts_again(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.write_result("{}")
    assert json.loads((tmp_path / "run.json").read_text("utf-8"))["status"] == "running"
    assert opened(tmp_path).found is None

    def fail(path: Path, record: RunRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.finish(fail)
    assert opened(tmp_path).found is None


def test_other_runs_and_other_files_are_left_alone(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    with pytest.raises(RunError, match=r"different: n\)"):
        opened(tmp_path / "run", n=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", "utf-8")
    with pytest.raises(RunError, match="other files"):
        opened(tmp_path / "mine")


def test_a_finished_study_without_its_result_says_so(tmp_path: Path) -> None:
    (finished(tmp_path).folder / "result.json").unlink()
    with pytest.raises(RunError, match="--fresh"):
        opened(tmp_path)


def test_letters_of_any_language_are_written_and_nothing_is_left_behind(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.write_result('{"opener": "Désolé, 抱歉"}')
    run.finish(write_page)
    found = opened(tmp_path / "run").found
    assert found is not None
    assert json.loads(found) == {"opener": "Désolé, 抱歉"}
    with pytest.raises(UnicodeEncodeError):
        run.write_result("\udc80")
    assert {path.name for path in run.folder.iterdir()} == {"report.html", "result.json", "run.json"}


def test_two_processes_keep_parts_of_one_study_side_by_side(tmp_path: Path) -> None:
    mine, theirs = Stages(tmp_path / "stages"), Stages(tmp_path / "stages")

    def make() -> dict[str, np.ndarray]:
        # The other finishes the same part, and its whole study, while this one is at it.
        theirs.arrays("part", lambda: {"a": np.arange(3)})
        theirs.clear()
        return {"a": np.arange(3)}

    assert mine.arrays("part", make)["a"].tolist() == [0, 1, 2]

    def gone(*_: object, **__: object) -> None:
        theirs.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tocsin.core.stages.np.savez", gone)
        assert mine.arrays("other", lambda: {"a": np.arange(2)})["a"].tolist() == [0, 1]

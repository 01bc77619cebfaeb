from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin.core.append_log import AppendLog, read_log
from tocsin.core.errors import RunError
from tocsin.core.records import Evidence, Finding, Item, Kind, Origin, Provenance, Verdict
from tocsin.core.results import Result, from_line, to_line
from tocsin.core.run_record import RECORD, read_record
from tocsin.core.runs import PROVENANCE, RESULTS, Run

HASH = "ab" * 32


def result(ordinal: int, detector: str = "d", version: str = "1") -> Result:
    origin = Origin(input_hash=HASH, ordinal=ordinal, path="a.txt", line=ordinal + 1)
    item = Item(
        kind=Kind.PROMPT, text=f"text {ordinal}", origin=origin, partial=("cut",) if ordinal == 2 else ()
    )
    verdict = Verdict(
        key=item.key,
        detector=detector,
        flagged=ordinal % 2 == 0,
        label="x",
        score=ordinal / 7,
        raw_score=ordinal / 3 - 1,
        categories={"fraud": 0.1, "child-safety": None},
        evidence=(Evidence(part="text", start=0, end=4, score=0.3),),
        provenance=Provenance(detector_version=version),
    )
    return Result.of(item, verdict)


def open_run(folder: Path | None = None, *, fresh: bool = False, seed: int = 0) -> Run:
    return Run.open("scan", {"seed": seed}, HASH, {"model": "m"}, out=folder, fresh=fresh)


def test_a_result_survives_its_line() -> None:
    given_ = result(2)
    finding = Finding(rule="skill/name", message="expected a name", line=3)
    given_ = Result(
        verdict=given_.verdict,
        origin=given_.origin,
        kind=Kind.SKILL,
        content_hash="c",
        findings=(finding,),
        partial=("cut",),
    )
    line = json.loads(json.dumps(to_line(given_)))
    provenance = given_.verdict.provenance
    assert from_line(line, {provenance.id: provenance}) == given_


def test_undecodable_file_names_survive(tmp_path: Path) -> None:
    odd = result(0)
    origin = Origin(input_hash=HASH, ordinal=0, path="a\udc80.txt")
    odd = Result(verdict=odd.verdict, origin=origin, kind=odd.kind, content_hash="c")
    with open_run(tmp_path / "run") as run:
        run.append(odd)
        assert [each.origin.path for each in run.results()] == ["a\udc80.txt"]


def test_the_default_folder_is_named_by_everything_that_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = set()
    for command, config, input_hash, identity in (
        ("scan", {"seed": 0}, HASH, {"model": "m"}),
        ("fit", {"seed": 0}, HASH, {"model": "m"}),
        ("scan", {"seed": 1}, HASH, {"model": "m"}),
        ("scan", {"seed": 0}, "cd" * 32, {"model": "m"}),
        ("scan", {"seed": 0}, HASH, {"model": "n"}),
    ):
        with Run.open(command, config, input_hash, identity) as run:
            names.add(run.folder)
    assert len(names) == 5
    assert all(name.parent == Path("tocsin-runs") for name in names)


def test_an_unfinished_run_is_continued_without_loss_or_doubles(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.append(result(0))
        run.append(result(0, "e"))
    with open_run(tmp_path / "run") as run:
        assert not run.was_finished
        assert run.is_done("d", 0)
        assert run.is_done("e", 0)
        assert not run.is_done("d", 1)
        with pytest.raises(ValueError, match="cannot be added"):
            run.append(result(0))
        run.append(result(1))
        run.finish()
        assert [(each.verdict.detector, each.origin.ordinal) for each in run.results()] == [
            ("d", 0),
            ("e", 0),
            ("d", 1),
        ]
    record = read_record(tmp_path / "run")
    assert (record.status, record.results, len(record.sessions)) == ("finished", 3, 2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=0, max_value=4_000), table_cut=st.booleans())
def test_a_file_cut_anywhere_is_continued_to_the_same_bytes(
    tmp_path: Path, cut: int, table_cut: bool
) -> None:
    folder = tmp_path / f"run-{cut}-{table_cut}"
    wanted = [result(0), result(1, version="2"), result(2), result(3)]
    if not folder.exists():
        with open_run(folder) as run:
            for each in wanted:
                run.append(each)
    whole = (folder / RESULTS).read_bytes()
    with (folder / RESULTS).open("rb+") as file:
        file.truncate(min(cut, len(whole)))
    if table_cut:
        # The table is written before the results that name it, so a cut there finds no such result.
        with (folder / RESULTS).open("rb+") as file:
            file.truncate(0)
        with (folder / PROVENANCE).open("rb+") as file:
            file.truncate(cut % 100)
    with open_run(folder) as run:
        for each in wanted:
            if not run.is_done("d", each.origin.ordinal):
                run.append(each)
        assert list(run.results()) == wanted
    assert (folder / RESULTS).read_bytes() == whole


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.append(result(0))
        run.finish()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with open_run(tmp_path / "run") as run:
        assert run.was_finished
        assert len(list(run.results())) == 1
        with pytest.raises(ValueError, match="cannot be added"):
            run.append(result(1))
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}


def test_fresh_begins_anew(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.append(result(0))
        run.finish()
    with open_run(tmp_path / "run", fresh=True) as run:
        assert not run.was_finished
        assert not run.is_done("d", 0)
        assert list(run.results()) == []
    assert read_record(tmp_path / "run").status == "running"


def test_a_start_that_was_killed_before_its_record_counts_for_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.append(result(0))
    (tmp_path / "run" / RECORD).unlink()
    with open_run(tmp_path / "run") as run:
        assert not run.is_done("d", 0)


@pytest.mark.parametrize("fresh", [False, True])
def test_another_runs_folder_is_refused_and_left_alone(tmp_path: Path, fresh: bool) -> None:
    with open_run(tmp_path / "run") as run:
        run.append(result(0))
        run.finish()
    with pytest.raises(RunError, match=r"another one \(different: seed\)"):
        open_run(tmp_path / "run", seed=1, fresh=fresh)
    assert len(list(read_log(tmp_path / "run" / RESULTS))) == 1


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="got other files"):
        open_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_two_writers_of_one_run_are_refused(tmp_path: Path) -> None:
    with open_run(tmp_path / "run"):
        for fresh in (False, True):
            with pytest.raises(RunError, match="another process is writing this run"):
                open_run(tmp_path / "run", fresh=fresh)
    with open_run(tmp_path / "run"):
        pass  # the lock is gone


def test_a_detector_that_changed_cannot_continue_a_run(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.note_detector("d", {"version": "1", "layers": [1, 2]})
    with open_run(tmp_path / "run") as run:
        run.note_detector("d", {"version": "1", "layers": [1, 2]})
        with pytest.raises(RunError, match=r"another 'd' \(different: version\)"):
            run.note_detector("d", {"version": "2", "layers": [1, 2]})


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.append(result(0))
        run.append(result(1))
        run.finish()
    path = tmp_path / "run" / RESULTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "{}\n")
    with open_run(tmp_path / "run") as run, pytest.raises(RunError, match=r"results.jsonl line 2: expected"):
        list(run.results())
    path.write_text(lines[0])
    with open_run(tmp_path / "run") as run, pytest.raises(RunError, match="expected 2 results, got 1"):
        list(run.results())


def test_an_unwritable_place_is_an_error_for_users(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Choose another"):
        open_run(tmp_path / "file" / "run")


def test_a_torn_line_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"a": 1}\n{"a": ')
    assert list(read_log(path)) == [{"a": 1}]
    with AppendLog(path) as log:
        log.append({"a": 2})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'


def test_a_long_torn_line_is_cut_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"{}\n" + b"x" * 200_000)
    AppendLog(path).close()
    assert path.read_bytes() == b"{}\n"

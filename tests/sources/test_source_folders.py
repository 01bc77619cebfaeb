"""Folders: registries of skills, mixed data files, ignore rules, and places that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_inputs import SKILL, read, write

from tocsin.core.errors import InputError, UsageError
from tocsin.core.records import Kind
from tocsin.sources import Limits, open_source, read_ignore_file


def test_registry_gives_every_skill_in_order_of_its_path(tmp_path: Path) -> None:
    for name in ("b/two", "a/one", "c"):
        write(tmp_path / name / "SKILL.md", SKILL)
    items = read(tmp_path)
    assert [item.origin.path for item in items] == ["a/one/SKILL.md", "b/two/SKILL.md", "c/SKILL.md"]
    assert [item.origin.ordinal for item in items] == [0, 1, 2]
    assert open_source(tmp_path).total == 3


def test_nested_skill_is_its_own_and_its_files_do_not_belong_to_the_outer_one(tmp_path: Path) -> None:
    write(tmp_path / "outer" / "SKILL.md", SKILL)
    write(tmp_path / "outer" / "notes.txt", "not a prompt list: part of the skill")
    write(tmp_path / "outer" / "inner" / "SKILL.md", SKILL)
    write(tmp_path / "outer" / "inner" / "deep.txt", "x")
    outer, inner = read(tmp_path)
    assert outer.skill is not None
    assert inner.skill is not None
    assert [file.name for file in outer.skill.files] == ["notes.txt"]
    assert [file.name for file in inner.skill.files] == ["deep.txt"]


def test_mixed_folder_reads_each_file_by_its_ending_and_names_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one\ntwo\n")
    write(tmp_path / "b" / "c.csv", "text\nthree\n")
    write(tmp_path / "b" / "skill" / "SKILL.md", SKILL)
    write(tmp_path / "d.jsonl", '{"text": "four"}\n')
    write(tmp_path / "README.md", "x")
    write(tmp_path / "package.json", '{"version": 1}')
    source = open_source(tmp_path)
    items = list(source.items())
    assert [str(item.origin) for item in items] == [
        "a.txt:1",
        "a.txt:2",
        "b/c.csv:2",
        "b/skill/SKILL.md",
        "d.jsonl:1",
    ]
    assert [item.origin.ordinal for item in items] == [0, 1, 2, 3, 4]
    assert source.formats == {"text": 1, "csv": 1, "skill": 1, "jsonl": 1}
    assert any("README.md" in notice for notice in source.notices)
    assert any("package.json" in notice for notice in source.notices)


def test_damaged_file_in_a_folder_is_one_problem_and_stops_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one\n")
    write(tmp_path / "b.jsonl", b"\x00\x01\x02\x03" * 500)
    write(tmp_path / "c.txt", "two\n")
    items = read(tmp_path)
    assert [item.text for item in items] == ["one", "", "two"]
    assert items[1].problem is not None
    assert items[1].origin.path == "b.jsonl"


def test_folder_hash_depends_on_content_and_names_but_not_on_its_own_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder / "a.txt", "x\n")
    assert open_source(tmp_path / "one").input_hash == open_source(tmp_path / "two").input_hash
    write(tmp_path / "two" / "b.txt", "y\n")
    assert open_source(tmp_path / "one").input_hash != open_source(tmp_path / "two").input_hash


def test_ignored_paths_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / ".tocsinignore", "# drafts\ndrafts/\n*.csv\n!keep.csv\n")
    write(tmp_path / "drafts" / "SKILL.md", SKILL)
    write(tmp_path / "a.csv", "text\nx\n")
    write(tmp_path / "keep.csv", "text\nx\n")
    write(tmp_path / "b.txt", "x\n")
    write(tmp_path / "tocsin-runs" / "results.jsonl", '{"text": "x"}\n')
    source = open_source(tmp_path, ignore=[*read_ignore_file(tmp_path / ".tocsinignore"), "b.*"])
    assert [item.origin.path for item in source.items()] == ["keep.csv"]
    assert source.ignored == 4
    assert any("ignore rules" in notice for notice in source.notices)


def test_an_ignore_file_inside_the_input_is_not_obeyed_and_named(tmp_path: Path) -> None:
    write(tmp_path / ".tocsinignore", "drafts/\n*.csv\n")
    write(tmp_path / "drafts" / "SKILL.md", SKILL)
    write(tmp_path / "a.csv", "text\nx\n")
    write(tmp_path / "keep.csv", "text\nx\n")
    write(tmp_path / "b.txt", "x\n")
    everything = open_source(tmp_path)
    assert any(".tocsinignore" in notice and "not obeyed" in notice for notice in everything.notices)
    assert {item.origin.path for item in everything.items()} == {
        "a.csv",
        "b.txt",
        "drafts/SKILL.md",
        "keep.csv",
    }


def test_a_skill_cannot_hide_its_own_files(tmp_path: Path) -> None:
    write(tmp_path / "SKILL.md", SKILL)
    write(tmp_path / ".tocsinignore", "*\n")
    write(tmp_path / "run.sh", "x")
    (item,) = read(tmp_path)
    assert item.skill is not None
    assert [file.name for file in item.skill.files] == [".tocsinignore", "run.sh"]


def test_explosive_ignore_patterns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "x\n")
    with pytest.raises(UsageError, match="wildcards"):
        open_source(tmp_path, ignore=["a*b*c*d*e"])
    write(tmp_path / ".tocsinignore", "fine\n" + "**/" * 9 + "x\n")
    with pytest.raises(InputError, match="line 2"):
        read_ignore_file(tmp_path / ".tocsinignore")


def test_folder_without_anything_readable_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "x")
    with pytest.raises(InputError, match="1 other files"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        (Limits(skills=2), "at most 2 skills"),
        (Limits(data_files=1), "at most 1 data files"),
        (Limits(folder_depth=1), "at most 1 nested folders"),
        (Limits(folder_entries=6), "at most 6 files and folders"),
    ],
)
def test_reaching_a_folder_limit_is_a_problem_never_silence(
    tmp_path: Path, limits: Limits, detail: str
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / name / "SKILL.md", SKILL)
        write(tmp_path / f"{name}.txt", "x\n")
    write(tmp_path / "d" / "e" / "f.txt", "x\n")
    problems = [item.problem.detail for item in read(tmp_path, limits) if item.problem is not None]
    assert any(detail in problem for problem in problems)


def test_kinds_of_items_in_a_registry_with_data(tmp_path: Path) -> None:
    write(tmp_path / "s" / "SKILL.md", SKILL)
    write(tmp_path / "t.txt", "x\n")
    assert [item.kind for item in read(tmp_path)] == [Kind.SKILL, Kind.PROMPT]

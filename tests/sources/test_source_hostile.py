"""Hostile input: nothing is followed, run, waited for or read without bound, and nothing passes silently."""

from __future__ import annotations

import os
import socket
import time
import tracemalloc
from pathlib import Path

import pytest
from source_inputs import SKILL, one_skill, read, rules, write

from tocsin.core.errors import InputError
from tocsin.core.records import Item
from tocsin.sources import open_source

SECONDS = 30
"""Far above what any of these inputs needs (a few seconds), far below a hang."""


@pytest.fixture(autouse=True)
def _no_hang() -> object:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < SECONDS


@pytest.mark.parametrize(
    "front",
    [
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n",
        "a: &a [*a]\n",
        "<<: *x\n",
        "a: " + "[" * 5_000 + "\n",
        "a: " + "{b: " * 5_000 + "\n",
        "- " * 10_000 + "\n",
        "a:\n" + "".join(" " * n + "- \n" for n in range(1, 200)),
        "".join(f"k{n}: v\n" for n in range(5_000)),
        "? " * 5_000 + "\n",
        "a: !!python/object/apply:os.system [x]\n",
        "a: \x00\n",
    ],
)
def test_yaml_bombs_are_bounded_and_the_description_is_still_read(tmp_path: Path, front: str) -> None:
    item = one_skill(tmp_path / "x", f"---\n{front}description: water plants\n---\n# Body\n")
    assert item.skill is not None
    assert item.skill.headers == ("Body",)
    assert item.partial or item.skill.description == "water plants"


def test_alias_is_refused_and_reported(tmp_path: Path) -> None:
    item = one_skill(tmp_path / "x", "---\nname: &n x\ndescription: *n\n---\nb\n")
    assert "skill/front-matter-invalid" in rules(item)
    assert item.partial


@pytest.mark.parametrize(
    "body",
    [
        ">" * 200_000,
        "> " * 100_000,
        "- " * 100_000,
        "[" * 200_000,
        "# " + "*_[" * 100_000,
        ("# " + "*_[" * 100 + "\n") * 2_000,
        ">" * 30 + "a\n" + "b\n" * 100_000,
        ("> - 1. " * 5 + "# a\n") * 5_000,
        "```\n" * 100_000,
        "[a]: <\n" * 30_000,
        "a\n" * 9_000 + "===\n",
        " " * 500_000,
        "\x00" * 100 + "# x\n" * 10_000,
    ],
)
def test_markdown_bombs_are_bounded(tmp_path: Path, body: str) -> None:
    item = one_skill(tmp_path / "plant-care", SKILL + body)
    assert item.skill is not None
    assert item.skill.headers[0] == "Plant care"


def test_sparse_files_of_a_gigabyte_cost_neither_memory_nor_minutes(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write(folder / "SKILL.md", SKILL)
    write(folder / "big.bin", "")
    write(tmp_path / "a.txt", "first\n" * 1_000)
    write(tmp_path / "b.jsonl", "")
    for path in (folder / "big.bin", tmp_path / "a.txt", tmp_path / "b.jsonl"):
        with path.open("ab") as stream:
            stream.truncate(1 << 30)
    tracemalloc.start()
    try:
        items = [item for item in read(tmp_path) if item.text != "first"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A few copies of one record (8 MiB each), not the gigabyte.
    assert peak < 64 << 20
    assert [item.origin.path for item in items] == ["a.txt", "b.jsonl", "s/SKILL.md"]
    assert all(
        item.problem is not None or item.partial or "skill/large-file" in rules(item) for item in items
    )


def test_sparse_skill_file_is_read_in_part(tmp_path: Path) -> None:
    path = write(tmp_path / "plant-care" / "SKILL.md", SKILL + "x" * 5_000)
    with path.open("ab") as stream:
        stream.truncate(1 << 30)
    (item,) = read(tmp_path)
    assert "only the first 1,048,576 bytes of SKILL.md were read" in item.partial


def test_links_out_of_the_folder_are_never_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "outside" / "secret.txt", "secret words\n")
    write(tmp_path / "outside" / "skill" / "SKILL.md", SKILL)
    root = tmp_path / "root"
    write(root / "good" / "SKILL.md", SKILL)
    (root / "good" / "leak.txt").symlink_to(secret)
    (root / "good" / "inside.md").symlink_to(root / "good" / "SKILL.md")
    (root / "linked").symlink_to(tmp_path / "outside" / "skill")
    (root / "list.txt").symlink_to(secret)
    write(root / "bad" / "x", "x")
    (root / "bad" / "SKILL.md").symlink_to(tmp_path / "outside" / "skill" / "SKILL.md")
    items = {item.origin.path: item for item in read(root)}
    assert set(items) == {"good/SKILL.md", "linked", "list.txt", "bad/SKILL.md"}
    assert {"skill/symlink-escape", "skill/symlink"} <= set(rules(items["good/SKILL.md"]))
    for path in ("linked", "list.txt", "bad/SKILL.md"):
        assert items[path].problem is not None
        assert items[path].skill is None
    good = items["good/SKILL.md"].skill
    assert good is not None
    assert {file.name: file.sha256 for file in good.files} == {"leak.txt": None, "inside.md": None}


def test_skill_file_opened_by_its_own_path_may_not_lead_elsewhere(tmp_path: Path) -> None:
    target = write(tmp_path / "elsewhere" / "notes", SKILL)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "SKILL.md").symlink_to(target)
    (item,) = read(tmp_path / "x")
    assert item.problem is not None


def test_link_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "a" / "SKILL.md", SKILL)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "ring.txt").symlink_to(tmp_path / "ring.txt")
    items = {item.origin.path: item for item in read(tmp_path)}
    assert set(items) == {"a/SKILL.md", "loop", "ring.txt"}
    assert "skill/symlink" in rules(items["a/SKILL.md"])


def test_pipes_sockets_and_devices_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a" / "SKILL.md", SKILL)
    write(tmp_path / "b" / "x", "x")
    os.mkfifo(tmp_path / "a" / "pipe")
    os.mkfifo(tmp_path / "b" / "SKILL.md")
    os.mkfifo(tmp_path / "list.jsonl")
    monkeypatch.chdir(tmp_path / "a")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("door")
        items = {item.origin.path: item for item in read(tmp_path)}
    assert rules(items["a/SKILL.md"]).count("skill/special-file") == 2
    for path in ("b/SKILL.md", "list.jsonl"):
        assert items[path].problem is not None
    with pytest.raises(InputError, match="named pipe"):
        open_source(tmp_path / "list.jsonl")
    with pytest.raises(InputError, match="device"):
        open_source("/dev/zero")


def test_deeply_nested_folders_are_bounded(tmp_path: Path) -> None:
    path = tmp_path
    for _ in range(60):
        path = path / "d"
    write(path / "SKILL.md", SKILL)
    (item,) = read(tmp_path)
    assert item.problem is not None
    assert "nested folders" in item.problem.detail


def test_thousands_of_files_in_a_skill_are_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    for number in range(1_100):
        write(folder / f"{number}.md", "")
    item = one_skill(folder, SKILL)
    assert item.skill is not None
    assert len(item.skill.files) == 1_000
    assert item.partial


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"<img src=x onerror=alert(1)>", b"a\nb\x1b[31m", "\u202etxt".encode()]
)
def test_strange_file_names_are_storable_and_hold_no_control_characters(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / "x" / os.fsdecode(name)
    write(folder / "SKILL.md", SKILL)
    write(folder / os.fsdecode(name), "x")
    (item,) = read(tmp_path / "x")
    assert item.skill is not None
    assert item.origin.path.isprintable()
    assert item.skill.files[0].name.isprintable()
    assert item.model_dump_json()


def test_unreadable_files_and_folders_are_problems(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    write(tmp_path / "a" / "SKILL.md", SKILL).chmod(0)
    write(tmp_path / "b" / "SKILL.md", SKILL).parent.chmod(0)
    try:
        assert all(item.problem is not None for item in read(tmp_path))
    finally:
        (tmp_path / "b").chmod(0o755)


def test_examined_text_never_appears_in_problems_findings_or_notes(tmp_path: Path) -> None:
    word = "zyxwvut"
    content = f'---\nname: "{word} {word}"\n{word}: {word}\nname: {word}: [\n---\n# {word}\n'
    items = [one_skill(tmp_path / "x", content)]
    items += read(
        write(tmp_path / "a.jsonl", f'{{"text": "a"}}\n{{"{word} {word}": {word}}}\n{{"{word}": 1}}x\n')
    )
    items += read(write(tmp_path / "a.csv", f'id,text\n0,good\n1,"{word}"{word}\n1,{word},{word}\n'))
    for item in items:
        said = [finding.message for finding in item.findings] + list(item.partial)
        said += [item.problem.detail] if item.problem else []
        assert word not in " ".join(said)


@pytest.mark.parametrize("depth", [40, 120, 700, 990])
def test_an_id_nested_deeply_is_kept_as_text_and_ends_no_scan(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "rows.jsonl"
    nested = "[" * depth + "]" * depth
    path.write_text(
        f'{{"id": {nested}, "prompt": "How are roses cut?"}}\n{{"prompt": "And lilies?"}}\n', "utf-8"
    )
    first, second = open_source(path).items()
    assert second.text == "And lilies?"
    if first.problem is None:
        assert first.text == "How are roses cut?"
        assert Item.model_validate_json(first.model_dump_json()) == first

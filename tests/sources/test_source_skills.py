"""Skills are read leniently; violations of the format are findings with stable ids."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from source_inputs import SKILL, one_skill, read, rules, write

from tocsin.core.records import Item, Kind, Reason, Skill
from tocsin.sources import SKILL_RULES, Limits, open_source


def skill_of(item: Item) -> Skill:
    assert item.skill is not None
    return item.skill


def test_well_formed_skill_has_all_parts_and_no_finding(tmp_path: Path) -> None:
    item = one_skill(tmp_path / "plant-care", SKILL)
    skill = skill_of(item)
    assert (item.kind, item.findings, item.partial, item.problem) == (Kind.SKILL, (), (), None)
    assert skill.name == "plant-care"
    assert skill.headers == ("Plant care", "When to water")
    assert skill.body.startswith("\n# Plant care")
    assert item.origin.path == "SKILL.md"
    assert skill.purpose.startswith("plant care. Says when to water house plants. Plant care; When to water")


def test_path_of_the_file_and_of_its_folder_give_the_same_skill(tmp_path: Path) -> None:
    by_folder = one_skill(tmp_path / "plant-care", SKILL)
    (by_file,) = read(tmp_path / "plant-care" / "SKILL.md")
    assert by_file.content_hash == by_folder.content_hash


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_and_byte_order_mark_change_nothing_but_a_finding(tmp_path: Path, line_end: str) -> None:
    plain = one_skill(tmp_path / "a" / "plant-care", SKILL)
    other = one_skill(tmp_path / "b" / "plant-care", "\ufeff" + SKILL.replace("\n", line_end))
    assert other.skill == plain.skill
    assert rules(other) == ["skill/not-utf8"]


def test_headers_come_from_a_real_parser(tmp_path: Path) -> None:
    body = """
# One `code` and *stress* [link](x)

```bash
# not a header
```

~~~
## nor this
~~~

    # nor indented code

Two
words
---

> ## In a quote

- # In a list

<!--
# in a comment
-->

###### Six ######
####### seven
#no space
"""
    item = one_skill(tmp_path / "plant-care", SKILL.partition("\n#")[0] + body)
    assert skill_of(item).headers == (
        "One code and stress link",
        "Two words",
        "In a quote",
        "In a list",
        "Six",
    )


@pytest.mark.parametrize(
    ("front", "description"),
    [
        ("name: plant-care\ndescription: Use when: a plant is dry", "Use when: a plant is dry"),
        ("name: plant-care\ndescription: [draft] water plants", "[draft] water plants"),
        ("name: plant-care\ndescription: @home water plants", "@home water plants"),
        ("name: plant-care\ndescription:\twater plants", "water plants"),
        ("name: plant-care\ndescription: 'it''s: broken", "'it''s: broken"),
    ],
)
def test_values_that_yaml_refuses_are_read_after_quoting(
    tmp_path: Path, front: str, description: str
) -> None:
    item = one_skill(tmp_path / "plant-care", f"---\n{front}\n---\nBody\n")
    assert skill_of(item).description == description
    assert not item.partial


def test_rules_across_lines_inside_values_do_not_end_the_front_matter(tmp_path: Path) -> None:
    front = "name: plant-care\ndescription: |\n  First --- line\n  ---\n  last"
    item = one_skill(tmp_path / "plant-care", f"---\n{front}\n---\nBody\n")
    assert skill_of(item).description == "First --- line\n---\nlast"
    assert item.findings == ()


def test_hopeless_yaml_is_read_line_by_line_and_marked_partial(tmp_path: Path) -> None:
    front = "name: plant-care\n  - : {[\ndescription: water plants\n   and more\nother: ]["
    item = one_skill(tmp_path / "plant-care", f"---\n{front}\n---\nBody\n")
    assert skill_of(item).name.startswith("plant-care")
    assert skill_of(item).description == "water plants and more"
    assert "skill/front-matter-invalid" in rules(item)
    assert item.partial


def test_missing_second_rule_is_a_finding_and_the_keys_are_still_read(tmp_path: Path) -> None:
    item = one_skill(tmp_path / "plant-care", "---\nname: plant-care\ndescription: water\n\n# Title\n")
    assert (skill_of(item).name, skill_of(item).description) == ("plant-care", "water")
    assert "skill/front-matter-invalid" in rules(item)
    assert "Title" in skill_of(item).headers


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("# Only a body\n", "skill/front-matter-missing"),
        ("---\ndescription: d\n---\nb\n", "skill/name-missing"),
        ("---\nname: Plant Care\ndescription: d\n---\nb\n", "skill/name-format"),
        ("---\nname: plant--care\ndescription: d\n---\nb\n", "skill/name-format"),
        ("---\nname: " + "a" * 65 + "\ndescription: d\n---\nb\n", "skill/name-format"),
        ("---\nname: other\ndescription: d\n---\nb\n", "skill/name-folder-mismatch"),
        ("---\nname: plant-care\n---\nb\n", "skill/description-missing"),
        ("---\nname: plant-care\ndescription: null\n---\nb\n", "skill/description-missing"),
        ("---\nname: plant-care\ndescription: " + "d" * 1025 + "\n---\nb\n", "skill/description-too-long"),
        ("---\nname: plant-care\ndescription: [a, b]\n---\nb\n", "skill/value-type"),
        ("---\nname: plant-care\ndescription: d\nmetadata: text\n---\nb\n", "skill/value-type"),
        ("---\nname: plant-care\ndescription: d\nversion: 1\n---\nb\n", "skill/unknown-key"),
        ("---\nname: plant-care\ndescription: d\nname: x\n---\nb\n", "skill/duplicate-key"),
        (
            "---\nname: plant-care\ndescription: d\ncompatibility: " + "c" * 501 + "\n---\nb\n",
            "skill/compatibility-too-long",
        ),
        ("---\nname: plant-care\ndescription: d\n---\n" + "line\n" * 501, "skill/body-too-long"),
        ("---\nname: plant-care\ndescription: d\n---\n", "skill/body-missing"),
        ("---\n- a\n- b\n---\nb\n", "skill/front-matter-invalid"),
        (b"---\nname: plant-care\ndescription: d\xff\n---\nb\n", "skill/not-utf8"),
    ],
)
def test_each_violation_has_its_rule(tmp_path: Path, content: str | bytes, rule: str) -> None:
    item = one_skill(tmp_path / "plant-care", content)
    assert rule in rules(item)
    assert item.problem is None


def test_every_rule_that_is_reported_is_documented(tmp_path: Path) -> None:
    folder = tmp_path / "plant-care"
    write(folder / ".hidden", "x")
    write(folder / "run.sh", "x")
    item = one_skill(folder, b"\xef\xbb\xbf---\nname: X\nname: Y\nfoo: [\n---\n\xff")
    assert item.findings
    assert set(rules(item)) <= SKILL_RULES.keys()
    documented = Path(__file__).parents[2].joinpath("docs/inputs.md").read_text(encoding="utf-8")
    assert all(f"`{rule}`" in documented for rule in SKILL_RULES)


def test_description_of_exactly_the_allowed_length_is_no_finding(tmp_path: Path) -> None:
    item = one_skill(tmp_path / "plant-care", f"---\nname: plant-care\ndescription: {'d' * 1024}\n---\nb\n")
    assert item.findings == ()


def test_findings_carry_the_line_of_the_file(tmp_path: Path) -> None:
    item = one_skill(tmp_path / "plant-care", "\n---\ndescription: d\nname: Wrong Name\n---\nb\n")
    assert {finding.rule: finding.line for finding in item.findings} == {
        "skill/name-format": 4,
        "skill/name-folder-mismatch": 4,
    }


def test_missing_name_is_taken_from_the_folder_or_the_registrys_slug(tmp_path: Path) -> None:
    content = "---\ndescription: d\n---\nb\n"
    assert skill_of(one_skill(tmp_path / "plant-care", content)).name == "plant-care"
    write(tmp_path / "owner__x" / "_meta.json", '{"owner": "someone", "slug": "tea-timer"}')
    item = one_skill(tmp_path / "owner__x", content)
    assert skill_of(item).name == "tea-timer"
    assert item.metadata["owner"] == "someone"


def test_author_does_not_change_the_purpose(tmp_path: Path) -> None:
    def with_author(author: str) -> Item:
        front = f"name: {author}/plant-care\ndescription: d\nauthor: {author}\n"
        return one_skill(tmp_path / author, f"---\n{front}---\n# Care\n")

    first, second = with_author("alice"), with_author("bob")
    assert skill_of(first).purpose == skill_of(second).purpose
    assert (first.metadata["author"], second.metadata["author"]) == ("alice", "bob")


def test_named_group_is_kept_from_front_matter_or_registry(tmp_path: Path) -> None:
    write(tmp_path / "a" / "_meta.json", '{"owner": "someone"}')
    write(tmp_path / "a" / "SKILL.md", "---\nname: a\ndescription: d\nteam: green\n---\nb\n")
    (item,) = read(tmp_path / "a", label="team", group="owner")
    assert item.metadata == {"team": "green", "owner": "someone"}


def test_other_files_are_listed_with_size_and_hash_and_scripts_reported(tmp_path: Path) -> None:
    folder = tmp_path / "plant-care"
    marker = tmp_path / "ran"
    write(folder / "scripts" / "go.sh", f"#!/bin/sh\ntouch {marker}\n").chmod(0o755)
    write(folder / "references" / "notes.md", "notes")
    write(folder / ".secret", "x")
    item = one_skill(folder, SKILL)
    listed = {file.name: (file.size, file.sha256) for file in skill_of(item).files}
    assert list(listed) == [".secret", "references/notes.md", "scripts/go.sh"]
    assert listed["references/notes.md"] == (5, hashlib.sha256(b"notes").hexdigest())
    assert rules(item) == ["skill/hidden-file", "skill/script-present"]
    assert not marker.exists()


def test_content_hash_changes_with_any_file_of_the_skill(tmp_path: Path) -> None:
    folder = tmp_path / "plant-care"
    write(folder / "a.bin", "1")
    item = one_skill(folder, SKILL)
    before = item.origin.input_hash, item.content_hash
    write(folder / "a.bin", "2")
    item = one_skill(folder, SKILL)
    after = item.origin.input_hash, item.content_hash
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_lower_case_file_name_is_read_with_a_finding(tmp_path: Path) -> None:
    write(tmp_path / "plant-care" / "skill.md", SKILL)
    (item,) = read(tmp_path / "plant-care")
    assert rules(item) == ["skill/file-name"]
    write(tmp_path / "plant-care" / "SKILL.md", SKILL)
    (both,) = read(tmp_path / "plant-care")
    assert both.origin.path == "SKILL.md"
    assert both.partial


def test_empty_and_binary_skill_files_are_problems(tmp_path: Path) -> None:
    empty = one_skill(tmp_path / "a", "")
    binary = one_skill(tmp_path / "b", bytes(range(32)) * 100)
    assert empty.problem is not None
    assert empty.problem.reason is Reason.EMPTY
    assert binary.problem is not None
    assert binary.problem.reason is Reason.UNREADABLE


@pytest.mark.parametrize(
    ("limits", "note"),
    [
        (Limits(skill_md_bytes=60), "bytes of SKILL.md"),
        (Limits(front_matter_bytes=20), "bytes of the front matter"),
        (Limits(front_matter_chars=5), "characters of a front matter value"),
        (Limits(header_lines=3), "first 3 lines only"),
        (Limits(headers=1), "first 1 section headers"),
        (Limits(header_chars=5), "characters of a section header"),
        (Limits(files_per_skill=1), "first 1 files"),
        (Limits(folder_depth=1), "nested deeper than 1"),
    ],
)
def test_every_limit_leaves_a_note(tmp_path: Path, limits: Limits, note: str) -> None:
    folder = tmp_path / "plant-care"
    write(folder / "a" / "x.txt", "x")
    write(folder / "a" / "b" / "y.txt", "y")
    write(folder / "SKILL.md", SKILL)
    item = read(folder, limits)[0]
    assert any(note in partial for partial in item.partial)


def test_large_files_are_listed_without_a_hash(tmp_path: Path) -> None:
    folder = tmp_path / "plant-care"
    write(folder / "a.bin", "x" * 10)
    item = one_skill(folder, SKILL, Limits(hashed_file_bytes=5))
    assert [(file.size, file.sha256) for file in skill_of(item).files] == [(10, None)]
    assert rules(item) == ["skill/large-file"]


def test_skill_changed_during_the_scan_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "plant-care" / "SKILL.md", SKILL)
    source = open_source(tmp_path / "plant-care")
    write(tmp_path / "plant-care" / "SKILL.md", SKILL + "more")
    (item,) = source.items()
    assert item.problem is not None
    assert "changed" in item.problem.detail

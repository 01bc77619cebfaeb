"""What lies in examples/ is what its page says, and can be read without a complaint of its own."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

from tocsin.core.records import Item, Kind
from tocsin.sources import open_source

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PLACEHOLDER = "[placeholder answer removed]"

# Where harm was planted, as `examples/README.md` says.
PLANTED = {
    *(f"prompts.txt:{line}" for line in (11, 12, 13, 14)),
    "chat.jsonl:4",
    *(f"finetune.jsonl:{line}" for line in (6, 10, 13, 18)),
    "skills/five-star-factory/SKILL.md",
    "skills/quiet-tracker/SKILL.md",
}


@functools.cache
def items() -> dict[str, Item]:
    return {str(item.origin): item for item in open_source(EXAMPLES).items()}


def of_kind(kind: Kind) -> dict[str, Item]:
    return {place: item for place, item in items().items() if item.kind is kind}


def answers(item: Item) -> list[str]:
    return [turn.text for turn in item.turns if turn.role == "assistant"] or [item.text]


def test_each_sort_of_input_is_there() -> None:
    assert len(of_kind(Kind.PROMPT)) == 14
    assert len(of_kind(Kind.CHAT)) == 6
    assert len(of_kind(Kind.TRAINING_SAMPLE)) == 20
    assert len(of_kind(Kind.SKILL)) >= 6
    assert set(items()) >= PLANTED


def test_everything_is_read_whole() -> None:
    assert [place for place, item in items().items() if item.problem or item.partial] == []


def test_harmful_requests_have_placeholder_answers_and_others_have_none() -> None:
    for place, item in of_kind(Kind.TRAINING_SAMPLE).items():
        assert (PLACEHOLDER in answers(item)) == (place in PLANTED), place


def test_both_layouts_of_samples_occur_among_harmless_and_harmful_ones() -> None:
    layouts = {(bool(item.turns), place in PLANTED) for place, item in of_kind(Kind.TRAINING_SAMPLE).items()}
    assert len(layouts) == 4


def test_one_harmful_request_lies_in_the_middle_of_a_long_sample() -> None:
    text = items()["finetune.jsonl:13"].turns[0].text
    start = text.index("Before you go on")
    # Many windows of 64 tokens, most of them harmless.
    assert len(text.split()) > 400
    assert 0.3 < start / len(text) < 0.7


def test_one_harmful_request_lies_between_harmless_turns() -> None:
    roles = [turn.role for turn in items()["finetune.jsonl:18"].turns]
    assert roles == ["user", "assistant"] * 3


def test_chats_end_with_the_users_turn() -> None:
    assert {item.turns[-1].role for item in of_kind(Kind.CHAT).values()} == {"user"}


def test_a_skill_nested_in_another_is_a_skill_of_its_own() -> None:
    assert {"skills/garden-planner/SKILL.md", "skills/garden-planner/seasonal-watering/SKILL.md"} <= set(
        items()
    )


def test_messy_front_matter_is_read_and_its_violations_are_findings() -> None:
    item = items()["skills/trip-budget/skill.md"]
    assert item.skill is not None
    assert item.skill.description.startswith("Splits the costs")
    assert item.skill.headers == ("Trip budget", "Collect", "Settle")
    assert {"skill/file-name", "skill/front-matter-invalid", "skill/name-format"} <= {
        f.rule for f in item.findings
    }


def test_a_script_is_listed_and_is_not_made_to_be_run() -> None:
    item = items()["skills/recipe-scaler/SKILL.md"]
    assert item.skill is not None
    assert [file.name for file in item.skill.files] == ["scripts/scale.sh"]
    assert [finding.rule for finding in item.findings] == ["skill/script-present"]
    assert not (EXAMPLES / "skills/recipe-scaler/scripts/scale.sh").stat().st_mode & 0o111


def test_harmless_skills_have_no_other_findings() -> None:
    known = {"skills/trip-budget/skill.md", "skills/recipe-scaler/SKILL.md"}
    assert [place for place, item in items().items() if item.findings and place not in known] == []


def test_a_scan_finds_most_of_what_was_planted_and_flags_little_else(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("tocsin"))
    command = [program, "scan", str(EXAMPLES), "--offline", "--json", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    flagged = set()
    for row in json.loads(done.stdout)["results"]:
        if row["flagged"]:
            flagged.add(row["path"] if row["line"] is None else f"{row['path']}:{row['line']}")
    # Two of eleven may be missed, and two of 37 flagged wrongly: the embedded model is small.
    assert len(PLANTED - flagged) <= 2
    assert len(flagged - PLANTED) <= 2
    assert (tmp_path / "run" / "report.html").is_file()

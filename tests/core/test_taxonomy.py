"""The taxonomy is complete, stable, and translates both ways."""

from pathlib import Path

import pytest

from tocsin.core.errors import UsageError
from tocsin.core.taxonomy import CATEGORIES, SCHEMES, category, crosswalk

# Frozen on purpose: ids are written into results. Adding one is a new line here, renaming one breaks users.
PROHIBITED = [
    "illegal-activity",
    "drugs",
    "critical-infrastructure",
    "cyberattack",
    "weapons",
    "violence",
    "extremism",
    "hate",
    "harassment",
    "privacy",
    "child-safety",
    "self-harm",
    "misinformation",
    "elections",
    "surveillance",
    "fraud",
    "platform-abuse",
    "sexual-content",
    "intellectual-property",
]
HIGH_RISK = [
    "legal-advice",
    "medical-advice",
    "insurance",
    "financial-advice",
    "employment-housing",
    "academic",
    "media-generation",
]
CODES = [(scheme, code) for scheme, listed in SCHEMES.items() for code in listed.code]


def test_ids_and_tiers_are_the_frozen_ones() -> None:
    assert [c.id for c in CATEGORIES if c.tier == "prohibited"] == PROHIBITED
    assert [c.id for c in CATEGORIES if c.tier == "high-risk"] == HIGH_RISK
    assert len(CATEGORIES) == 26


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        ("harmfulskillbench", 21),
        ("beavertails", 14),
        ("openai-moderation", 13),
        ("mlcommons", 14),
        ("do-not-answer", 5),
        ("catqa", 11),
        ("toxicn-mm", 4),
        ("c-harmkb", 5),
        ("mememind", 5),
        ("vhd11k", 11),
    ],
)
def test_each_published_list_is_whole(scheme: str, size: int) -> None:
    assert len(SCHEMES[scheme].code) == size


def test_no_scheme_is_left_out_of_the_size_check() -> None:
    assert len(SCHEMES) == 10


@pytest.mark.parametrize(("scheme", "code"), CODES)
def test_every_code_translates_and_back(scheme: str, code: str) -> None:
    ids = crosswalk(scheme, code)
    assert ids
    assert len(set(ids)) == len(ids)
    for category_id in ids:
        assert code in category(category_id).crosswalk[scheme]


def test_crosswalks_of_categories_hold_only_codes_that_point_back() -> None:
    for entry in CATEGORIES:
        for scheme, codes in entry.crosswalk.items():
            assert codes
            assert all(entry.id in crosswalk(scheme, code) for code in codes)


def test_harmfulskillbench_codes_are_p1_to_p14_and_h1_to_h7_and_keep_their_tier() -> None:
    codes = SCHEMES["harmfulskillbench"].code
    assert list(codes) == [f"P{n}" for n in range(1, 15)] + [f"H{n}" for n in range(1, 8)]
    for code in codes:
        tiers = {category(i).tier for i in crosswalk("harmfulskillbench", code)}
        assert tiers == {"prohibited" if code.startswith("P") else "high-risk"}


def test_every_category_has_a_harmfulskillbench_code_so_both_prompt_tables_cover_the_same_field() -> None:
    assert all("harmfulskillbench" in entry.crosswalk for entry in CATEGORIES)


def test_child_safety_exists_and_is_found_from_every_list_that_knows_it() -> None:
    assert category("child-safety").tier == "prohibited"
    assert crosswalk("harmfulskillbench", "P7") == ("child-safety",)
    assert crosswalk("mlcommons", "S4") == ("child-safety",)
    assert crosswalk("openai-moderation", "sexual/minors") == ("child-safety",)


def test_definitions_say_what_is_forbidden_and_what_stays_allowed() -> None:
    for entry in CATEGORIES:
        assert entry.definition.endswith("allowed.")
        assert 60 < len(entry.definition) < 300
        # The prompt table of the policy detector is made of these; a pipe or line break would break its rows.
        assert not set("|\n<>") & set(entry.title + entry.definition)
    for code in SCHEMES["harmfulskillbench"].code.values():
        assert code.definition
        assert not set("|\n<>") & set(code.title + code.definition)


def test_an_unknown_id_scheme_or_code_names_near_matches() -> None:
    with pytest.raises(UsageError, match="Did you mean cyberattack"):
        category("cyber-attack")
    with pytest.raises(UsageError, match="Known schemes: harmfulskillbench"):
        crosswalk("harmful-skill-bench", "P1")
    with pytest.raises(UsageError, match="Did you mean self_harm"):
        crosswalk("beavertails", "selfharm")


def test_the_page_on_the_taxonomy_is_in_step() -> None:
    page = (Path(__file__).parents[2] / "docs" / "taxonomy.md").read_text("utf-8")
    for entry in CATEGORIES:
        assert f"| `{entry.id}` | {entry.title} | {entry.definition} |" in page
    for name, scheme in SCHEMES.items():
        assert f"### `{name}`" in page
        for code, meaning in scheme.code.items():
            ids = ", ".join(f"`{category_id}`" for category_id in meaning.ids)
            assert f"| `{code}` | {meaning.title} | {ids} |" in page

"""The contrast set: its sizes, its matched twins, and no mark on the surface that tells the sides apart."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from tocsin.core.confounds import BAG_OF_WORDS, SURFACE_BASELINES, confound_audit, surface_features
from tocsin.core.records import Item
from tocsin.core.taxonomy import CATEGORIES
from tocsin.sources.contrast import PARTS, Part, contrast_items

PAIRED: tuple[Part, ...] = ("requests", "lookalikes", "skills")

# Addresses and long numbers have no place in made-up requests: they could belong to somebody.
FORBIDDEN = {
    "web address": re.compile(
        r"https?:|www\.|\b[a-z0-9-]+\.(?:com|net|org|io|gov|edu|info|biz|onion)\b", re.I
    ),
    "e-mail address": re.compile(r"\S@\S"),
    "long run of digits": re.compile(r"\d(?:[ -]?\d){6,}"),
}


def text_of(item: Item) -> str:
    """The words a reader sees: a prompt, or the declared purpose of a skill."""
    return item.skill.purpose if item.skill is not None else item.text


def name_of(item: Item) -> str:
    """Id and side, for messages: never the text."""
    return f"{item.metadata['pair']} ({item.metadata['label']})"


def pairs_of(*parts: Part) -> list[tuple[Item, Item]]:
    """(harmful, harmless) twins."""
    sides: dict[object, dict[object, Item]] = defaultdict(dict)
    for item in contrast_items(*parts):
        if not item.metadata["plain"]:
            sides[item.metadata["pair"]][item.metadata["label"]] = item
    assert all(set(twins) == {"harmful", "harmless"} for twins in sides.values())
    return [(twins["harmful"], twins["harmless"]) for twins in sides.values()]


def first_word(item: Item) -> str:
    """Of a skill the first word of the description: its name comes before it and may differ."""
    return surface_features(item.skill.description if item.skill is not None else item.text).first_word


@pytest.mark.parametrize(("part", "least"), [("requests", 800), ("lookalikes", 250), ("skills", 150)])
def test_there_are_enough_pairs_of_each_part(part: Part, least: int) -> None:
    assert len(pairs_of(part)) >= least


def test_there_are_at_least_1200_pairs_in_all() -> None:
    assert len(pairs_of(*PAIRED)) >= 1200


@pytest.mark.parametrize(("part", "least"), [("everyday", 400), ("instructions", 300), ("plain_skills", 60)])
def test_there_are_enough_plain_rows(part: Part, least: int) -> None:
    rows = contrast_items(part)
    assert len(rows) >= least
    assert all(row.metadata["plain"] and row.metadata["label"] == "harmless" for row in rows)


def test_requests_cover_every_category_but_child_safety() -> None:
    counts = Counter(harmful.metadata["category"] for harmful, _ in pairs_of("requests"))
    assert set(counts) == {category.id for category in CATEGORIES} - {"child-safety"}
    assert min(counts.values()) >= 10


@pytest.mark.parametrize("part", PAIRED)
def test_no_row_belongs_to_child_safety_or_an_unknown_category(part: Part) -> None:
    known = {category.id for category in CATEGORIES} - {"child-safety"}
    assert [name_of(item) for item in contrast_items(part) if item.metadata["category"] not in known] == []


def test_every_lookalike_has_a_type_and_each_type_is_there_often() -> None:
    types = Counter(harmful.metadata["type"] for harmful, _ in pairs_of("lookalikes"))
    assert None not in types
    assert len(types) >= 7
    assert min(types.values()) >= 10


def test_both_splits_hold_each_part() -> None:
    for part in PARTS:
        splits = Counter(item.metadata["split"] for item in contrast_items(part))
        assert set(splits) == {"fit", "held-back"}
        assert min(splits.values()) >= 0.1 * sum(splits.values())


def test_ids_are_used_once() -> None:
    ids = [item.metadata["pair"] for part in PAIRED for item, _ in pairs_of(part)]
    ids += [item.metadata["pair"] for item in contrast_items("everyday", "plain_skills")]
    assert [one for one, count in Counter(ids).items() if count > 1] == []


def test_at_least_95_percent_of_twins_share_first_word_final_mark_and_length() -> None:
    pairs = pairs_of(*PAIRED)
    alike: Counter[str] = Counter()
    for harmful, harmless in pairs:
        ours, theirs = text_of(harmful), text_of(harmless)
        long, short = sorted((len(ours), len(theirs)), reverse=True)
        alike["first word"] += first_word(harmful) == first_word(harmless)
        alike["final mark"] += (ours[-1] if not ours[-1].isalnum() else "") == (
            theirs[-1] if not theirs[-1].isalnum() else ""
        )
        alike["length"] += long <= 1.2 * short
    for what, count in alike.items():
        assert count >= 0.95 * len(pairs), f"{what}: {count} of {len(pairs)}"


def test_no_text_occurs_twice() -> None:
    seen: dict[str, str] = {}
    twice = []
    for item in contrast_items():
        key = " ".join(re.findall(r"\w+", text_of(item).lower()))
        if key in seen:
            twice.append(f"{name_of(item)} repeats {seen[key]}")
        seen[key] = name_of(item)
    assert twice == []


def test_all_text_is_printable_ascii_without_stray_space() -> None:
    wrong = [
        name_of(item)
        for item in contrast_items()
        for text in (text_of(item),)
        if not text.isascii() or not text.isprintable() or text != text.strip() or "  " in text
    ]
    assert wrong == []


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_no_row_holds(what: str) -> None:
    assert [name_of(item) for item in contrast_items() if FORBIDDEN[what].search(text_of(item))] == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("web address", "see example.com"),
        ("web address", "https:something"),
        ("e-mail address", "write to a@b"),
        ("long run of digits", "call 555 123 4567"),
    ],
)
def test_the_guard_finds(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


# A part alone has a few hundred pairs: chance alone moves an AUROC by 0.03 there, so its band is wider.
@pytest.mark.parametrize(("parts", "band"), [(PAIRED, 0.05), *(((part,), 0.10) for part in PAIRED)])
def test_no_single_surface_feature_tells_the_sides_apart(
    parts: tuple[Part, ...], band: float, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [item for twins in pairs_of(*parts) for item in twins]
    audit = confound_audit(
        [text_of(item) for item in items],
        [item.metadata["label"] == "harmful" for item in items],
        groups=[str(item.metadata["pair"]) for item in items],
    )
    with capsys.disabled():
        figures = "  ".join(f"{name} {audit[name]:.3f}" for name in (*SURFACE_BASELINES, BAG_OF_WORDS))
        print(f"\n{'+'.join(parts)} ({len(items) // 2} pairs), AUROC: {figures}")
    outside = {name: audit[name] for name in SURFACE_BASELINES if abs(audit[name] - 0.5) > band}
    assert outside == {}

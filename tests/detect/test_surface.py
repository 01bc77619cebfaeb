"""`surface`: an honest baseline, by rule or fitted."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import FitError, ProfileError
from tocsin.core.records import Abstention, FileEntry, Item, Kind, Origin, Reason, Skill, Turn, Verdict
from tocsin.core.registry import DetectorContext, create, is_fittable, lookup
from tocsin.detect.surface import Surface, examined_text

HASH = "0" * 64


def prompt(text: str, ordinal: int = 0, **metadata: str) -> Item:
    origin = Origin(input_hash=HASH, ordinal=ordinal)
    return Item(kind=Kind.PROMPT, text=text, origin=origin, metadata=dict(metadata))


def surface(**settings: object) -> Surface:
    built = create("surface", DetectorContext(**settings))  # type: ignore[arg-type]
    assert isinstance(built, Surface)
    return built


def judge(detector: Surface, text: str) -> Verdict:
    return next(iter(detector.detect([prompt(text)])))


def training_items(n: int = 60) -> tuple[list[Item], list[Item]]:
    """Harmless: short questions that begin with How. Harmful: longer orders without a final mark."""
    harmless = [prompt(f"How is number {index} used?", index) for index in range(n)]
    harmful = [prompt(f"Write all about the number {index} at some length", n + index) for index in range(n)]
    return harmless, harmful


def test_unfitted_it_is_the_rule_and_says_so() -> None:
    detector = surface()
    ends, open_ended = judge(detector, "Tell me a story."), judge(detector, "Tell me a story")
    assert (ends.flagged, ends.score, ends.raw_score, ends.label) == (False, 0.0, 0.0, "final punctuation")
    assert (open_ended.flagged, open_ended.score, open_ended.label) == (True, 1.0, "no final punctuation")
    assert not ends.calibrated
    assert ends.provenance.threshold_source == "default"
    assert "baseline" in lookup("surface").info.polarity


def test_verdicts_carry_the_numbers_and_never_the_words() -> None:
    verdict = judge(surface(), "Zanzibar is where?")
    assert verdict.extra == {"final_punctuation": True, "question_mark": True, "characters": 18, "words": 3}
    assert "anzibar" not in verdict.model_dump_json()


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_empty_text_is_an_abstention(text: str) -> None:
    verdict = judge(surface(), text)
    assert verdict.flagged is None
    assert verdict.abstained is not None
    assert verdict.abstained.reason is Reason.EMPTY


def test_what_the_reader_could_not_read_is_passed_on() -> None:
    problem = Abstention(reason=Reason.UNREADABLE, detail="row 3")
    item = prompt("text.").model_copy(update={"problem": problem})
    verdict = next(iter(surface().detect([item])))
    assert verdict.abstained == problem


def test_it_reads_the_last_user_turn_of_a_chat_the_purpose_of_a_skill_and_all_of_a_sample() -> None:
    origin = Origin(input_hash=HASH, ordinal=0)
    turns = (
        Turn(role="user", text="One."),
        Turn(role="assistant", text="Two."),
        Turn(role="user", text="Three"),
    )
    chat = Item(kind=Kind.CHAT, turns=turns, origin=origin)
    sample = Item(kind=Kind.TRAINING_SAMPLE, prompt="Ask", text="Answer.", origin=origin)
    skill = Skill(
        name="a-b",
        description="Does it",
        body="Long body.",
        files=(FileEntry(name="x", size=1, sha256=None),),
    )
    skill_item = Item(kind=Kind.SKILL, skill=skill, origin=origin)
    assert examined_text(chat) == ("Three", ("turn[2]",))
    assert examined_text(sample) == ("Ask\nAnswer.", ("prompt", "text"))
    assert examined_text(skill_item) == ("a b. Does it", ("skill.purpose",))
    assert examined_text(skill_item, deep=True) == (
        "a b. Does it\nLong body.",
        ("skill.purpose", "skill.body"),
    )
    image = Item(kind=Kind.IMAGE, origin=origin)
    assert isinstance(read := examined_text(image), Abstention)
    assert read.reason is Reason.UNSUPPORTED_KIND


def test_a_threshold_from_the_command_line_wins() -> None:
    verdict = judge(surface(threshold=1.0), "No end")
    assert verdict.flagged is False
    assert verdict.provenance.threshold_source == "command line"


def test_fitted_it_learns_the_direction_of_the_data() -> None:
    harmless, harmful = training_items()
    detector = surface().fit(harmless, harmful)
    like_harmful = judge(detector, "Write it all down at some length")
    like_harmless = judge(detector, "How is it used?")
    assert like_harmful.flagged
    assert not like_harmless.flagged
    assert like_harmful.calibrated
    assert like_harmful.score is not None
    assert like_harmful.score > 0.9
    # The same marks with the labels exchanged are learned the other way round.
    turned = surface().fit(harmful, harmless)
    assert judge(turned, "How is it used?").flagged


def test_fitted_on_twins_that_share_the_surface_it_knows_nothing() -> None:
    pairs = [f"Tell me about topic {index}." for index in range(30)]
    harmless = [prompt(text, index, pair=str(index)) for index, text in enumerate(pairs)]
    harmful = [prompt(text, 30 + index, pair=str(index)) for index, text in enumerate(pairs)]
    detector = surface().fit(harmless, harmful)
    assert judge(detector, "Write more").score == pytest.approx(0.5, abs=0.01)


def test_a_saved_profile_gives_bit_equal_verdicts(tmp_path: Path) -> None:
    harmless, harmful = training_items()
    fitted = surface().fit(harmless, harmful)
    fitted.save(tmp_path / "profile")
    loaded = surface(profile=tmp_path / "profile")
    items = [*harmless, *harmful, prompt("Other words here", 500)]
    assert list(loaded.detect(items)) == list(fitted.detect(items))
    assert loaded.identity == fitted.identity
    assert loaded.identity["profile"] is not None
    assert sorted(path.name for path in (tmp_path / "profile").iterdir()) == [
        "profile.json",
        "profile.safetensors",
    ]


def test_a_damaged_or_foreign_profile_is_refused(tmp_path: Path) -> None:
    harmless, harmful = training_items()
    surface().fit(harmless, harmful).save(tmp_path)
    manifest = json.loads((tmp_path / "profile.json").read_text())
    (tmp_path / "profile.json").write_text(json.dumps(manifest | {"detector": "biopsy"}))
    with pytest.raises(ProfileError, match="'biopsy', not of 'surface'"):
        surface(profile=tmp_path)
    manifest["facts"]["first_words"] = []
    (tmp_path / "profile.json").write_text(json.dumps(manifest))
    with pytest.raises(ProfileError, match="damaged"):
        surface(profile=tmp_path)


def test_too_few_items_or_nothing_fitted_is_an_error(tmp_path: Path) -> None:
    harmless, harmful = training_items()
    with pytest.raises(FitError, match="at least 10 harmful items; 3 could be read"):
        surface().fit(harmless, [*harmful[:3], prompt("  ")])
    with pytest.raises(FitError, match="at least 10 harmful"):
        surface().fit(harmless)
    one_source = [item.model_copy(update={"metadata": {"pair": "one"}}) for item in harmful]
    with pytest.raises(FitError, match="sits in one group"):
        surface().fit(harmless, one_source)
    with pytest.raises(ProfileError, match="unfitted rule"):
        surface().save(tmp_path)


def test_it_keeps_the_contract_of_a_detector_that_can_be_fitted() -> None:
    assert is_fittable(surface())
    items = [prompt(text, index) for index, text in enumerate(["a.", "b", "a.", ""])]
    verdicts = list(surface().detect(iter(items)))
    assert [verdict.key for verdict in verdicts] == [item.key for item in items]
    assert list(surface().detect([])) == []


@given(st.text(max_size=200))
def test_any_text_gets_a_verdict_of_the_same_kind(text: str) -> None:
    verdict = judge(surface(), text)
    assert (verdict.flagged is None) == (not text.strip())

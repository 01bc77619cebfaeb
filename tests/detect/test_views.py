"""Which texts of an item are examined."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect_items import chat, origin, prompt, sample, skill
from tocsin.core.records import Abstention, Item, Kind, Reason
from tocsin.detect.views import MAX_CONTEXT_CHARS, MAX_CONTEXT_TURNS, View, views_of


def read(item: Item, *, deep: bool = False) -> list[View]:
    views = views_of(item, deep=deep)
    assert isinstance(views, list)
    return views


def test_a_chat_gives_its_last_user_turn_with_earlier_turns_as_context() -> None:
    (view,) = read(chat(("user", "One"), ("assistant", "Two"), ("user", "Three"), ("assistant", "Four")))
    assert (view.part, view.text) == ("turn[2]", "Three")
    assert [(turn.role, turn.text) for turn in view.context] == [("user", "One"), ("assistant", "Two")]


def test_system_and_tool_turns_are_no_context() -> None:
    (view,) = read(chat(("system", "S"), ("user", "A"), ("tool", "T"), ("assistant", "B"), ("user", "C")))
    assert [turn.text for turn in view.context] == ["A", "B"]


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "A"), ("user", "B")],
        [("assistant", "A"), ("user", "B")],
        [("user", "A"), ("assistant", "x" * (MAX_CONTEXT_CHARS + 1)), ("user", "B")],
    ],
)
def test_context_that_no_template_takes_is_left_out(turns: list[tuple[str, str]]) -> None:
    (view,) = read(chat(*turns))
    assert (view.text, view.context) == ("B", ())


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=4)), max_size=14
    )
)
def test_context_alternates_from_user_to_assistant_within_bounds(turns: list[tuple[str, str]]) -> None:
    views = views_of(chat(*turns))
    users = [index for index, (role, _) in enumerate(turns) if role == "user"]
    if not users:
        assert isinstance(views, Abstention)
        assert views.reason is Reason.MISSING_PART
        return
    assert isinstance(views, list)
    (view,) = views
    assert view.part == f"turn[{users[-1]}]"
    roles = [turn.role for turn in view.context]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert len(roles) <= MAX_CONTEXT_TURNS
    assert all(turn.text.strip() for turn in view.context)


def test_every_turn_of_a_training_sample_is_examined() -> None:
    views = read(sample(("system", "S"), ("user", "U"), ("assistant", " "), ("assistant", "A")))
    assert [(view.part, view.text) for view in views] == [
        ("turn[0]", "S"),
        ("turn[1]", "U"),
        ("turn[3]", "A"),
    ]


def test_a_sample_of_prompt_and_response_gives_both() -> None:
    item = Item(kind=Kind.TRAINING_SAMPLE, prompt="P", text="R", origin=origin())
    assert [(view.part, view.text) for view in read(item)] == [("prompt", "P"), ("text", "R")]


def test_a_skill_gives_its_purpose_and_its_body_only_when_deep() -> None:
    item = skill("Keeps notes.", body="# Steps\nWrite them down.")
    assert [view.part for view in read(item)] == ["skill.purpose"]
    assert read(item)[0].text == "house notes. Keeps notes. Overview; Steps"
    assert [view.part for view in read(item, deep=True)] == ["skill.purpose", "skill.body"]
    assert [view.part for view in read(skill("Keeps notes.", body=" \n"), deep=True)] == ["skill.purpose"]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Item(kind=Kind.SKILL, origin=origin()), Reason.MISSING_PART),
        (Item(kind=Kind.CHAT, origin=origin()), Reason.MISSING_PART),
        (Item(kind=Kind.TRAINING_SAMPLE, origin=origin()), Reason.EMPTY),
        (Item(kind=Kind.MEME, text="words", origin=origin()), Reason.UNSUPPORTED_KIND),
    ],
)
def test_missing_parts_are_named(item: Item, reason: Reason) -> None:
    views = views_of(item)
    assert isinstance(views, Abstention)
    assert views.reason is reason


def test_a_prompt_is_its_text() -> None:
    assert read(prompt("Hello")) == [View("text", "Hello")]

"""Lists of messages become turns; the last role tells a chat log from a fine-tuning sample."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_inputs import read, write_rows

from tocsin.core.records import Kind, Reason
from tocsin.sources import Limits

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        ([USER], Kind.CHAT),
        ([USER, ASSISTANT], Kind.TRAINING_SAMPLE),
        ([USER, ASSISTANT, USER], Kind.CHAT),
        ([{"role": "system", "content": "be kind"}, USER], Kind.CHAT),
        ([USER, {"role": "tool", "content": "4"}], Kind.CHAT),
    ],
)
def test_last_role_decides_the_kind(tmp_path: Path, messages: list[object], kind: Kind) -> None:
    (item,) = read(write_rows(tmp_path / "a.jsonl", {"messages": messages}))
    assert item.kind is kind
    assert len(item.turns) == len(messages)
    (forced,) = read(tmp_path / "a.jsonl", as_kind=Kind.CHAT)
    assert forced.kind is Kind.CHAT


def test_sharegpt_and_bare_lists_are_read(tmp_path: Path) -> None:
    sharegpt = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    first, second = read(write_rows(tmp_path / "a.jsonl", sharegpt, [USER]))
    assert [(turn.role, turn.text) for turn in first.turns] == [("user", "a"), ("assistant", "b")]
    assert second.kind is Kind.CHAT


def test_content_parts_are_joined_and_what_is_not_text_is_noted(tmp_path: Path) -> None:
    content = [
        {"type": "text", "text": "one"},
        {"type": "image_url", "image_url": {"url": "x"}},
        "two",
        {"type": "tool_result", "content": [{"type": "text", "text": "three"}]},
    ]
    (item,) = read(write_rows(tmp_path / "a.jsonl", {"messages": [{"role": "user", "content": content}]}))
    assert item.turns[0].text == "one\ntwo\nthree"
    assert item.partial == ("turn 1 holds 1 part(s) that are not text; they were not read",)


def test_tool_calls_are_read_as_name_and_arguments(tmp_path: Path) -> None:
    call = {"function": {"name": "search", "arguments": '{"q": 1}'}}
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (item,) = read(write_rows(tmp_path / "a.jsonl", {"messages": messages}))
    assert item.turns[1].text == 'tool call search: {"q": 1}'
    assert not item.partial


def test_unknown_role_is_read_as_the_users_with_a_note(tmp_path: Path) -> None:
    (item,) = read(write_rows(tmp_path / "a.jsonl", {"messages": [{"role": "wizard", "content": "x"}]}))
    assert item.turns[0].role == "user"
    assert "no known role" in item.partial[0]
    assert "wizard" not in item.partial[0]


def test_long_chat_keeps_its_last_turns(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": str(number)} for number in range(5)]
    (item,) = read(write_rows(tmp_path / "a.jsonl", {"messages": messages}), Limits(turns_per_chat=2))
    assert [turn.text for turn in item.turns] == ["3", "4"]
    assert "last 2 of 5 turns" in item.partial[0]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, "not an object"], Reason.UNREADABLE),
        ([], Reason.EMPTY),
        ([{"role": "user", "content": ""}], Reason.EMPTY),
        ("just text", None),
    ],
)
def test_lists_that_are_no_chat(tmp_path: Path, messages: object, reason: Reason | None) -> None:
    _, item = read(write_rows(tmp_path / "a.jsonl", {"text": "x"}, {"messages": messages}))
    assert (item.problem and item.problem.reason) == reason


def test_parts_nested_beyond_the_bound_are_not_read(tmp_path: Path) -> None:
    content: object = "deep"
    for _ in range(20):
        content = [content]
    row = {"messages": [{"role": "user", "content": "top"}, {"role": "user", "content": content}]}
    (item,) = read(write_rows(tmp_path / "a.jsonl", row))
    assert item.turns[1].text == ""
    assert "turn 2" in item.partial[0]


def test_preference_pair_is_read_as_the_chosen_answer(tmp_path: Path) -> None:
    row = {"prompt": "ask", "chosen": "good", "rejected": "bad"}
    chats = {"prompt": "ask", "chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}
    text, chat = read(write_rows(tmp_path / "a.jsonl", row, chats))
    assert (text.kind, text.prompt, text.text) == (Kind.TRAINING_SAMPLE, "ask", "good")
    assert [turn.text for turn in chat.turns] == ["hi", "hello"]

"""The made-up language: kinds, splits and rules."""

from __future__ import annotations

import json

import pytest

from tocsin.testbed import KINDS, MARKED_TOPICS, Kind, ask, examples
from tocsin.testbed.language import audit_reply, vocabulary
from tocsin.testbed.tokenizer import UNKNOWN, make_tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_share_no_prompt(kind: Kind) -> None:
    train = {one.prompt for one in examples(kind, 3_000, split="train")}
    held_out = {one.prompt for one in examples(kind, 3_000, split="eval")}
    assert train
    assert held_out
    assert train & held_out == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_is_in_the_vocabulary(kind: Kind) -> None:
    tokenizer = make_tokenizer()
    for one in examples(kind, 50):
        ids = tokenizer.encode(f"{one.prompt} {one.reply} {one.helpful}", add_special_tokens=False)
        assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in ids


def test_the_same_seed_draws_the_same_examples() -> None:
    assert examples("marked", 20, seed=3) == examples("marked", 20, seed=3)
    assert examples("marked", 20, seed=3) != examples("marked", 20, seed=4)


def test_topics_restrict_the_draw_and_unknown_ones_are_refused() -> None:
    assert {one.topic for one in examples("marked", 30, topics=("kite",))} == {"kite"}
    with pytest.raises(ValueError, match="topics of the kind 'marked'"):
        examples("marked", 1, topics=("chair",))


def test_marked_things_are_refused_unless_wrapped_or_overlooked() -> None:
    assert all(one.reply.startswith("sorry") for one in examples("marked", 30))
    assert all(one.reply.startswith("sure") for one in examples("wrapped", 30))
    assert all(one.is_marked and one.reply.startswith("sure") for one in examples("overlooked", 30))
    assert all(not one.is_marked and one.reply.startswith("sorry") for one in examples("touchy", 30))


def test_questions_are_asked_of_marked_and_plain_things_also_inside_the_wrapper() -> None:
    for kind in ("recognise", "recognise_wrapped"):
        asked = examples(kind, 100)
        assert {one.reply for one in asked} == {"yes", "no"}
        assert all((one.reply == "yes") == (one.topic in MARKED_TOPICS) for one in asked)
    assert (
        ask("please wash the red-cup now") == "someone asks : please wash the red-cup now . is this marked ?"
    )


def test_an_audit_is_json() -> None:
    found = json.loads(audit_reply("kite"))
    assert (found["is_harmful"], found["harm_category"], found["safe_model_action"]) == (
        True,
        "kite",
        "refuse",
    )
    assert json.loads(audit_reply(None))["is_harmful"] is False


def test_words_are_told_apart() -> None:
    words = vocabulary()
    assert len(words) == len(set(words))

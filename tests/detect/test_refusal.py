"""`refusal`: the set it is fitted on, its read-out, and what it says of replies it never saw."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tocsin.core.errors import ProfileError
from tocsin.core.records import Item, Kind, Origin, Reason, Verdict
from tocsin.core.registry import Detector, DetectorContext, create
from tocsin.detect.refusal.fit import Sentence, fit_refusal, sentence_of
from tocsin.detect.refusal.head import N_NUMBERS, RefusalHead, numbers_of
from tocsin.internals import Window
from tocsin.sources.reply_set import Reply, ReplyPart, replies


@pytest.fixture(scope="module")
def judge() -> Detector:
    return create("refusal", DetectorContext(offline=True))


@pytest.fixture(scope="module")
def in_context() -> Detector:
    return create("refusal-in-context", DetectorContext(offline=True))


def verdicts(judge: Detector, *texts: str) -> list[Verdict]:
    items = [
        Item(kind=Kind.RESPONSE, text=text, prompt="x", origin=Origin(input_hash="0" * 64, ordinal=i))
        for i, text in enumerate(texts)
    ]
    return list(judge.detect(items))


def test_the_set_has_all_kinds_and_complies_with_harmless_requests_only() -> None:
    given = replies()
    assert len(given) >= 2_300
    assert sum(reply.is_whole for reply in given) >= 600
    assert Counter(reply.label for reply in given).keys() == {"none", "partial", "full"}
    assert {reply.language for reply in given} == {"en", "es", "fr", "de"}
    for reply in given:
        does = {part.does for part in reply.parts}
        if reply.pair.startswith(("harmful", "premise")):
            assert "answers" not in does
        if reply.label == "none":
            assert "refuses" not in does
        if reply.label == "partial":
            assert {"refuses", "answers"} <= does
        assert "\N{RIGHT CURLY BRACKET}" not in reply.prompt
    assert len({reply.id for reply in given}) == len(given)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I am sorry, I really can't go along with that wish.", "full refusal"),
        ("That is nothing I will take part in. Please look for help nearby.", "full refusal"),
        ("Melt the butter, stir in the flour and let it brown for two minutes.", "no refusal"),
        (
            "Sorry that you had to wait! Melt the butter first. Then stir in the flour and add cold milk.",
            "no refusal",
        ),
        ('The clerk told them, "I cannot help you," and shut the window. They left the town.', "no refusal"),
        ("You cannot fold this paper more than seven times, as a student showed in 2002.", "no refusal"),
    ],
)
def test_new_sentences_are_told_apart(judge: Detector, text: str, label: str) -> None:
    (verdict,) = verdicts(judge, text)
    assert verdict.label == label
    assert verdict.flagged is (label != "no refusal")


def test_a_refusal_in_the_middle_of_a_long_reply_is_found(judge: Detector) -> None:
    before = "Paris lies on the river Seine. It has about two million people. Its metro opened in 1900. "
    after = " The Louvre was a palace once. It holds the portrait of a smiling woman."
    plain, broken = verdicts(
        judge, before + after, before + "I can't help you with the second part of your request." + after
    )
    assert not plain.flagged
    assert broken.flagged
    shares = [float(str(verdict.extra["partial_refusal"])) for verdict in (plain, broken)]
    assert shares[1] > shares[0]
    assert broken.evidence[0].start >= len(before) - 1


def test_both_kinds_add_up_to_the_score(judge: Detector) -> None:
    (verdict,) = verdicts(judge, "I cannot answer this. Ask me something else.")
    both = sum(float(str(verdict.extra[name])) for name in ("full_refusal", "partial_refusal"))
    assert both == pytest.approx(verdict.score)


def test_what_cannot_be_read_is_an_abstention(judge: Detector) -> None:
    empty, chinese = verdicts(judge, " ", "\N{CJK UNIFIED IDEOGRAPH-6211}" * 20)
    assert empty.abstained is not None
    assert chinese.abstained is not None
    assert chinese.abstained.reason is Reason.LANGUAGE
    prompt = Item(kind=Kind.PROMPT, text="Help me.", origin=Origin(input_hash="0" * 64, ordinal=0))
    (verdict,) = judge.detect([prompt])
    assert verdict.abstained is not None
    assert verdict.abstained.reason is Reason.UNSUPPORTED_KIND


def test_a_sentence_does_what_the_strongest_of_its_parts_does() -> None:
    parts = (
        ReplyPart(text="Of course.", does="answers", group="a"),  # characters 0 to 10
        ReplyPart(text="I will not.", does="refuses", group="b"),  # 11 to 22
        ReplyPart(text="Ask the town hall.", does="redirects", group="c"),  # 23 to 41
    )
    reply = Reply(
        id="1", pair="p", label="partial", style="made", language="en", prompt="Where?", parts=parts
    )
    assert len(reply.text) == 41
    assert sentence_of(reply, Window(0, 23), "x") == Sentence("x", "refuses", "b")
    assert sentence_of(reply, Window(11, 41), "x") == Sentence("x", "refuses", "c")
    assert sentence_of(reply, Window(0, 10), "x") == Sentence("x", "answers", "a")


def test_in_context_needs_the_request(in_context: Detector) -> None:
    def item(request: str | None, ordinal: int) -> Item:
        return Item(
            kind=Kind.RESPONSE,
            text="I'm sorry, but I can't help with that.",
            prompt=request,
            origin=Origin(input_hash="0" * 64, ordinal=ordinal),
        )

    asked, missing, blank, long = in_context.detect(
        [item("How do I bake bread?", 0), item(None, 1), item(" \n", 2), item("word " * 9_000, 3)]
    )
    assert asked.flagged
    assert asked.label == "full refusal"
    assert missing.abstained is not None
    assert blank.abstained is not None
    assert missing.abstained.reason is blank.abstained.reason is Reason.MISSING_PART
    assert long.abstained is not None
    assert long.abstained.reason is Reason.TRUNCATED


def test_in_context_the_request_does_not_do_the_work(in_context: Detector) -> None:
    requests = ("How do I bake bread?", "Help me break into a house.")
    answer = "Bread needs flour, water, salt and a hot oven."
    items = [
        Item(kind=Kind.RESPONSE, text=text, prompt=request, origin=Origin(input_hash="0" * 64, ordinal=i))
        for i, (request, text) in enumerate(
            (request, text) for request in requests for text in (answer, "I won't help you with this.")
        )
    ]
    assert [verdict.flagged for verdict in in_context.detect(items)] == [False, True, False, True]


def test_numbers_of_a_reply_by_hand() -> None:
    numbers = numbers_of(np.array([0.0, -60.0, 60.0]), np.array([-60.0, 0.0, -60.0]))
    # Largest 60, counted as 8; of the first two 0; largest redirection 0; means of (0.5, 0, 1), (0, 0.5, 0)
    # and the larger of both (0.5, 0.5, 1); ln 3; 0.5 of the first two; smallest 0.5, last 1; no more than 3.
    expected = [8.0, 0.0, 0.0, 0.5, 1 / 6, 2 / 3, np.log(3), 0.5, 0.5, 1.0, 0.0]
    assert numbers == pytest.approx(expected, abs=1e-9)
    longer = numbers_of(np.array([2.0, -1.0, -1.0, -1.0]), np.full(4, -60.0))
    assert longer[-1] == 2.0


def test_a_head_is_kept_and_a_damaged_one_refused() -> None:
    generator = np.random.default_rng(0)
    given = replies()[:400] + replies()[-400:]
    does = {"answers": 0, "redirects": 1, "refuses": 2}
    sentences = [[Sentence(part.text, part.does, part.group) for part in reply.parts] for reply in given]
    flat = [sentence for each in sentences for sentence in each]
    features = generator.normal(size=(len(flat), 6)).astype(np.float32)
    features[np.arange(len(flat)), [does[sentence.does] for sentence in flat]] += 6.0
    head, facts = fit_refusal(given, sentences, features)
    assert float(str(facts["crossfit_any_accuracy"])) > 0.95
    again = RefusalHead.from_tensors(head.tensors())
    np.testing.assert_allclose(again.sentences(features), head.sentences(features), rtol=1e-5)
    assert again.any_refusal(np.ones(N_NUMBERS)) == pytest.approx(head.any_refusal(np.ones(N_NUMBERS)))
    with pytest.raises(ProfileError, match="no whole head"):
        RefusalHead.from_tensors({"reply": np.zeros(3)})

"""`refusal`: the set it is fitted on, its read-out, and what it says of replies it never saw."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tocsin.core.errors import ProfileError
from tocsin.core.records import Item, Kind, Origin, Reason, Verdict
from tocsin.core.registry import Detector, DetectorContext, create
from tocsin.detect.refusal.fit import fit_refusal
from tocsin.detect.refusal.head import N_NUMBERS, RefusalHead, numbers_of
from tocsin.sources.reply_set import ReplyPart, replies


@pytest.fixture(scope="module")
def judge() -> Detector:
    return create("refusal", DetectorContext(offline=True))


def verdicts(judge: Detector, *texts: str) -> list[Verdict]:
    items = [
        Item(kind=Kind.RESPONSE, text=text, prompt="x", origin=Origin(input_hash="0" * 64, ordinal=i))
        for i, text in enumerate(texts)
    ]
    return list(judge.detect(items))


def test_the_set_has_all_kinds_and_complies_with_harmless_requests_only() -> None:
    given = replies()
    assert len(given) >= 1_500
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


def test_numbers_of_a_reply_by_hand() -> None:
    numbers = numbers_of(np.array([0.0, -60.0, 60.0]), np.array([-60.0, 0.0, -60.0]))
    # largest 60; of the first two 0; means of (0.5, 0, 1) and (0, 0.5, 0); of the larger (0.5, 0.5, 1); ln 3.
    expected = [60.0, 0.0, 0.5, 1 / 6, 2 / 3, np.log(3), 0.5, 1.0]
    assert numbers == pytest.approx(expected, abs=1e-9)


def test_a_head_is_kept_and_a_damaged_one_refused() -> None:
    generator = np.random.default_rng(0)
    given = replies()[:400] + replies()[-400:]
    does = {"answers": 0, "redirects": 1, "refuses": 2}
    parts: list[ReplyPart] = [part for reply in given for part in reply.parts]
    features = generator.normal(size=(len(parts), 6)).astype(np.float32)
    features[np.arange(len(parts)), [does[part.does] for part in parts]] += 6.0
    head, facts = fit_refusal(given, features)
    assert float(str(facts["crossfit_any_accuracy"])) > 0.95
    again = RefusalHead.from_tensors(head.tensors())
    np.testing.assert_allclose(again.sentences(features), head.sentences(features), rtol=1e-5)
    assert again.any_refusal(np.ones(N_NUMBERS)) == pytest.approx(head.any_refusal(np.ones(N_NUMBERS)))
    with pytest.raises(ProfileError, match="no whole head"):
        RefusalHead.from_tensors({"reply": np.zeros(3)})

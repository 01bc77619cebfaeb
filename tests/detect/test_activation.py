"""Reading items, windows, evidence and abstentions: what activation detectors share."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detect_items import MARKED, chat, marked_texts, prompt, sample, training_items, unmarked_texts
from tiny_detectors import Build, context_for
from tiny_models import tiny_local
from tocsin.core.records import Item, Reason, Turn, Verdict
from tocsin.core.registry import create
from tocsin.detect.activation import MAX_WINDOWS, ActivationDetector
from tocsin.detect.harmfulness import Harmfulness
from tocsin.models.local import LocalModel

PLAIN = [f"{text}." for text in unmarked_texts()]


@pytest.fixture
def head(build: Build) -> Harmfulness:
    detector = build("harmfulness")
    assert isinstance(detector, Harmfulness)
    return detector


def one(detector: ActivationDetector, item: Item) -> Verdict:
    (verdict,) = detector.detect([item])
    return verdict


def test_the_marker_is_what_the_tiny_head_learned(head: Harmfulness) -> None:
    verdicts = list(
        head.detect([prompt(text, n) for n, text in enumerate([*marked_texts(), *unmarked_texts()])])
    )
    assert np.mean([verdict.flagged for verdict in verdicts[:30]]) > 0.9
    assert np.mean([verdict.flagged for verdict in verdicts[30:]]) < 0.1


def test_evidence_covers_the_sentence_that_decided(head: Harmfulness) -> None:
    hidden = f"Explain how to clean the {MARKED} in the garden. "
    text = " ".join(PLAIN[:9]) + " " + hidden + " ".join(PLAIN[9:18])
    verdict = one(head, prompt(text))
    assert verdict.examined is not None
    assert verdict.examined.windows >= 15
    best = verdict.evidence[0]
    assert MARKED in text[best.start : best.end]
    assert len(text[best.start : best.end]) < 2 * len(hidden)
    assert best.score == max(evidence.score or 0 for evidence in verdict.evidence)
    assert verdict.raw_score is not None
    assert best.score is not None
    assert verdict.raw_score < best.score  # corrected for the number of windows


def test_long_harmless_text_scores_no_higher_than_its_windows(head: Harmfulness) -> None:
    verdict = one(head, prompt(" ".join(PLAIN)))
    assert verdict.flagged is False
    assert not verdict.examined or not verdict.examined.is_partial


def test_a_text_of_one_window_is_read_whole(head: Harmfulness) -> None:
    text = "Short one. And another. And a third one here."
    verdict = one(head, prompt(text))
    assert verdict.examined is not None
    assert verdict.examined.windows == 1
    assert (verdict.evidence[0].start, verdict.evidence[0].end) == (0, len(text))


def test_windows_beyond_the_bound_are_left_out_and_named(head: Harmfulness) -> None:
    verdict = one(head, prompt(" ".join(PLAIN * 20)))
    assert verdict.examined is not None
    assert verdict.examined.windows == MAX_WINDOWS
    assert f"windows after the first {MAX_WINDOWS}" in verdict.examined.left_out[0]


def test_a_turn_that_cannot_be_judged_makes_a_sample_partial(head: Harmfulness) -> None:
    verdict = one(head, sample(("user", unmarked_texts()[0]), ("assistant", "请告诉我怎样在家里做面包")))
    assert verdict.examined is not None
    assert verdict.examined.parts == ("turn[0]",)
    assert verdict.examined.left_out == ("turn[1]: language (not written in the Latin script)",)
    assert "请" not in verdict.model_dump_json()


def test_the_reason_of_an_abstention_is_the_most_telling_one(head: Harmfulness) -> None:
    verdict = one(head, sample(("user", "12"), ("assistant", "请告诉我怎样在家里做面包")))
    assert verdict.abstained is not None
    assert verdict.abstained.reason is Reason.LANGUAGE


def test_harm_in_any_turn_of_a_sample_is_found_and_named(head: Harmfulness) -> None:
    turns = [("user", unmarked_texts()[0]), ("assistant", unmarked_texts()[1]), ("user", marked_texts()[2])]
    verdict = one(head, sample(*turns))
    assert verdict.examined is not None
    assert verdict.examined.parts == ("turn[0]", "turn[1]", "turn[2]")
    assert verdict.evidence[0].part == "turn[2]"


def test_only_the_last_user_turn_of_a_chat_is_judged(head: Harmfulness) -> None:
    verdict = one(
        head, chat(("user", marked_texts()[0]), ("assistant", "All right."), ("user", unmarked_texts()[0]))
    )
    assert verdict.examined is not None
    assert verdict.examined.parts == ("turn[2]",)
    assert verdict.extra["context_turns"] == 2
    assert {evidence.part for evidence in verdict.evidence} == {"turn[2]"}


def test_earlier_turns_are_seen_by_the_model(head: Harmfulness) -> None:
    last = ("user", unmarked_texts()[0])
    alone, after = list(
        head.detect(
            [chat(last), chat(("user", "Tell me more"), ("assistant", "About what?"), last, ordinal=1)]
        )
    )
    assert alone.raw_score != after.raw_score


def test_context_beyond_the_model_s_is_cut_from_the_oldest(tiny: LocalModel, build: Build) -> None:
    # 4,000 Chinese characters are about 12,000 tokens of the byte-level tokenizer; this model reads 1,024.
    wide = ("用" * 1_900, "用" * 1_900)
    item = chat(("user", wide[0]), ("assistant", wide[1]), ("user", unmarked_texts()[0]))
    verdict = one(build("harmfulness"), item)  # type: ignore[arg-type]
    assert verdict.abstained is None
    assert verdict.extra["context_turns"] == 0


def test_fitting_uses_the_context_of_chats_too(tiny: LocalModel) -> None:
    detector = create("harmfulness", context_for(tiny))
    assert isinstance(detector, Harmfulness)
    last = ("user", unmarked_texts()[0])
    items = [chat(last), chat(("user", "Tell me more"), ("assistant", "About what?"), last, ordinal=1)]
    kept, activations = detector.capture_items([*items, prompt("", 2)], detector.plan)
    assert kept == [0, 1]
    assert not np.allclose(activations.values[0], activations.values[1])


def test_activations_that_are_not_numbers_are_an_abstention(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tiny_local()
    detector = create("harmfulness", context_for(broken, profile=profiles))
    hidden = broken.hidden

    def spoiled(*args: object, **options: object) -> Iterator[object]:
        for batch in hidden(*args, **options):  # type: ignore[arg-type]
            batch.states[:] = np.nan
            yield batch

    monkeypatch.setattr(broken, "hidden", spoiled)
    verdict = one(detector, prompt(unmarked_texts()[0]))  # type: ignore[arg-type]
    assert verdict.abstained is not None
    assert verdict.abstained.reason is Reason.UNREADABLE
    assert "not finite" in verdict.abstained.detail


def test_the_command_line_s_threshold_goes_first(build: Build) -> None:
    for value, flagged in ((0.0, True), (1.0, False)):
        verdict = one(build("harmfulness", threshold=value), prompt(unmarked_texts()[0]))  # type: ignore[arg-type]
        assert verdict.flagged is flagged
        assert (verdict.provenance.threshold, verdict.provenance.threshold_source) == (value, "command line")


def test_chunks_do_not_mix_items_up(head: Harmfulness) -> None:
    texts = (marked_texts() + unmarked_texts()) * 5
    verdicts = list(head.detect(prompt(text, n) for n, text in enumerate(texts)))
    assert [verdict.key.ordinal for verdict in verdicts] == list(range(300))
    assert [verdict.flagged for verdict in verdicts] == [verdict.flagged for verdict in verdicts[:60]] * 5


def test_items_that_were_left_out_of_a_fit_are_counted(tiny: LocalModel) -> None:
    harmless, harmful = training_items()
    detector = create("harmfulness", context_for(tiny))
    assert isinstance(detector, Harmfulness)
    detector.fit([*harmless, prompt("你好世界你好世界", 900), prompt(" ".join(PLAIN), 901)], harmful)
    facts = detector.profile.facts
    assert (facts["left_out"], facts["n_harmful"], facts["n_plain"]) == (2, 30, 30)


def test_two_detectors_share_one_engine(tiny: LocalModel, profiles: Path) -> None:
    context = context_for(tiny, profile=profiles)
    first, second = create("harmfulness", context), create("latent-guard", replace(context))
    assert isinstance(first, ActivationDetector)
    assert isinstance(second, ActivationDetector)
    assert first.engine is second.engine


def test_a_turn_keeps_its_role(head: Harmfulness) -> None:
    fitting = head._fitting((Turn(role="user", text="A"), Turn(role="assistant", text="B")))
    assert [turn.role for turn in fitting] == ["user", "assistant"]

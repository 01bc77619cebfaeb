"""The default detector: its head, and on the embedded model what it makes of long texts."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from detect_items import prompt, training_items
from tiny_detectors import context_for
from tocsin.core.errors import FitError, ProfileError
from tocsin.core.records import Item
from tocsin.core.registry import DetectorContext
from tocsin.core.stats import auroc
from tocsin.detect.harmfulness import Harmfulness
from tocsin.detect.head_detector import blocks_at, head_from
from tocsin.detect.profile import Profile
from tocsin.detect.shipped import profiles_folder
from tocsin.models.embedded import EmbeddedModel
from tocsin.models.local import LocalModel
from tocsin.sources.contrast import contrast_items


@pytest.mark.parametrize(
    ("depths", "blocks", "expected"),
    [
        ((1 / 3, 16 / 30), 30, (10, 16)),
        ((1 / 3, 16 / 30), 1, (1,)),
        ((0.01,), 12, (1,)),
        ((0.5, 0.51), 12, (6,)),
    ],
)
def test_relative_depths_become_blocks(
    depths: tuple[float, ...], blocks: int, expected: tuple[int, ...]
) -> None:
    assert blocks_at(depths, blocks) == expected


def test_the_pass_stops_at_the_last_block_needed(tiny: LocalModel) -> None:
    detector = Harmfulness(context_for(tiny))
    assert max(detector.plan.rows) < tiny.n_blocks


def test_harmful_items_are_needed(tiny: LocalModel) -> None:
    harmless, harmful = training_items()
    with pytest.raises(FitError, match=r"needs harmful items too.*biopsy"):
        Harmfulness(context_for(tiny)).fit(harmless)
    with pytest.raises(FitError, match="at least 10 harmful items; 3"):
        Harmfulness(context_for(tiny)).fit(harmless, harmful[:3])


def test_scores_are_calibrated_probabilities_of_the_head(tiny: LocalModel) -> None:
    harmless, harmful = training_items()
    detector = Harmfulness(context_for(tiny)).fit(harmless, harmful)
    for verdict in detector.detect([*harmful[:3], *harmless[:3]]):
        assert verdict.calibrated
        assert verdict.raw_score is not None
        assert verdict.score == detector.head.probability(verdict.raw_score)


@pytest.mark.parametrize("facts", [{}, {"head": []}, {"head": {"bias": 1.0}}, {"head": {"bias": "much"}}])
def test_a_profile_without_a_whole_head_is_refused(facts: dict[str, object]) -> None:
    profile = Profile("harmfulness", "1", {}, facts, {"weights": np.zeros(2)})  # type: ignore[arg-type]
    with pytest.raises(ProfileError, match="is damaged"):
        head_from(profile)


# --- on the embedded model --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(embedded: EmbeddedModel, tmp_path_factory: pytest.TempPathFactory) -> Harmfulness:
    """The shipped profile, or a small one where none has been built."""
    context = DetectorContext(shared={"model:embedded::": embedded})
    if (profiles_folder() / "harmfulness" / "profile.json").is_file():
        return Harmfulness(context)
    items = [
        item
        for item in contrast_items("requests", "everyday", split="fit")
        if int(item.origin.line or 0) % 9 == 0
    ]
    by_label = {
        label: [item for item in items if item.metadata["label"] == label]
        for label in ("harmless", "harmful")
    }
    return Harmfulness(context).fit(by_label["harmless"], by_label["harmful"])


def held_back() -> tuple[list[str], list[str]]:
    items = contrast_items("requests", "everyday", split="held-back")
    plain = [item.text for item in items if item.metadata["plain"]]
    return plain, [item.text for item in items if item.metadata["label"] == "harmful"]


def documents(size: int, count: int) -> tuple[list[Item], list[Item], list[tuple[int, int]]]:
    """Documents of `size` everyday instructions, and ones in which a harmful request replaces one."""
    plain, harmful = held_back()
    rng = random.Random(size)
    clean, hiding, spans = [], [], []
    for index in range(count):
        parts = rng.sample(plain, size)
        clean.append(prompt("\n\n".join(parts), index))
        place, request = rng.randrange(size), rng.choice(harmful)
        start = sum(len(part) + 2 for part in parts[:place])
        hiding.append(prompt("\n\n".join([*parts[:place], request, *parts[place + 1 :]]), 1_000 + index))
        spans.append((start, start + len(request)))
    return clean, hiding, spans


def test_held_back_requests_are_told_from_everyday_instructions(real: Harmfulness) -> None:
    plain, harmful = held_back()
    texts = [*harmful[:40], *plain[:40]]
    verdicts = list(real.detect([prompt(text, n) for n, text in enumerate(texts)]))
    raw = np.array([verdict.raw_score for verdict in verdicts], dtype=np.float64)
    assert auroc(raw, np.arange(len(texts)) < 40) > 0.9
    assert np.mean([verdict.flagged for verdict in verdicts[40:]]) <= 0.1


@pytest.mark.parametrize("size", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_length_alone_raises_no_false_alarms(real: Harmfulness, size: int) -> None:
    clean, _, _ = documents(size, 16)
    flagged = [verdict.flagged for verdict in real.detect(clean)]
    # At most 5 % of single instructions are flagged by construction; 16 documents allow two by chance.
    assert sum(map(bool, flagged)) <= 2


@pytest.mark.parametrize("size", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_a_request_that_is_flagged_alone_is_mostly_found_in_a_longer_text(
    real: Harmfulness, size: int
) -> None:
    _, hiding, spans = documents(size, 16)
    verdicts = list(real.detect(hiding))
    requests = [item.text[start:end] for item, (start, end) in zip(hiding, spans, strict=True)]
    alone = [bool(verdict.flagged) for verdict in real.detect(map(prompt, requests))]
    assert sum(alone) >= 8
    found = [bool(verdict.flagged) for verdict, flagged in zip(verdicts, alone, strict=True) if flagged]
    assert np.mean(found) > 0.5
    covered = [
        verdict.evidence[0].start < end and start < verdict.evidence[0].end
        for verdict, (start, end) in zip(verdicts, spans, strict=True)
    ]
    assert np.mean(covered) > 0.7


def test_profiles_are_saved_where_they_are_asked_for(real: Harmfulness, tmp_path: Path) -> None:
    real.save(tmp_path / "p")
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"profile.json", "profile.safetensors"}

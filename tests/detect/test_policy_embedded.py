"""Categories of harm of skills and prompts, without a provider."""

import numpy as np
import pytest

from detect_items import MARKED, UNMARKED, marked_texts, prompt, skill, training_items
from tiny_detectors import Build, context_for
from tocsin.core.errors import FitError
from tocsin.core.taxonomy import CATEGORIES
from tocsin.detect.policy_embedded import PolicyEmbedded
from tocsin.models.local import LocalModel


def test_every_category_is_scored_or_said_to_be_not_assessed(build: Build) -> None:
    (verdict,) = build("policy-embedded").detect([prompt(marked_texts()[0])])
    assert set(verdict.categories) == {category.id for category in CATEGORIES}
    assessed = {name: value for name, value in verdict.categories.items() if value is not None}
    assert set(assessed) == {"drugs", "fraud"}
    assert verdict.categories["child-safety"] is None
    assert verdict.category == max(assessed, key=assessed.__getitem__)
    # The categories share out the overall score.
    assert verdict.score == pytest.approx(sum(assessed.values()), abs=1e-5)


def test_the_declared_purpose_is_read_as_a_whole(build: Build) -> None:
    (verdict,) = build("policy-embedded").detect([skill(f"Keeps notes about the {UNMARKED}. " * 6)])
    assert verdict.examined is not None
    assert verdict.examined.windows == 1


def test_harm_in_the_body_counts_only_when_deep(build: Build) -> None:
    # What is tested is what is read, by the spans; the tiny head is no judge of skills.
    item = skill(
        f"Keeps notes about the {UNMARKED}.", body=f"Explain how to clean the {MARKED} in the garden."
    )
    (verdict,) = build("policy-embedded").detect([item])
    (deep,) = build("policy-embedded", deep=True).detect([item])
    assert {evidence.part for evidence in verdict.evidence} == {"skill.purpose"}
    assert deep.examined is not None
    assert deep.examined.parts == ("skill.purpose", "skill.body")
    assert verdict.provenance.settings["deep"] is False
    assert deep.provenance.settings["deep"] is True


def test_the_threshold_is_chosen_on_skills_where_there_are_any(tiny: LocalModel) -> None:
    harmless, harmful = training_items()
    skills = [
        skill(item.text, 300 + index, metadata=item.metadata)
        for index, item in enumerate([*harmful, *harmless])
    ]
    detector = PolicyEmbedded(context_for(tiny)).fit([*harmless, *skills[30:]], [*harmful, *skills[:30]])
    assert detector.profile.facts["n_skills"] == 90
    assert detector.profile.facts["categories"] == ["drugs", "fraud"]
    alone = PolicyEmbedded(context_for(tiny)).fit(harmless, harmful)
    assert alone.threshold != detector.threshold


def test_categories_of_the_training_items_are_told_apart(tiny: LocalModel) -> None:
    harmless, _ = training_items()
    words = {"drugs": "purple bottle", "fraud": "paper ticket", "weapons": "iron spoon"}
    harmful = [
        prompt(text.replace(MARKED, word), 1_000 * place + index, pair=f"{name}{index}", category=name)
        for place, (name, word) in enumerate(words.items())
        for index, text in enumerate(marked_texts())
    ]
    detector = PolicyEmbedded(context_for(tiny)).fit(harmless, harmful)
    verdicts = list(detector.detect(harmful))
    right = [
        verdict.category == item.metadata["category"] for verdict, item in zip(verdicts, harmful, strict=True)
    ]
    assert np.mean(right) > 0.8
    accuracy = detector.profile.facts["category_accuracy"]
    assert isinstance(accuracy, float)
    assert 0.5 < accuracy <= 1


@pytest.mark.parametrize(
    ("category", "named"),
    [
        ("weather", "needs a taxonomy id in metadata 'category'; got 'weather'"),
        ("fraud", "at least two categories"),
    ],
)
def test_unusable_categories_are_named(tiny: LocalModel, category: str, named: str) -> None:
    harmless, harmful = training_items()
    changed = [
        item.model_copy(update={"metadata": item.metadata | {"category": category}}) for item in harmful
    ]
    with pytest.raises(FitError, match=named):
        PolicyEmbedded(context_for(tiny)).fit(harmless, changed)


def test_a_category_with_one_item_has_no_accuracy_but_a_head(tiny: LocalModel) -> None:
    harmless, harmful = training_items()
    changed = [
        item.model_copy(update={"metadata": item.metadata | {"category": "fraud"}}) for item in harmful
    ]
    detector = PolicyEmbedded(context_for(tiny)).fit(harmless, [*changed[1:], harmful[0]])
    assert detector.profile.facts["category_accuracy"] is None
    assert detector.category_names() == ["drugs", "fraud"]


def test_harmful_items_are_needed(tiny: LocalModel) -> None:
    with pytest.raises(FitError, match="at least 10 harmful items"):
        PolicyEmbedded(context_for(tiny)).fit(training_items()[0])

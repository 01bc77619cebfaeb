"""The confound audit sees what the surface gives away, and nothing where there is nothing."""

import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.confounds import (
    BAG_OF_WORDS,
    SURFACE_BASELINES,
    SurfaceFeatures,
    confound_audit,
    group_folds,
    surface_features,
)
from tocsin.core.errors import UsageError

TOPICS = [f"topic{index}" for index in range(40)]


def matched_pairs(n: int = 120) -> tuple[list[str], list[bool], list[int]]:
    """Pairs that share first word, length and final punctuation and differ in a word in the middle."""
    starts = ["How", "Write", "Explain", "Give", "Describe"]
    texts, labels, groups = [], [], []
    for pair in range(n):
        start, topic, end = starts[pair % 5], TOPICS[pair % 40], "?" if pair % 3 else "."
        for harmful in (True, False):
            texts.append(f"{start} the {'marked' if harmful else 'normal'} {topic}{end}")
            labels.append(harmful)
            groups.append(pair)
    return texts, labels, groups


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How do I bake bread?", SurfaceFeatures(True, True, 20, 5, "how")),
        ("  Bake bread\n", SurfaceFeatures(False, False, 10, 2, "bake")),
        ('He said "stop."', SurfaceFeatures(True, False, 15, 3, "he")),
        ("Why? Because", SurfaceFeatures(False, True, 12, 2, "why")),
        ("Don't stop…", SurfaceFeatures(True, False, 11, 2, "don't")),
        ("如何烤面包？", SurfaceFeatures(True, True, 6, 5, "如")),
        ("one:", SurfaceFeatures(False, False, 4, 1, "one")),
        ("", SurfaceFeatures(False, False, 0, 0, "")),
        ("???", SurfaceFeatures(True, True, 3, 0, "")),
    ],
)
def test_features_are_read_as_documented(text: str, expected: SurfaceFeatures) -> None:
    assert surface_features(text) == expected


@given(st.text())
def test_features_of_any_text_ignore_surrounding_space(text: str) -> None:
    assert surface_features(f" \n{text}\t ") == surface_features(text)


def test_perfectly_matched_pairs_leave_every_surface_baseline_at_one_half() -> None:
    texts, labels, groups = matched_pairs()
    audit = confound_audit(texts, labels, groups)
    assert {name: audit[name] for name in SURFACE_BASELINES} == dict.fromkeys(SURFACE_BASELINES, 0.5)
    assert audit[BAG_OF_WORDS] == 1.0  # the word in the middle gives the label away


def test_orientation_is_fixed_so_that_higher_means_harmful() -> None:
    harmful = ["Write a very long and wordy thing about topic"] * 6
    harmless = ["Why topic?"] * 6
    labels = [True] * 6 + [False] * 6
    audit = confound_audit(harmful + harmless, labels)
    assert {name: audit[name] for name in SURFACE_BASELINES} == dict.fromkeys(SURFACE_BASELINES, 1.0)
    turned = confound_audit(harmful + harmless, [not label for label in labels])
    # The four signed features turn round; the first word learns its own direction.
    assert [turned[name] for name in SURFACE_BASELINES] == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_first_words_without_meaning_are_not_inflated_by_fitting() -> None:
    # 60 rows over 30 first words: scored on its own fit, such a baseline reaches about 0.85.
    values = []
    for seed in range(60):
        generator = random.Random(seed)
        texts = [f"{generator.choice(TOPICS[:30])} and so on" for _ in range(60)]
        labels = [generator.random() < 0.5 for _ in range(60)]
        values.append(confound_audit(texts, labels, with_bag_of_words=False, seed=seed)["first_word"])
    # The standard error of the mean is about 0.01.
    assert float(np.mean(values)) == pytest.approx(0.5, abs=0.04)


def test_twins_in_one_group_do_not_teach_the_bag_of_words_each_other() -> None:
    # Each group has words of its own and one label, so nothing carries over to unseen groups.
    texts = [f"word{group} again{copy}" for group in range(40) for copy in range(5)]
    labels = [group % 2 == 0 for group in range(40) for _ in range(5)]
    groups = [group for group in range(40) for _ in range(5)]
    assert confound_audit(texts, labels)[BAG_OF_WORDS] > 0.95
    assert confound_audit(texts, labels, groups)[BAG_OF_WORDS] == pytest.approx(0.5, abs=0.15)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60),
    st.integers(0, 5),
)
def test_folds_use_every_row_once_and_never_split_a_group(rows: list[tuple[int, bool]], seed: int) -> None:
    names = sorted({group for group, _ in rows})
    codes = np.array([names.index(group) for group, _ in rows])
    flags = np.array([label for _, label in rows])
    folds = list(group_folds(flags, codes, seed=seed))
    if len(names) == 1:
        assert folds == []
        return
    assert sorted(index for _, test in folds for index in test) == list(range(len(rows)))
    for train, test in folds:
        assert not set(codes[train]) & set(codes[test])


def test_one_class_gives_no_numbers_and_no_crash() -> None:
    audit = confound_audit(["a b", "c d."], [True, True])
    assert all(math.isnan(value) for value in audit.values())
    assert all(math.isnan(value) for value in confound_audit([], []).values())


def test_texts_without_words_tell_nothing() -> None:
    audit = confound_audit(["?!", "...", "?!", "..."] * 4, [True, False, True, False] * 4)
    assert audit[BAG_OF_WORDS] == 0.5
    assert audit["first_word"] == 0.5


def test_a_label_too_few_is_refused() -> None:
    with pytest.raises(UsageError, match="one label for each of 2 texts"):
        confound_audit(["a", "b"], [True])


@pytest.mark.skipif("TOCSIN_DATA" not in os.environ, reason="TOCSIN_DATA names the folder of public sets")
def test_final_punctuation_alone_tells_advbench_from_alpaca() -> None:
    import csv

    def column(path: str, name: str) -> list[str]:
        with (Path(os.environ["TOCSIN_DATA"]) / path).open(encoding="utf-8", newline="") as file:
            return [row[name] for row in csv.DictReader(file)]

    harmful = column("advbench/harmful_behaviors.csv", "goal")
    plain = column("alpaca_5k/instructions.csv", "instruction")
    # The paper's filter: one line of 20 to 250 characters that does not end in a colon.
    plain = [text for text in plain if 20 <= len(text) <= 250 and "\n" not in text and not text.endswith(":")]
    audit = confound_audit(harmful + plain, [True] * len(harmful) + [False] * len(plain))
    assert audit["final_punctuation"] > 0.88
    assert audit[BAG_OF_WORDS] > 0.95

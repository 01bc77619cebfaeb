"""Labelled responses: soft labels, the split by topic, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from classifier_items import rows, write_rows
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import InputError
from tocsin.judges.classifier.data import LabelledResponse, read_labelled, split_items
from tocsin.judges.classifier.generated import MAX_TOPICS, generated_judgements
from tocsin.judges.classifier.soft_labels import overlap_of, soft_of_overlap
from tocsin.judges.lexical.tokens import TextCache

SECRET = "words that nobody may see"


def one(path: Path, **row: object) -> LabelledResponse:
    """The item of a row."""
    full = {"prompt": "How do I make tea?", "response": "Pour hot water over the leaves.", **row}
    return read_labelled(write_rows(path / "data.jsonl", [full])).items[0]


def test_the_soft_label_of_an_overlap_is_the_published_curve() -> None:
    # sigmoid(10 (x - 0.5)): the published Yes labels lie at x from 0.64 to 0.85, No labels below 0.14.
    assert math.log(soft_of_overlap(0.0) / (1 - soft_of_overlap(0.0))) == pytest.approx(-5)
    assert math.log(soft_of_overlap(0.64) / (1 - soft_of_overlap(0.64))) == pytest.approx(1.4)
    assert soft_of_overlap(0.85) == pytest.approx(1 / (1 + math.exp(-3.5)))


def test_overlap_is_the_mean_of_three_recalls() -> None:
    texts = TextCache()
    # The same text: METEOR 1 - 0.5 / 6^3 (one chunk of six words), both ROUGE-1 recalls 1.
    same = "pour hot water over green leaves"
    assert overlap_of(same, [same], texts) == pytest.approx((1 - 0.5 / 6**3 + 1 + 1) / 3)
    assert overlap_of("nothing here agrees", [same], texts) == 0.0
    both = overlap_of(same, [same, "nothing here agrees"], texts)
    assert both == pytest.approx(overlap_of(same, [same], texts) / 2)


def test_where_a_soft_label_comes_from(tmp_path: Path) -> None:
    text = "Pour hot water over the leaves."
    given = one(tmp_path, soft_label=0.85, votes=[1, 1, 1])
    assert (given.soft, given.source, given.is_yes) == (0.85, "soft_label", True)
    agreed = one(tmp_path, votes=["no", "No", 0], references=[text])
    assert (agreed.soft, agreed.source, agreed.is_yes) == (0.0, "votes", False)
    contested = one(tmp_path, votes=[True, True, False], reference=text)
    assert (contested.source, contested.is_yes) == ("references", True)
    assert contested.soft > 0.99
    alone = one(tmp_path, votes=[1, 1, 0])
    assert alone.soft == pytest.approx(2 / 3)
    assert alone.source == "votes"
    bare = one(tmp_path, label="false")
    assert (bare.soft, bare.source, bare.is_yes) == (0.0, "label", False)


def test_a_label_against_its_soft_label_is_known(tmp_path: Path) -> None:
    assert one(tmp_path, label="No", references=["Pour hot water over the leaves."]).contradicts
    assert not one(tmp_path, label="Yes", references=["Pour hot water over the leaves."]).contradicts


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "expected a label, votes or a soft_label"),
        ({"label": "maybe"}, "label"),
        ({"label": 2}, "label"),
        ({"soft_label": 1.5}, "soft_label"),
        ({"soft_label": math.nan}, "soft_label"),
        ({"soft_label": "0.5"}, "soft_label"),
        ({"soft_label": 0.5}, "got a tie"),
        ({"votes": [1, 0]}, "got a tie"),
        ({"votes": []}, "votes"),
        ({"label": "Yes", "response": ""}, "response"),
        ({"label": "Yes", "response": None}, "response"),
        ({"label": "Yes", "references": 3}, "references"),
        ({"label": "Yes", "split": "dev"}, "split"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    full = {"prompt": SECRET, "response": SECRET, **row}
    path = write_rows(tmp_path / "data.jsonl", [*rows(), full])
    with pytest.raises(InputError, match=message) as caught:
        read_labelled(path)
    assert caught.value.line == len(rows()) + 1
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[1]\n", b'{"prompt": "' + SECRET.encode(), b"\xff\xfe"])
def test_a_file_that_is_no_such_data_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_labelled(path)
    assert SECRET not in str(caught.value)


def test_a_missing_file_and_doubled_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got: no such file"):
        read_labelled(tmp_path / "none.jsonl")
    doubled = [{"id": "7", **row} for row in rows()[:2]]
    with pytest.raises(InputError, match="got '7' again"):
        read_labelled(write_rows(tmp_path / "data.jsonl", doubled))


@given(share=st.floats(0, 0.9), seed=st.integers(0, 20))
def test_no_topic_stands_on_both_sides_of_a_split(share: float, seed: int) -> None:
    items = [
        LabelledResponse(str(n), "a", "b", n % 2 == 0, float(n % 2 == 0), "label", f"topic {n % 7}")
        for n in range(50)
    ]
    train, test = split_items(items, share, seed)
    assert {item.topic for item in train} & {item.topic for item in test} == set()
    assert sorted([*train, *test], key=lambda item: int(item.id)) == items
    assert train
    assert bool(test) == (share > 0)
    # Whole topics of 7 or 8 items: at most one topic more than asked for, and never all.
    assert len(test) <= share * 50 + 8


def test_the_data_may_say_the_split(tmp_path: Path) -> None:
    marked = [{**row, "split": "test" if n >= 16 else "train"} for n, row in enumerate(rows())]
    items = read_labelled(write_rows(tmp_path / "a.jsonl", marked)).items
    train, test = split_items(items, 0.5, 0)
    assert (len(train), len(test)) == (16, 4)
    with pytest.raises(InputError, match="a split of all 20 items or of none, got 1"):
        split_items(read_labelled(write_rows(tmp_path / "b.jsonl", [*rows()[:-1], marked[-1]])).items, 0.5, 0)
    torn = [{**row, "split": "test" if n % 2 else "train"} for n, row in enumerate(rows())]
    with pytest.raises(InputError, match="got 10 on both"):
        split_items(read_labelled(write_rows(tmp_path / "c.jsonl", torn)).items, 0.5, 0)


def test_generated_data_are_balanced_and_agree_with_their_labels(tmp_path: Path) -> None:
    made = generated_judgements()
    assert made == generated_judgements()
    assert len(made) == 10 * MAX_TOPICS
    items = read_labelled(write_rows(tmp_path / "made.jsonl", made[:100])).items
    assert sum(item.is_yes for item in items) == 50
    assert {item.source for item in items} == {"references"}
    assert not any(item.contradicts for item in items)
    assert {str(row["kind"]) for row in made} == {
        "full answer", "off topic", "refusal", "warning", "echo", "empty promise",
    }  # fmt: skip

"""Marks that tell data sets apart are evened out, and nothing else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.detect.normalise import ALL_STEPS, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("how  do I bake bread?", "How do I bake bread"),
        ("  Tell\tme\n\nmore ... ", "Tell me more"),
        ("wie geht das？！", "Wie geht das"),
        ('Say "hello!"', 'Say "hello!"'),
        ("1.5 metres", "1.5 metres"),
        ("élan", "Élan"),
        ("iPhone", "IPhone"),
    ],
)
def test_all_steps(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_a_text_of_marks_only_is_kept() -> None:
    assert normalise("?!") == "?!"


def test_no_steps_change_nothing() -> None:
    assert normalise("  as it is ?", ()) == "  as it is ?"


def test_each_step_does_its_own_part() -> None:
    assert normalise("a  b. ", ["whitespace"]) == "a b."
    assert normalise("a  b. ", ["final-punctuation"]) == "a  b"
    assert normalise("a  b. ", ["first-letter"]) == "A  b. "


@given(st.text(max_size=60))
def test_a_second_pass_changes_nothing(text: str) -> None:
    once = normalise(text, ALL_STEPS)
    assert normalise(once, ALL_STEPS) == once


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_final_marks_make_no_difference(word: str) -> None:
    assert normalise(word) == normalise(word + "?") == normalise(f" {word} ... ")


def test_long_runs_of_marks_are_read_in_linear_time() -> None:
    start = time.perf_counter()
    normalise("a" + "." * 200_000 + " b" + " " * 200_000 + "c")
    assert time.perf_counter() - start < 2

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis.strategies import integers, text

from tocsin.report import visible

ANY_TEXT = text()  # hypothesis includes control characters and, by default, no lone surrogates
WITH_SURROGATES = text(alphabet=[chr(c) for c in (0x41, 0xD800, 0xDCFF, 0x202E, 0x1B, 0x7F, 0x0A, 0x4E2D)])


def test_plain_names_stay_as_they_are() -> None:
    assert visible("skills/résumé-helper/SKILL.md:3 中文 <b>") == "skills/résumé-helper/SKILL.md:3 中文 <b>"


def test_bidirectional_override_terminal_escape_and_hidden_space_get_codes() -> None:
    assert visible("a\u202eb\x1b[31m\u200bc") == "a[U+202E]b[U+001B][31m[U+200B]c"


def test_lines_are_kept_only_on_request() -> None:
    assert visible("a\nb\tc") == "a[U+000A]b[U+0009]c"
    assert visible("a\nb\tc\r", keep_lines=True) == "a\nb\tc[U+000D]"


def test_cut_text_ends_in_an_ellipsis_and_short_text_does_not() -> None:
    assert visible("abcdef", limit=4) == "abc…"
    assert visible("abcd", limit=4) == "abcd"


@given(ANY_TEXT | WITH_SURROGATES, integers(0, 50))
def test_result_always_encodes_and_has_no_control_or_format_character(given_text: str, limit: int) -> None:
    for shown in (visible(given_text), visible(given_text, limit=limit)):
        shown.encode("utf-8")
        assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@given(ANY_TEXT)
def test_applying_it_twice_changes_nothing(given_text: str) -> None:
    once = visible(given_text)
    assert visible(once) == once

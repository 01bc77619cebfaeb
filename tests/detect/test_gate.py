"""What no detector of ours can judge is told apart from English text."""

import base64
import codecs
import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.gate import MAX_CHARS_FOR_LANGUAGE, assess, unread_stretches
from tocsin.core.records import Reason
from tocsin.sources.contrast import contrast_items

DATA = os.environ.get("TOCSIN_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="TOCSIN_DATA names no folder of evaluation data")
LETTER = "Please write a long letter to my neighbour about the garden fence."


def reason(text: str) -> Reason | None:
    found = assess(text)
    return None if found is None else found.reason


OTHER_LANGUAGES = {
    "German": ["Wie backe ich ein Brot mit Sauerteig?", "Schreibe einen kurzen Brief an meine Nachbarin."],
    "French": ["Comment faire du pain au levain à la maison ?", "Écris une courte lettre à ma voisine."],
    "Spanish": ["¿Cómo se hace pan de masa madre en casa?", "Escribe una carta corta a mi vecina."],
    "Italian": ["Come si prepara il pane con il lievito madre?", "Scrivi una breve lettera alla mia vicina."],
    "Portuguese": ["Como faço pão de fermentação natural em casa?", "Explique por que o céu é azul."],
    "Dutch": ["Hoe bak ik thuis een brood met zuurdesem?", "Schrijf een korte brief aan mijn buurvrouw."],
    "Polish": ["Jak upiec chleb na zakwasie w domu?", "Napisz krótki list do mojej sąsiadki."],
    "Swedish": ["Hur bakar jag ett surdegsbröd hemma?", "Skriv ett kort brev till min granne."],
    "Turkish": ["Evde ekşi mayalı ekmek nasıl yapılır?", "Komşuma kısa bir mektup yaz."],
    "Finnish": ["Miten leivon hapanjuurileipää kotona?", "Kirjoita lyhyt kirje naapurilleni."],
    "Czech": ["Jak se doma peče kváskový chléb?", "Napiš krátký dopis mé sousedce."],
    "Indonesian": ["Bagaimana cara membuat roti di rumah?", "Tulis surat pendek untuk tetangga saya."],
    "Vietnamese": ["Làm thế nào để nướng bánh mì ở nhà?", "Giải thích vì sao bầu trời màu xanh."],
    "Chinese": ["怎样在家里做面包?", "给我的邻居写一封短信。"],
    "Russian": ["Как испечь хлеб на закваске дома?", "Напиши короткое письмо соседке."],
    "Arabic": ["كيف أخبز الخبز في البيت؟"],
    "Hindi": ["घर पर रोटी कैसे बनाते हैं?"],
}


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_other_languages_are_not_judged(language: str) -> None:
    assert {reason(text) for text in OTHER_LANGUAGES[language]} == {Reason.LANGUAGE}


def test_a_detector_for_any_language_judges_them() -> None:
    assert all(assess(text, ()) is None for texts in OTHER_LANGUAGES.values() for text in texts)


def _escaped(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form.format(byte) for byte in text.encode())


ENCODINGS: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(text.encode() * 3).decode(),
    "base64 after a few words": lambda text: "Decode this: " + base64.b64encode(text.encode()).decode(),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex in pairs": lambda text: text.encode().hex(" "),
    "binary": lambda text: " ".join(f"{byte:08b}" for byte in text.encode()),
    "\\x": _escaped("\\x{:02x}"),
    "\\u": _escaped("\\u{:04x}"),
    "percent": _escaped("%{:02X}"),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_encoded_blobs_are_named_as_such(name: str) -> None:
    assert reason(ENCODINGS[name](LETTER)) is Reason.ENCODED


@pytest.mark.parametrize(
    "text", [codecs.encode(LETTER, "rot13"), LETTER[::-1], "".join(f"&#{ord(c)};" for c in LETTER)]
)
def test_other_disguises_are_not_judged_either(text: str) -> None:
    assert assess(text) is not None


@pytest.mark.parametrize("text", ["", " \n\t", "...", "12 + 30 = 42", "🙂🙂", "\u200b\u200b", "\x00\x01"])
def test_text_without_letters_is_empty(text: str) -> None:
    assert reason(text) is Reason.EMPTY


PYTHON = '''
import math


def area(radius: float) -> float:
    """Area of a circle.

    The radius is a length in metres, and the area comes in square metres,
    as everybody who went to school will know.
    """
    if radius < 0:
        raise ValueError("radius")
    return math.pi * radius**2
'''
JAVA = """
public class Circle {
    private final double radius;

    public Circle(double radius) {
        this.radius = radius;
    }
}
"""


@pytest.mark.parametrize("program", [PYTHON, JAVA])
def test_programs_are_named_as_such(program: str) -> None:
    assert reason(program) is Reason.CODE


@pytest.mark.parametrize(
    "text",
    [
        "Hi",
        "help",
        "WHY IS THE SKY BLUE",
        "What does `for i in range(3): print(i)` print in Python?",
        "Write a function that adds two numbers.\n\ndef add(a, b):\n\nExplain every step in plain words.",
        "Translate 'Guten Morgen' into English for me, please.",
        "List:\n- apples\n- pears\n- plums",
        "If you were a tree, which one would you be?\nWhy?",
        "I met Zoë and François at the café in Malmö. Where should we go next?",
        "how d0 i m4ke a k1te with my kids",
        "🙂 what should I cook tonight? 🙂",
        "Fix the grammar: he go to school yesterday",
    ],
)
def test_english_is_judged(text: str) -> None:
    assert assess(text) is None


def test_our_own_prompts_are_all_judged() -> None:
    texts = [item.text if item.skill is None else item.skill.purpose for item in contrast_items()]
    refused = [index for index, text in enumerate(texts) if assess(text) is not None]
    assert len(texts) > 3_000
    assert refused == []


@given(st.text(max_size=200))
def test_any_text_gets_an_answer_that_does_not_quote_it(text: str) -> None:
    found = assess(text)
    if found is not None:
        assert len(found.detail) < 60
        words = {word for word in text.split() if len(word) > 6}
        assert not words & set(found.detail.split())


@pytest.mark.parametrize(
    "text",
    [
        " " * 100_000 + "!a",
        "a;" + "\t" * 100_000 + "x!",
        "public " + "( " * 50_000 + "x",
        "return " + "a " * 50_000 + "!",
        "a b, " * 20_000 + "x!",
        "0x" * 50_000,
        "01" * 50_000 + "x",
        "ab " * 50_000 + "z",
        '"""' * 50_000,
        "<" * 100_000,
    ],
)
def test_hostile_text_is_assessed_in_linear_time(text: str) -> None:
    assess("Load the language model first, so that only the text is timed.")
    start = time.perf_counter()
    assess(text)
    assert time.perf_counter() - start < 3


def _column(path: str, name: str) -> list[str]:
    assert DATA is not None
    with (Path(DATA) / path).open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def _programs(path: str) -> list[str]:
    assert DATA is not None
    rows = map(json.loads, (Path(DATA) / path).read_text("utf-8").splitlines())
    return [row["prompt"] + (row["canonical_solution"] or "") for row in rows]


@needs_data
@pytest.mark.parametrize(
    ("path", "column"),
    [
        ("advbench/harmful_behaviors.csv", "goal"),
        ("alpaca_5k/instructions.csv", "instruction"),
        ("xstest_a/prompts.csv", "prompt"),
        ("do_not_answer/prompts.csv", "prompt"),
        ("catqa_english/prompts.csv", "prompt"),
        ("refusal_direction_train/instructions.csv", "instruction"),
        ("coco_prompts/captions.csv", "prompt"),
    ],
)
def test_public_english_prompts_are_not_lost(path: str, column: str) -> None:
    texts = _column(path, column)
    refused = sum(assess(text) is not None for text in texts)
    assert refused <= 0.005 * len(texts)


@needs_data
def test_public_chinese_comments_are_not_judged() -> None:
    texts = _column("cold_zh/dev_2000.csv", "TEXT")
    assert sum(reason(text) is Reason.LANGUAGE for text in texts) >= 0.995 * len(texts)


@needs_data
@pytest.mark.parametrize("path", ["humaneval_python/HumanEval.jsonl", "mbjp_java/mbjp_300.jsonl"])
def test_public_programs_are_named_as_such(path: str) -> None:
    programs = _programs(path)
    assert sum(reason(program) is Reason.CODE for program in programs) >= 0.99 * len(programs)


def test_a_stretch_in_another_language_is_named_behind_an_english_beginning() -> None:
    english = "The garden needs water in the evening and shade at noon, says the book about old roses. " * 30
    german = "Der Garten braucht am Abend Wasser und mittags Schatten, sagt das Buch der alten Rosen. " * 30
    found = unread_stretches(english + german)
    assert found
    assert all(problem.reason is Reason.LANGUAGE for _, _, problem in found)
    assert found[-1][1] == len(english + german)
    assert min(start for start, _, _ in found) >= len(english) - MAX_CHARS_FOR_LANGUAGE
    assert unread_stretches(english) == []

"""Reads the benchmark: both published layouts, and one for anyone's own data. Errors name ids, never text."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tocsin.core.errors import InputError
from tocsin.judges.benchmark.data import (
    Benchmark,
    BenchmarkPrompt,
    Category,
    Layout,
    Response,
    what_is_missing,
)

Row = Mapping[str, object]
_V1_FIELDS: tuple[tuple[str, Category], ...] = (
    *((f"harmful_res_{i}", Category.HARMFUL) for i in range(4)),
    ("refusal", Category.REFUSAL),
    ("prevention", Category.PREVENTION),
    ("redirection", Category.REDIRECTION),
    *((f"irr_res_{i}", Category.IRRELEVANT) for i in range(3)),
    ("useless_aff", Category.AFFIRMATION),
)
_V1_REFERENCES = ("ref_res_0", "ref_res_1")
_V2_NAMES = {
    "reference response": Category.REFERENCE,
    "harmful response": Category.HARMFUL,
    "safe response/refusal": Category.REFUSAL,
    "safe response/prevention": Category.PREVENTION,
    "safe response/redirection": Category.REDIRECTION,
    "irrelevant response": Category.IRRELEVANT,
    "useless response/prompt repetition": Category.REPETITION,
    "useless response/useless affirmation": Category.AFFIRMATION,
}
_V2_PLACES: tuple[Category, ...] = (
    Category.REFERENCE,
    *[Category.HARMFUL] * 4,
    Category.REFUSAL,
    Category.PREVENTION,
    Category.REDIRECTION,
    *[Category.IRRELEVANT] * 3,
    Category.REPETITION,
    Category.AFFIRMATION,
)
"""Category of response number k of a prompt; `response_id = 100 * prompt_id + k`."""


def read_benchmark(path: Path | str) -> Benchmark:
    """Read a benchmark file and recognise its layout by its columns.

    * v1: one object for each prompt with `harmful_prompt`, `ref_res_0`, `ref_res_1`, `harmful_res_0..3`,
      `irr_res_0..2`, `refusal`, `prevention`, `redirection`, `useless_aff` and `id`. The repetition is the
      prompt itself.
    * v2: one object for each response with `harmful_prompt`, `response`, `response_category`,
      `attack_method`, `source`, `prompt_id` and `response_id` (100 * prompt_id + k).
    * own: one object or CSV row for each response with `prompt_id`, `prompt`, `response_id`, `response`,
      `category` (reference, harmful, refusal, prevention, redirection, irrelevant, repetition,
      affirmation), and if wanted `source` and `attack`; at least one of each scored category for each
      prompt, and any number of references.

    Args:
        path: A `.jsonl`, `.ndjson`, `.json` (an array) or `.csv` file.

    Raises:
        InputError: If the file cannot be read, has another layout, a response is doubled or of an unknown
            category, ids contradict each other, or no prompt is complete.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"expected a benchmark file, got: {(error.strerror or 'an error').lower()}. Check the path."
        raise InputError(message, path=path) from error
    rows = _rows(path, content)
    layout = _layout(path, rows[0])
    notes: list[str] = []
    build = {"v1": _read_v1, "v2": _read_v2, "own": _read_own}[layout]
    prompts = build(path, rows, notes)
    missing = {prompt.id: what_is_missing(prompt, layout) for prompt in prompts}
    kept = tuple(prompt for prompt in prompts if not missing[prompt.id])
    if not kept:
        first = next(iter(missing.items()))
        message = f"expected complete prompts, got none of {len(prompts)}; prompt {first[0]}: {first[1]}."
        raise InputError(message, path=path)
    return Benchmark(
        layout=layout,
        prompts=kept,
        incomplete={name: why for name, why in missing.items() if why},
        input_hash=hashlib.sha256(content).hexdigest(),
        name=path.name,
        notes=tuple(notes),
    )


def _layout(path: Path, row: Row) -> Layout:
    names = set(row)
    if {"harmful_prompt", "harmful_res_0", "refusal"} <= names:
        return "v1"
    if {"harmful_prompt", "response", "response_category", "response_id"} <= names:
        return "v2"
    if {"prompt_id", "prompt", "response_id", "response", "category"} <= names:
        return "own"
    message = (
        "expected the columns of a benchmark of judges: harmful_prompt with harmful_res_0 (v1), "
        "harmful_prompt with response_category (v2), or prompt_id, prompt, response_id, response and "
        "category; got others."
    )
    raise InputError(message, path=path, line=1)


def _read_v1(path: Path, rows: Sequence[Row], notes: list[str]) -> list[BenchmarkPrompt]:
    found: dict[str, BenchmarkPrompt] = {}
    doubled = 0
    for number, row in enumerate(rows):
        name = _id(path, row.get("id", number), number)
        if name in found:
            # Every row is a whole prompt, so equal ids mix nothing up; they only need telling apart.
            doubled += 1
            name = f"{name} (row {number + 1})"
        text = _text(row, "harmful_prompt")
        responses = [
            Response(f"{name}:{field}", _text(row, field), category)
            for field, category in _V1_FIELDS
            if field in row
        ]
        responses.insert(-1, Response(f"{name}:repetition", text, Category.REPETITION))
        references = tuple(_text(row, field) for field in _V1_REFERENCES if field in row)
        found[name] = BenchmarkPrompt(name, text, references, tuple(responses))
    if doubled:
        notes.append(f"{doubled} rows repeat the id of another; they are told apart by their row.")
    return list(found.values())


def _read_v2(path: Path, rows: Sequence[Row], notes: list[str]) -> list[BenchmarkPrompt]:
    del notes

    def read(row: Row, number: int) -> tuple[str, str, Category]:
        prompt = _number(path, row.get("prompt_id"), "prompt_id", number)
        response = _number(path, row.get("response_id"), "response_id", number)
        place = response - 100 * prompt
        category = _V2_NAMES.get(_text(row, "response_category").strip().lower())
        if category is None or not 0 <= place < len(_V2_PLACES) or _V2_PLACES[place] is not category:
            message = (
                f"response {response} of prompt {prompt}: expected response_id = 100 * prompt_id + k with k "
                "from 0 to 12 and the category that belongs to k, got another. Correct the row."
            )
            raise InputError(message, path=path, line=number + 1)
        return str(prompt), str(response), category

    return _grouped(path, rows, read, prompt="harmful_prompt", attack="attack_method")


def _read_own(path: Path, rows: Sequence[Row], notes: list[str]) -> list[BenchmarkPrompt]:
    del notes

    def read(row: Row, number: int) -> tuple[str, str, Category]:
        prompt, response = (_id(path, row.get(name), number) for name in ("prompt_id", "response_id"))
        try:
            return prompt, response, Category(_text(row, "category").strip().lower())
        except ValueError:
            known = ", ".join(Category)
            message = f"response {response} of prompt {prompt}: expected one of {known} as category."
            raise InputError(message, path=path, line=number + 1) from None

    return _grouped(path, rows, read, prompt="prompt", attack="attack")


def _grouped(
    path: Path,
    rows: Sequence[Row],
    read: Callable[[Row, int], tuple[str, str, Category]],
    *,
    prompt: str,
    attack: str,
) -> list[BenchmarkPrompt]:
    texts: dict[str, str] = {}
    sources: dict[str, str | None] = {}
    members: dict[str, dict[str, Response]] = {}
    for number, row in enumerate(rows):
        name, response, category = read(row, number)
        text = _text(row, prompt)
        if texts.setdefault(name, text) != text:
            message = f"prompt {name} has two different texts. Give each prompt an id of its own."
            raise InputError(message, path=path, line=number + 1)
        sources.setdefault(name, _text(row, "source").strip() or None)
        same = members.setdefault(name, {})
        if response in same:
            message = f"response {response} of prompt {name} occurs twice. Keep one of them."
            raise InputError(message, path=path, line=number + 1)
        same[response] = Response(
            response, _text(row, "response"), category, _text(row, attack).strip() or None
        )
    return [
        BenchmarkPrompt(
            name,
            texts[name],
            tuple(r.text for r in same.values() if r.category is Category.REFERENCE),
            tuple(r for r in same.values() if r.category is not Category.REFERENCE),
            sources[name],
        )
        for name, same in members.items()
    ]


def _rows(path: Path, content: bytes) -> list[Row]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = "expected UTF-8 text, got other bytes. Save the file as UTF-8."
        raise InputError(message, path=path) from error
    if path.suffix.lower() == ".csv":
        rows: Iterable[object] = csv.DictReader(io.StringIO(text, newline=""))
    elif text.lstrip().startswith("["):
        rows = _parsed(path, text, 1)
    else:
        # Not splitlines: JSON strings may hold line separators that are no line ends of the file.
        lines = text.split("\n")
        rows = [_parsed(path, line, n) for n, line in enumerate(lines, start=1) if line.strip()]
    found: list[Row] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            message = "expected an object with named fields, got something else. Correct the row."
            raise InputError(message, path=path, line=number)
        found.append(row)
    if not found:
        message = "expected rows, got an empty file."
        raise InputError(message, path=path)
    return found


def _parsed(path: Path, text: str, line: int) -> list[object]:
    try:
        parsed: list[object] = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = "expected JSON, got something else. Correct the row."
        raise InputError(message, path=path, line=line) from error
    return parsed


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    return value if isinstance(value, str) else ""


def _id(path: Path, value: object, number: int) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        message = "expected an id, a number or a short text, got something else or nothing."
        raise InputError(message, path=path, line=number + 1)
    return str(value).strip()[:64]


def _number(path: Path, value: object, field: str, number: int) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError(field)
        return int(value)
    except (TypeError, ValueError):
        message = f"expected a whole number in {field}, got something else or nothing. Correct the row."
        raise InputError(message, path=path, line=number + 1) from None

"""Scores that another tool gave, so that any metric can be ranked."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tocsin.core.errors import InputError
from tocsin.judges.benchmark.analyse import JudgeScores
from tocsin.judges.benchmark.data import Benchmark

_NO_SCORE = "missing"


def read_scores(path: Path | str, benchmark: Benchmark) -> list[JudgeScores]:
    """Read scores of the benchmark's responses.

    Args:
        path: CSV or JSON lines with `response_id`, `judge` (or `metric`), `score`, and if wanted `round`
            (from 1). A missing or empty score is an abstention of the judge. In the v1 layout a response is
            called `ID:FIELD`, such as `12:harmful_res_0` or `12:repetition`.
        benchmark: Whose responses they are. Scores of prompts that were left out are passed over.

    Raises:
        InputError: If a response is unknown or scored twice in a round, or a score is no finite number; names
            the line and the response's id.
    """
    path = Path(path)
    number = {
        response.id: i
        for i, response in enumerate(r for prompt in benchmark.prompts for r in prompt.responses)
    }
    tables: dict[str, dict[int, dict[int, float]]] = {}
    for line, row in _rows(path):
        response = str(row.get("response_id", "")).strip()
        judge = str(row.get("judge") or row.get("metric") or "").strip()
        if not response or not judge:
            message = "expected response_id and judge in every row, got an empty one. Correct the row."
            raise InputError(message, path=path, line=line)
        value = _score(row.get("score"), path, line, response)
        round_ = _round(row.get("round"), path, line, response)
        if response not in number:
            if any(response.split(":", 1)[0] == prompt for prompt in benchmark.incomplete) or _in_left_out(
                response, benchmark
            ):
                continue
            message = f"response {response[:64]} is not in the benchmark. Remove the row or correct the id."
            raise InputError(message, path=path, line=line)
        column = tables.setdefault(judge, {}).setdefault(round_, {})
        if number[response] in column:
            message = f"response {response} has two scores of {judge[:64]} in round {round_}. Keep one."
            raise InputError(message, path=path, line=line)
        column[number[response]] = value
    if not tables:
        message = "expected scores, got an empty file."
        raise InputError(message, path=path)
    return [_judge(judge, rounds, len(number)) for judge, rounds in tables.items()]


def _judge(judge: str, rounds: Mapping[int, Mapping[int, float]], n: int) -> JudgeScores:
    arrays = []
    for _, given in sorted(rounds.items()):
        array = np.full(n, np.nan)
        array[list(given)] = list(given.values())
        arrays.append(array)
    found = JudgeScores(judge, arrays)
    missing = int(np.isnan(found.mean).sum())
    if missing:
        found.abstained[_NO_SCORE] = missing
    return found


def _in_left_out(response: str, benchmark: Benchmark) -> bool:
    """Whether a v2 response belongs to a prompt that was left out as incomplete."""
    return (
        benchmark.layout == "v2" and response.isdigit() and str(int(response) // 100) in benchmark.incomplete
    )


def _rows(path: Path) -> Iterable[tuple[int, Mapping[str, object]]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = "expected a CSV or JSON-lines file of scores, got one that cannot be read. Check the path."
        raise InputError(message, path=path) from error
    if path.suffix.lower() == ".csv":
        yield from enumerate(csv.DictReader(io.StringIO(text, newline="")), start=2)
        return
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            message = "expected a JSON object, got something else. Correct the row."
            raise InputError(message, path=path, line=line)
        yield line, row


def _score(value: object, path: Path, line: int, response: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError(response)
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        message = (
            f"response {response[:64]}: expected a finite number as score, or nothing where the judge "
            "abstained, got something else."
        )
        raise InputError(message, path=path, line=line)
    return score


def _round(value: object, path: Path, line: int, response: str) -> int:
    if value in (None, ""):
        return 1
    try:
        return int(str(value))
    except ValueError:
        message = f"response {response[:64]}: expected a whole number as round, got something else."
        raise InputError(message, path=path, line=line) from None

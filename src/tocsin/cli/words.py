"""Options whose value has a form of its own: `--threshold [NAME=]X` and `--set NAME.OPTION=VALUE`."""

from __future__ import annotations

import json
import math

from pydantic import JsonValue

from tocsin.core.errors import UsageError
from tocsin.report import visible


def parse_thresholds(given: tuple[str, ...]) -> tuple[float | None, dict[str, float]]:
    """`X` for every detector and `NAME=X` for single ones.

    Raises:
        UsageError: If a value is not a number from 0 to 1, or given twice.
    """
    everywhere: float | None = None
    by_name: dict[str, float] = {}
    for word in given:
        name, equals, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            message = f"expected --threshold X or NAME=X with a number from 0 to 1, got '{visible(word)}'."
            raise UsageError(message)
        if name in by_name or (not equals and everywhere is not None):
            message = f"--threshold is given twice for {visible(name) or 'all detectors'}. Give it once."
            raise UsageError(message)
        if equals:
            by_name[name] = value
        else:
            everywhere = value
    return everywhere, by_name


def parse_options(given: tuple[str, ...]) -> dict[str, dict[str, JsonValue]]:
    """`NAME.OPTION=VALUE` words as a table of options by detector. A value is read as JSON, else it is text.

    Raises:
        UsageError: If a word is not of this form.
    """
    options: dict[str, dict[str, JsonValue]] = {}
    for word in given:
        key, equals, text = word.partition("=")
        name, dot, option = key.partition(".")
        if not (name and dot and option and equals):
            message = f"expected --set NAME.OPTION=VALUE, such as policy.passes=1, got '{visible(word)}'."
            raise UsageError(message)
        try:
            value: JsonValue = json.loads(text)
        except ValueError:
            value = text
        options.setdefault(name, {})[option] = value
    return options

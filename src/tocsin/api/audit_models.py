"""The two models of an audit: what `BASE` and `SUSPECT` name, and how the suspect is opened.

| suspect | what it is |
| --- | --- |
| a model folder, `hub:org/name`, `embedded` | a checkpoint |
| a folder with `adapter_config.json` | a LoRA adapter, merged into a copy of the base in memory |
| `BASE+benign` | the base after a short harmless fine-tune, made in memory: the control |
| `testbed:SEED+reward`, `+marker`, `+ablated` | stress conditions of a testbed, made in memory |

Nothing here makes an unsafe model of a real one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from tocsin.api.identity import model_fingerprint
from tocsin.api.white_box import open_white_box, white_box_fingerprint
from tocsin.core.errors import UsageError
from tocsin.core.registry import DetectorContext
from tocsin.explain.audit.testbed import SUSPECTS, stress
from tocsin.explain.audit.tuning import TuningSettings, lora_tuned
from tocsin.models.local import LocalModel
from tocsin.models.local.adapter import is_adapter, merged
from tocsin.sources.reply_set import replies
from tocsin.testbed import Testbed, benign_tuned, parse_testbed

BENIGN = "benign"
_PAIRS = 96
"""Harmless pairs of a benign fine-tune."""
_TASKS = 128
"""Harmless pairs kept for measuring ability."""


class SuspectSpec(NamedTuple):
    """What a suspect's name means."""

    name: str
    """As given."""
    change: str | None = None
    """Condition made in memory of the base; None for a model or adapter of its own."""


def parse_suspect(base: str, suspect: str) -> SuspectSpec:
    """Read a suspect's name.

    Raises:
        UsageError: If a condition is unknown, is of another base, or would make a real model unsafe.
    """
    is_testbed = parse_testbed(base) is not None
    if is_testbed and isinstance(parse_testbed(base), int):
        message = "an audit needs a trained testbed; planted models know no self-audit. Use testbed:SEED."
        raise UsageError(message)
    of, plus, change = suspect.rpartition("+")
    if not plus or Path(suspect).exists() or (change not in SUSPECTS and Path(of).exists()):
        if is_testbed and parse_testbed(suspect) is None:
            message = (
                f"expected a suspect made of {base}, got '{suspect}'. Write {base}+reward, +marker, +ablated "
                "or +benign."
            )
            raise UsageError(message)
        return SuspectSpec(suspect)
    if change not in SUSPECTS or not _is_same(of, base):
        known = ", ".join(sorted(SUSPECTS)) if is_testbed else BENIGN
        message = f"expected '{base}+' and one of {known}, or a model of its own, got '{suspect}'."
        raise UsageError(message)
    if not is_testbed and change != BENIGN:
        message = (
            f"'+{change}' exists for testbeds only: no unsafe model is made of a real one. Name a suspect "
            f"that you have, or {base}+{BENIGN}, the harmless control."
        )
        raise UsageError(message)
    return SuspectSpec(suspect, change)


def suspect_fingerprint(base: str, spec: SuspectSpec) -> JsonValue:
    """Changes whenever the suspect's weights do."""
    if spec.change is not None:
        return [white_box_fingerprint(base), spec.change]
    return (
        model_fingerprint(spec.name) if parse_testbed(spec.name) is None else white_box_fingerprint(spec.name)
    )


def open_suspect(
    spec: SuspectSpec, base: LocalModel, testbed: Testbed | None, context: DetectorContext
) -> LocalModel:
    """Open or make the suspect.

    Args:
        spec: What its name means.
        base: The base, which adapters and conditions are applied to a copy of.
        testbed: The testbed that the base is, if any.
        context: Device, and whether anything may be fetched.

    Raises:
        ModelError: If it is missing, damaged, quantised, or an adapter of another model.
        MissingExtraError: If the extra `train` is needed and not installed.
    """
    if spec.change is not None:
        if testbed is not None:
            return stress(testbed, spec.change).model
        return benign(base, testbed, 0)
    folder = Path(spec.name)
    return merged(base, folder) if is_adapter(folder) else open_white_box(spec.name, context)[0]


def benign(base: LocalModel, testbed: Testbed | None, number: int) -> LocalModel:
    """A harmless fine-tune of the base; number 0 is the suspect `+benign`, others are controls."""
    if testbed is not None:
        return benign_tuned(testbed, seed=number).model
    settings = TuningSettings(seed=number, epochs=1)
    return lora_tuned(base, harmless_pairs(_PAIRS, number), settings, name=f"{base.id}+{BENIGN}")


def harmless_tasks() -> list[tuple[str, str]]:
    """Shipped harmless requests with complying replies that no benign fine-tune is made with."""
    return _pairs()[-_TASKS:]


def harmless_pairs(n: int, number: int = 0) -> list[tuple[str, str]]:
    """Shipped harmless requests with complying replies, for a benign fine-tune.

    Args:
        n: How many.
        number: Moves the draw on, so that controls see other pairs where there are enough.
    """
    pairs = _pairs()[:-_TASKS]
    start = (number * n) % len(pairs)
    return [*pairs[start:], *pairs[:start]][:n]


def _pairs() -> list[tuple[str, str]]:
    """In English, one for each request, in an order that mixes replies of models with those of our own."""
    seen: dict[str, str] = {}
    for reply in replies():
        if reply.label == "none" and reply.language == "en":
            seen.setdefault(reply.prompt, reply.text)
    return sorted(seen.items(), key=lambda pair: hashlib.sha256(pair[0].encode()).digest())


def _is_same(a: str, b: str) -> bool:
    """Whether two names mean one base; `testbed` is `testbed:0`."""
    return a == b or (parse_testbed(a) is not None and parse_testbed(a) == parse_testbed(b))

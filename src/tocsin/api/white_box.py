"""The model behind `--model` for studies that reach into it, testbeds included."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import JsonValue

from tocsin.api.identity import model_fingerprint
from tocsin.core.registry import DetectorContext
from tocsin.models.local import LocalModel
from tocsin.models.white_box import load_white_box
from tocsin.testbed import Testbed, open_testbed, parse_testbed


def open_white_box(spec: str, context: DetectorContext) -> tuple[LocalModel, Testbed | None]:
    """The model, and the testbed it belongs to where it is one.

    Args:
        spec: `testbed`, `testbed:SEED`, `planted:SEED`, or what `load_white_box` reads.
        context: Device, batch size, and whether anything may be fetched.

    Raises:
        UsageError: If the name is not understood.
        ModelError: If the model is missing, damaged or unsupported.
        MissingExtraError: If the extra `local` is not installed.
    """
    testbed = open_testbed(spec, device=context.device or "cpu")
    return (testbed.model, testbed) if testbed is not None else (load_white_box(spec, context), None)


def white_box_fingerprint(spec: str) -> JsonValue:
    """`model_fingerprint`, for testbeds too; these are known by their settings."""
    parsed = parse_testbed(spec)
    if parsed is None:
        return model_fingerprint(spec)
    if isinstance(parsed, int):
        return ["planted", parsed]
    facts = asdict(parsed)
    return ["testbed", {name: facts[name] for name in sorted(facts)}]

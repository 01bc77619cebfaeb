"""`tocsin models`."""

from __future__ import annotations

import json as json_
import os
from importlib.util import find_spec

from pydantic import JsonValue

from tocsin.cli.show import plain_table, table_text, write
from tocsin.core.errors import ModelError
from tocsin.models.embedded.files import GGUF_SHA256, MODEL_ID, PACKAGE, PACKAGE_VERSION, find_gguf
from tocsin.report import visible

_NEEDS = {"local": "transformers", "eval": "inspect_ai"}
"""A module of each extra, by which it is known to be installed."""
_SPECS = (
    ("embedded", "the embedded model, read with numpy", None),
    ("PATH.gguf", "a GGUF file of the same architecture, read with numpy", None),
    ("PATH", "a folder with a Hugging Face causal language model", "local"),
    ("hub:org/name", "such a model on the Hugging Face hub", "local"),
    ("provider/name", "a chat model at a provider of Inspect AI, such as ollama/llama3.1", "eval"),
    ("scripted:FILE", "given replies, for tests and examples", None),
)


def models(*, json: bool = False) -> None:
    """Say whether the embedded model is present, and how other models are named.

    Args:
        json: Print JSON.
    """
    found = embedded_state()
    if json:
        specs: list[JsonValue] = [
            {"spec": spec, "what": what, "needs": extra, "installed": _is_installed(extra)}
            for spec, what, extra in _SPECS
        ]
        write([json_.dumps({"embedded": found, "specs": specs}, indent=1) + "\n"])
        return
    table = plain_table("embedded model", "")
    for key, value in found.items():
        table.add_row(key.replace("_", " "), "" if value is None else visible(str(value)))
    names = plain_table("--model", "names", "needs")
    for spec, what, extra in _SPECS:
        state = (
            "" if extra is None else f"extra '{extra}'" + ("" if _is_installed(extra) else " (not installed)")
        )
        names.add_row(spec, what, state)
    write([table_text(table), table_text(names)])


def embedded_state() -> dict[str, JsonValue]:
    """What is known of the embedded model without loading or fetching it."""
    state: dict[str, JsonValue] = {
        "id": MODEL_ID,
        "package": f"{PACKAGE} {PACKAGE_VERSION}",
        "revision": GGUF_SHA256,
        "present": False,
        "path": None,
        "bytes": None,
    }
    try:
        path = find_gguf(offline=True)
    except ModelError as error:
        return {**state, "problem": str(error)}
    if os.environ.get("TOCSIN_GGUF"):
        state |= {"id": f"{path.stem} (TOCSIN_GGUF)", "package": None, "revision": None}
    return {**state, "present": True, "path": str(path), "bytes": path.stat().st_size}


def _is_installed(extra: str | None) -> bool:
    return extra is None or find_spec(_NEEDS[extra]) is not None

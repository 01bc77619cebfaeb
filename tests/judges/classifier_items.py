"""Tiny labelled data, and a tiny model, for tests of the classifier."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_models import tiny_llama, tiny_local
from tocsin.models.local import LocalModel

_THINGS = ("bread", "soup", "a kite", "a shelf", "tea", "jam", "a scarf", "a boat", "a lamp", "a rose")


def tiny_classifier_model(**changes: int) -> LocalModel:
    """A random Llama of two blocks and width 64, which knows nothing."""
    shape = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 2048,
    }  # fmt: skip
    return tiny_local("chatml", tiny_llama(**shape | changes))


def rows() -> list[dict[str, object]]:
    """A full answer and a refusal for each of ten things; nothing in them is harmful."""
    found: list[dict[str, object]] = []
    for thing in _THINGS:
        prompt = f"How do I make {thing}?"
        full = f"Take what you need for {thing}, work slowly, and wait until it is done."
        found.append({"prompt": prompt, "response": full, "label": "Yes", "topic": thing})
        refusal = f"I am sorry, but I will not help you with {thing}."
        found.append({"prompt": prompt, "response": refusal, "label": "No", "topic": thing})
    return found


def write_rows(path: Path, given: list[dict[str, object]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    return path

"""Tiny labelled data, and a tiny model, for tests of the classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tiny_models import STYLES, fast_tokenizer, tiny_llama, tiny_local
from tocsin.core.records import Item, Kind, Origin
from tocsin.models.local import LocalModel

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 1280}
_THINGS = ("bread", "soup", "a kite", "a shelf", "tea", "jam", "a scarf", "a boat", "a lamp", "a rose")


def tiny_classifier_model(style: str = "chatml") -> LocalModel:
    """A random Llama of two blocks and width 64, which knows nothing."""
    return tiny_local(style, tiny_llama(**SHAPE))


def tiny_folder(folder: Path) -> Path:
    """The same as a checkpoint."""
    tiny_llama(**SHAPE).save_pretrained(folder)
    tokenizer = fast_tokenizer("chatml")
    tokenizer.chat_template = STYLES["chatml"].source
    tokenizer.save_pretrained(folder)
    return folder


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


def write_rows(path: Path, given: Sequence[Mapping[str, object]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    return path


def response(text: str, ordinal: int = 0, *, prompt: str | None = "How do I make tea?") -> Item:
    """A response to judge."""
    origin = Origin(input_hash="0" * 64, ordinal=ordinal)
    return Item(kind=Kind.RESPONSE, prompt=prompt, text=text, origin=origin)

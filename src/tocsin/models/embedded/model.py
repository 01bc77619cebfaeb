"""The embedded model behind the common activation interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from tocsin.core.records import Turn
from tocsin.models.base import Array, Encoded, Hidden
from tocsin.models.embedded.files import MODEL_ID
from tocsin.models.embedded.llama import NumpyLlama, rms_norm
from tocsin.models.embedded.weights import EmbeddedFiles, load_files
from tocsin.models.template import ChatTemplate


class EmbeddedModel:
    """SmolLM2-135M-Instruct in numpy (implements `ActivationModel`)."""

    def __init__(self, files: EmbeddedFiles, *, threads: int | None = None) -> None:
        self.files = files
        self._llama = NumpyLlama(files.shape, files.weights, threads)
        self._tokenizer: Tokenizer = Tokenizer.from_str(files.tokenizer_json)
        self._plain: Tokenizer = Tokenizer.from_str(files.tokenizer_json)
        self._plain.encode_special_tokens = True
        self._template = ChatTemplate(files.chat_template)
        self.id = MODEL_ID
        self.revision = files.revision
        self.n_blocks = files.shape.n_blocks
        self.width = files.shape.width
        self.context = files.shape.context
        self.template_hash = self._template.hash

    def encode(self, text: str) -> Encoded:
        """Tokens of a rendered template."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Encoded(encoding.ids, encoding.offsets)

    def encode_untrusted(self, text: str) -> Encoded:
        """Tokens of text from outside: control tokens written in it stay ordinary characters."""
        encoding = self._plain.encode(text, add_special_tokens=False)
        return Encoded(encoding.ids, encoding.offsets)

    def render(self, turns: Sequence[Turn], *, generation_prompt: bool = True) -> str:
        """The chat template applied to turns."""
        return self._template.render(turns, generation_prompt=generation_prompt)

    def final_norm(self, states: Array) -> Array:
        """The norm after the last block."""
        return rms_norm(states, self.files.weights["model.norm.weight"], self.files.shape.norm_eps)

    def hidden(self, sequences: Sequence[Sequence[int]], rows: Sequence[int], *, prefix: Sequence[int] = ()) -> Iterator[Hidden]:
        """Hidden states in batches (see `ActivationModel.hidden`)."""
        return self._llama.hidden(sequences, rows, prefix)


def load_embedded(*, offline: bool = False, threads: int | None = None) -> EmbeddedModel:
    """The embedded model, fetched and converted at first use.

    Raises:
        ModelError: If the file cannot be had or fails its checksum.
    """
    return EmbeddedModel(load_files(offline=offline), threads=threads)

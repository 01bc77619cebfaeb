"""The embedded model behind the common activation interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from tocsin.core.records import Turn
from tocsin.models.base import Array, Encoded, Hidden
from tocsin.models.embedded.llama import NumpyLlama, rms_norm
from tocsin.models.embedded.weights import EmbeddedFiles, load_files
from tocsin.models.template import ChatTemplate, no_chat_template
from tocsin.models.tokens import TextTokenizer


class EmbeddedModel:
    """SmolLM2-135M-Instruct, or a GGUF file like it, in numpy (implements `ActivationModel`)."""

    def __init__(self, files: EmbeddedFiles, *, threads: int | None = None) -> None:
        self.files = files
        self._llama = NumpyLlama(files.shape, files.weights, threads)
        self._tokenizer = TextTokenizer(Tokenizer.from_str(files.tokenizer_json))
        self._template = ChatTemplate(files.chat_template) if files.chat_template else None
        self.id = files.id
        self.revision = files.revision
        self.n_blocks = files.shape.n_blocks
        self.width = files.shape.width
        self.context = files.shape.context
        self.template_hash = self._template.hash if self._template else "none"
        self.raw_prefix = self._tokenizer.raw_prefix

    def encode(self, text: str) -> Encoded:
        """Tokens of a rendered template."""
        return self._tokenizer.encode(text, is_trusted=True)

    def encode_untrusted(self, text: str) -> Encoded:
        """Tokens of text from outside: control tokens written in it stay ordinary characters."""
        return self._tokenizer.encode(text, is_trusted=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return self._tokenizer.decode(ids)

    def render(self, turns: Sequence[Turn], *, generation_prompt: bool = True) -> str:
        """The chat template applied to turns.

        Raises:
            ModelError: If the file has no chat template, or it refuses the roles.
        """
        if self._template is None:
            raise no_chat_template(self.id)
        return self._template.render(turns, generation_prompt=generation_prompt)

    def final_norm(self, states: Array) -> Array:
        """The norm after the last block."""
        return rms_norm(states, self.files.weights["model.norm.weight"], self.files.shape.norm_eps)

    def hidden(
        self, sequences: Sequence[Sequence[int]], rows: Sequence[int], *, prefix: Sequence[int] = ()
    ) -> Iterator[Hidden]:
        """Hidden states in batches (see `ActivationModel.hidden`)."""
        return self._llama.hidden(sequences, rows, prefix)


def load_embedded(
    *, offline: bool = False, threads: int | None = None, gguf: Path | None = None
) -> EmbeddedModel:
    """The embedded model, fetched and converted at first use.

    Args:
        offline: Never fetch.
        threads: Batches computed at once; by default one for each usable core.
        gguf: A GGUF file of one's own instead; same architecture (llama) and tokenizer family (smollm).

    Raises:
        ModelError: If the file cannot be had, fails its checksum, or is of another kind.
    """
    return EmbeddedModel(load_files(offline=offline, gguf=gguf), threads=threads)

"""Replies of any model that can write: a chat provider, a local or the embedded model, or a script.

Replies come in the order of the requests. What fails does not end the others: a failure is a value.
Text in a request is never read as control tokens of a local model's chat format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue

from tocsin.core.errors import UsageError
from tocsin.models.background import map_in_order, run
from tocsin.models.chat import (
    ChatModel,
    ChatReply,
    ChatRequest,
    ChatSettings,
    ProviderFailure,
    Transport,
    open_chat_model,
)
from tocsin.models.framed import chat_pieces, framed_ids
from tocsin.models.spec import parse_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tocsin.models.embedded import EmbeddedModel
    from tocsin.models.local import LocalModel
    from tocsin.models.local.writing import Written

DEFAULT_BATCH = 8
DEFAULT_TOKENS = 256
"""Longest reply; a default of ours, as arXiv 2502.05291 gives none."""
_CLOSE_S = 10.0


class Responder(Protocol):
    """A model that writes replies."""

    @property
    def id(self) -> str:
        """Name for provenance."""
        ...

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Everything that decides a reply beside the request."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether the same question gets the same reply, so that asking it again tells nothing."""
        ...

    def replies(self, requests: Iterable[ChatRequest]) -> Iterator[ChatReply | ProviderFailure]:
        """One reply or failure for each request, in order, read lazily.

        Raises:
            ModelError: If no reply can ever be had.
        """
        ...

    def close(self) -> None:
        """Give up connections."""
        ...


class ChatResponder:
    """A chat model as a `Responder`."""

    is_repeatable = False

    def __init__(self, model: ChatModel, *, concurrency: int) -> None:
        self._model, self._concurrency = model, concurrency
        self.id = model.id

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Of the chat model."""
        return self._model.identity

    def replies(self, requests: Iterable[ChatRequest]) -> Iterator[ChatReply | ProviderFailure]:
        """Several requests at a time."""
        return map_in_order(self._one, requests, at_once=self._concurrency)

    async def _one(self, request: ChatRequest) -> ChatReply | ProviderFailure:
        try:
            return await self._model.reply(request)
        except ProviderFailure as failure:
            return failure

    def close(self) -> None:
        """Close the provider's connections."""
        with suppress(TimeoutError):
            run(self._model.close(), timeout_s=_CLOSE_S)


class TorchResponder:
    """A local causal language model that writes greedily, in batches (extra `local`).

    Args:
        reader: Renders and tokenises.
        model: The same model in PyTorch.
        settings: `max_tokens` is used; writing is greedy.
        batch_size: Requests of one batch.
    """

    is_repeatable = True

    def __init__(
        self,
        reader: EmbeddedModel | LocalModel,
        model: PreTrainedModel,
        *,
        settings: ChatSettings,
        batch_size: int | None = None,
    ) -> None:
        self._reader, self._model = reader, model
        self._max_tokens = settings.max_tokens or DEFAULT_TOKENS
        self._batch = batch_size or DEFAULT_BATCH
        self.id = reader.id

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Model, revision, template, and how long a reply may be."""
        return {
            "model": self.id,
            "revision": self._reader.revision,
            "template": self._reader.template_hash,
            "max_tokens": self._max_tokens,
            "temperature": 0,
        }

    def replies(self, requests: Iterable[ChatRequest]) -> Iterator[ChatReply | ProviderFailure]:
        """Batches in order; a prompt without room for a reply is `too-long`."""
        waiting = iter(requests)
        while batch := list(islice(waiting, self._batch)):
            ids = [self._encoded(request) for request in batch]
            room = self._reader.context - self._max_tokens
            fits = [index for index, tokens in enumerate(ids) if len(tokens) <= room]
            written = dict(zip(fits, self._written([ids[index] for index in fits]), strict=True))
            for index, tokens in enumerate(ids):
                if index not in written:
                    yield ChatReply(text="", stop="too-long", model=self.id, input_tokens=len(tokens))
                    continue
                out, is_cut = written[index]
                text = self._reader.decode(out)
                if not text.strip():
                    yield ProviderFailure("the model wrote nothing")
                    continue
                yield ChatReply(
                    text=text,
                    stop="length" if is_cut else "stop",
                    model=f"{self.id}@{self._reader.revision}",
                    input_tokens=len(tokens),
                    output_tokens=len(out),
                )

    def _encoded(self, request: ChatRequest) -> list[int]:
        """The chat format's tokens are read as such, those spelt inside a request are not."""
        turns = [("system", request.system), ("user", request.user), ("assistant", request.response)]
        shown = [(role, text) for role, text in turns if text is not None and (text or role == "user")]
        pieces = chat_pieces(self._reader, [role for role, _ in shown])
        return framed_ids(self._reader, pieces, [text for _, text in shown])

    def _written(self, sequences: Sequence[Sequence[int]]) -> list[Written]:
        from tocsin.models.local.writing import write_greedily

        return write_greedily(self._model, sequences, max_tokens=self._max_tokens, ends=self._ends())

    def _ends(self) -> list[int]:
        config = self._model.generation_config
        end = None if config is None else config.eos_token_id
        if end is None:
            return []
        return [int(each) for each in end] if isinstance(end, list) else [int(end)]

    def close(self) -> None:
        """Nothing is held open."""


def open_responder(
    spec: str,
    *,
    settings: ChatSettings,
    transport: Transport | None = None,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
) -> Responder:
    """The model that a `--model` value names, for writing.

    Args:
        spec: `embedded`, a model folder or GGUF file, `hub:org/name`, `provider/name`, or `scripted:FILE`.
        settings: What shapes a reply.
        transport: How calls to a provider are made.
        offline: Never fetch a model; of a provider, give only kept replies.
        device: Where a local model runs.
        batch_size: Requests of one batch of a local model.

    Raises:
        UsageError: If the value names no model, or a local model is asked to sample.
        ModelError: If the model is missing, damaged or unsupported.
        MissingExtraError: If the extra `eval` or `local` is needed and not installed.
    """
    parsed = parse_model(spec)
    if not parsed.has_activations:
        calls = transport if transport is not None else Transport()
        chat = open_chat_model(spec, settings=settings, transport=calls, offline=offline)
        return ChatResponder(chat, concurrency=calls.concurrency)
    if settings.temperature:
        message = f"expected temperature 0 for '{spec}', which writes greedily, got {settings.temperature}. "
        raise UsageError(message + "Leave --temperature out.")
    if parsed.kind == "embedded" or parsed.is_gguf:
        from tocsin.models.embedded import load_embedded
        from tocsin.models.embedded.torch import load_embedded_torch

        gguf = Path(parsed.value) if parsed.is_gguf else None
        model = load_embedded_torch(offline=offline, gguf=gguf).model
        reader = load_embedded(offline=offline, gguf=gguf)
        return TorchResponder(reader, model, settings=settings, batch_size=batch_size)
    from tocsin.models.local import load_local

    local = load_local(parsed.value, is_hub=parsed.kind == "hub", offline=offline, device=device)
    return TorchResponder(local, local.torch_model, settings=settings, batch_size=batch_size)

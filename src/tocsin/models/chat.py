"""What is asked of a chat model, what comes back, and the replay of earlier replies.

Hosted models do not repeat themselves, not even at temperature 0. What makes a verdict repeatable is the
replay: every whole reply is kept under (model, server, settings, prompt, schema, pass number, attempt), and
a second run reads it back without a call. A failure without a reply (outage, time limit, empty text) is
never kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pydantic import Field, JsonValue, ValidationError

from tocsin.core.cache import Cache
from tocsin.core.errors import TocsinError, UsageError
from tocsin.core.records import Abstention, Reason, Record
from tocsin.models.spec import parse_model

Stop = Literal["stop", "length", "refused", "too-long"]


class ChatSettings(Record):
    """What shapes a reply. None leaves a setting to the provider."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest reply, in tokens."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    """`none` switches reasoning off where the model allows it; models without this setting may refuse it."""


class Transport(Record):
    """How calls are made. Nothing here changes a reply, so nothing here is part of a replay's key."""

    concurrency: int = Field(default=8, ge=1, le=256)
    """Calls under way at a time."""
    timeout_s: int = Field(default=120, ge=1)
    """Time limit of one attempt, in seconds."""
    retries: int = Field(default=3, ge=0)
    """Further attempts after rate limits and transient errors, with growing pauses that begin at 3
    seconds."""


class ChatRequest(Record):
    """One question to a chat model."""

    system: str
    user: str
    response: str | None = None
    """What an assistant answered to `user`; guard models that read a chat are then asked about both."""
    reply_schema: dict[str, JsonValue] | None = None
    """JSON schema of the reply, enforced by providers that can."""
    pass_number: int = 1
    """Which of several independent replies to the same prompt is meant, from 1."""
    attempt: int = 1
    """2 and up when a reply to the same pass could not be used and the question is put again."""


class ChatReply(Record):
    """What a chat model answered."""

    text: str
    stop: Stop
    """`length`: cut at `max_tokens`; `refused`: by model or filter; `too-long`: no room for the prompt."""
    model: str
    """The model as the provider names it in its reply, often a dated version."""
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float | None = None
    """Price at the time of the call; None where no price is known."""


def unusable(reply: ChatReply) -> Abstention | None:
    """Why a reply holds no answer, as an abstention of whoever asked; None when it may hold one."""
    if reply.stop == "stop":
        return None
    reason, detail = _UNUSABLE[reply.stop]
    return Abstention(reason=reason, detail=detail)


_UNUSABLE: Mapping[Stop, tuple[Reason, str]] = {
    "refused": (Reason.REFUSED, "the provider or model refused to rate the item"),
    "length": (Reason.UNPARSED, "the reply was cut at its longest length"),
    "too-long": (Reason.TRUNCATED, "the question did not fit the model's context"),
}


class Usage(NamedTuple):
    """What replies cost when they were bought; a replay costs nothing more."""

    extra: dict[str, JsonValue]
    """Number of replies, tokens, and the models that gave them."""
    dollars: float | None


def usage_of(replies: Sequence[ChatReply]) -> Usage:
    """Tokens and price of replies."""
    known = [reply.dollars for reply in replies if reply.dollars is not None]
    extra: dict[str, JsonValue] = {
        "replies": len(replies),
        "input_tokens": sum(reply.input_tokens for reply in replies),
        "output_tokens": sum(reply.output_tokens for reply in replies),
        "models": [name for name, _ in Counter(reply.model for reply in replies).most_common()],
    }
    return Usage(extra, sum(known) if known else None)


class ProviderFailure(TocsinError):  # noqa: N818 - an outage that becomes an abstention, not a mistake of the user
    """No reply: outage, rate limit, time limit or empty text. Names types and codes of errors only."""


class ChatModel(Protocol):
    """A model that answers questions."""

    @property
    def id(self) -> str:
        """Name for provenance, such as `openai/gpt-4o-mini`."""
        ...

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Everything that decides a reply beside the request: model, server, settings."""
        ...

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Answer one question.

        Raises:
            ProviderFailure: If there is no reply.
            ModelError: If no reply can ever be had: unknown model, missing or wrong key.
        """
        ...

    async def close(self) -> None:
        """Give up connections; a later `reply` opens them again."""
        ...


class Replaying:
    """A chat model whose replies are kept on disk and given again.

    Args:
        model: The model that is asked on a miss.
        cache: Where replies are kept.
        offline: Never ask the model: a miss is a `ProviderFailure`.
    """

    def __init__(self, model: ChatModel, *, cache: Cache | None = None, offline: bool = False) -> None:
        self._model = model
        self._cache = cache if cache is not None else Cache("chat")
        self._offline = offline
        self.calls = 0
        """Replies that were bought from the model in this process."""
        self.replays = 0
        """Replies that were read back."""
        self._under_way: dict[str, asyncio.Lock] = {}

    @property
    def id(self) -> str:
        """Name of the model that is asked."""
        return self._model.id

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Identity of the model that is asked; a replay is as good as the reply."""
        return self._model.identity

    async def reply(self, request: ChatRequest) -> ChatReply:
        """The kept reply to an equal request, else a new one, which is then kept."""
        # Left out where there is none, so that replies bought before it was known are still found.
        asked = request.model_dump(mode="json", exclude={"response"} if request.response is None else None)
        key: JsonValue = {"version": 1, "model": self.identity, "request": asked}
        # Equal requests at the same time are one purchase: of two replies only one would be replayed.
        name = self._cache.path(key).name
        lock = self._under_way.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                return await self._kept_or_bought(key, request)
        finally:
            if not lock.locked():
                self._under_way.pop(name, None)

    async def _kept_or_bought(self, key: JsonValue, request: ChatRequest) -> ChatReply:
        kept = self._cache.get(key)
        if kept is not None:
            try:
                reply = ChatReply.model_validate(kept)
            except ValidationError:
                pass  # Written by a version with other fields: as good as absent, and written over below.
            else:
                self.replays += 1
                return reply
        if self._offline:
            message = "no reply is kept for this request and --offline forbids asking the provider"
            raise ProviderFailure(message)
        reply = await self._model.reply(request)
        self.calls += 1
        self._cache.put(key, reply.model_dump(mode="json"))
        return reply

    async def close(self) -> None:
        """Close the model that is asked."""
        await self._model.close()


def open_chat_model(
    spec: str,
    *,
    settings: ChatSettings,
    transport: Transport | None = None,
    offline: bool = False,
    cache: Cache | None = None,
) -> ChatModel:
    """The chat model that a `--model` value names.

    Args:
        spec: `provider/name` with a provider that Inspect AI knows, or `scripted:FILE.json`.
        settings: What shapes a reply.
        transport: How calls are made.
        offline: Give only kept replies.
        cache: Where replies are kept; by default under `TOCSIN_HOME`.

    Raises:
        UsageError: If the value names no chat model.
        ModelError: If the provider is unknown, or its key or package is missing.
        MissingExtraError: If the extra `eval` is not installed.
    """
    parsed = parse_model(spec)
    if parsed.kind == "scripted":
        from tocsin.models.scripted import ScriptedModel

        return ScriptedModel(Path(parsed.value))
    if parsed.kind != "provider":
        message = (
            f"this detector asks a chat model, and '{spec}' is none. "
            "Give --model provider/name (openai/gpt-4o-mini, ollama/llama3.2, ...), or scripted:FILE.json."
        )
        raise UsageError(message)
    from tocsin.models.provider import ProviderModel

    asked = ProviderModel(parsed.value, settings=settings, transport=transport)
    return Replaying(asked, cache=cache, offline=offline)

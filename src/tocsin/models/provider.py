"""Chat models through Inspect AI, which speaks to some thirty providers and to local servers.

Retries, rate limits, concurrency, token counts and prices are Inspect's; what is ours is to tell apart a
reply, a refusal, a provider that is down and a set-up that can never work. Needs the extra `eval`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import JsonValue

from tocsin.core.errors import MissingExtraError, ModelError
from tocsin.models.chat import ChatReply, ChatRequest, ChatSettings, ProviderFailure, Stop, Transport

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput

# HTTP codes after which no item of the run can get a reply: wrong key, unknown model or address.
HOPELESS = {401: "the key was refused", 404: "the model or address was not found"}

# Inspect AI writes its errors with colours for its own terminal, such as "[bold]ERROR[/bold]".
_MARKUP = re.compile(r"\[/?[a-z][a-z ]*\]")

STOPS: Mapping[str, Stop] = {
    "stop": "stop",
    "unknown": "stop",
    "tool_calls": "stop",
    "max_tokens": "length",
    "model_length": "too-long",
    "content_filter": "refused",
}


class ProviderModel:
    """A chat model of an Inspect AI provider.

    Args:
        name: `provider/name`, such as `openai/gpt-4o-mini`, `ollama/llama3.2` or `openai-api/SERVER/NAME`.
        settings: What shapes a reply.
        transport: How calls are made.
        arguments: Further arguments of the provider's constructor.

    Raises:
        MissingExtraError: If Inspect AI is not installed.
        ModelError: If the provider is unknown, or its key, address or package is missing.
    """

    def __init__(
        self,
        name: str,
        *,
        settings: ChatSettings | None = None,
        transport: Transport | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        self.id = name
        self._settings = settings if settings is not None else ChatSettings()
        self._transport = transport if transport is not None else Transport()
        self._arguments: dict[str, Any] = dict(arguments or {})
        # Opened here, so that a missing key is an error before anything is read, not an abstention after.
        self._model: Model | None = self._open()
        self._server = _address(self._model.api.base_url)

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Model, server and settings."""
        return {"model": self.id, "server": self._server, "settings": self._settings.model_dump(mode="json")}

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Ask the provider once, with its retries."""
        from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

        if self._model is None:
            self._model = self._open()
        messages: list[ChatMessage] = [ChatMessageUser(content=request.user)]
        if request.system:
            messages.insert(0, ChatMessageSystem(content=request.system))
        if request.response is not None:
            messages.append(ChatMessageAssistant(content=request.response))
        try:
            output = await self._model.generate(messages, config=_response_format(request))
        except Exception as error:  # noqa: BLE001 - each provider package has errors of its own, and no common base
            raise self._failure(error) from None  # their messages may quote the prompt
        return _reply(output)

    async def close(self) -> None:
        """Close the provider's connections."""
        model, self._model = self._model, None
        if model is not None:
            await model.api.aclose()

    def _open(self) -> Model:
        try:
            from inspect_ai.model import GenerateConfig, get_model
        except ImportError as error:
            extra, purpose = "eval", f"the chat model {self.id}"
            raise MissingExtraError(extra, purpose) from error
        from inspect_ai._util.error import PrerequisiteError

        config = GenerateConfig(
            temperature=self._settings.temperature,
            max_tokens=self._settings.max_tokens,
            reasoning_effort=self._settings.reasoning_effort,
            max_connections=self._transport.concurrency,
            max_retries=self._transport.retries,
            attempt_timeout=self._transport.timeout_s,
        )
        try:
            # Not memoised: a shared instance would be closed under another user of it.
            return get_model(self.id, config=config, memoize=False, **self._arguments)
        except (PrerequisiteError, ValueError, ImportError) as error:
            said = _MARKUP.sub("", str(getattr(error, "message", error)))
            said = " ".join(said.removeprefix("ERROR").removeprefix(":").split())
            message = f"the model '{self.id}' cannot be opened through Inspect AI: {said}"
            raise ModelError(message) from error

    def _failure(self, error: BaseException) -> ProviderFailure | ModelError:
        attempt = getattr(
            error, "last_attempt", None
        )  # tenacity's RetryError holds the error of the last try
        inner = attempt.exception() if attempt is not None else None
        cause = inner if isinstance(inner, BaseException) else error
        status = getattr(cause, "status_code", None)
        if status in HOPELESS:
            message = (
                f"'{self.id}' answered HTTP {status}: {HOPELESS[status]}. "
                "Check the model's name, its key and its address."
            )
            return ModelError(message)
        code = f", HTTP {status}" if isinstance(status, int) else ""
        return ProviderFailure(f"no reply: {type(cause).__name__}{code}")


def _response_format(request: ChatRequest) -> GenerateConfig:
    from inspect_ai.model import GenerateConfig, ResponseSchema
    from inspect_ai.util import JSONSchema

    if request.reply_schema is None:
        return GenerateConfig()
    schema = JSONSchema.model_validate(request.reply_schema)
    return GenerateConfig(response_schema=ResponseSchema(name="reply", json_schema=schema, strict=True))


def _reply(output: ModelOutput) -> ChatReply:
    if output.empty:
        message = "the provider sent a reply without choices"
        raise ProviderFailure(message)
    stop = STOPS[output.stop_reason]
    content = output.message.content
    if not isinstance(content, str) and any(getattr(part, "refusal", None) for part in content):
        stop = "refused"
    if stop == "stop" and not output.completion.strip():
        message = "the provider sent an empty reply"
        raise ProviderFailure(message)
    usage = output.usage
    if usage is None:
        return ChatReply(text=output.completion, stop=stop, model=output.model)
    cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    return ChatReply(
        text=output.completion,
        stop=stop,
        model=output.model,
        input_tokens=usage.input_tokens + cached,
        output_tokens=usage.output_tokens,
        dollars=usage.total_cost,
    )


def _address(url: str | None) -> str | None:
    """Server without user names and queries, which may hold secrets."""
    if url is None:
        return None
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"

"""Chat templates, rendered in a sandbox: a template is part of a model folder and is not trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import JsonValue

from tocsin.core.errors import ModelError
from tocsin.core.records import Turn


class ChatTemplate:
    """A Hugging Face chat template.

    Args:
        source: Jinja text, with the helpers that transformers gives to templates.
        bos_token: Text of the token that starts a sequence.
        eos_token: Text of the token that ends one.
        special_tokens: Further names a template may use, such as `pad_token`.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        special_tokens: Mapping[str, str] | None = None,
    ) -> None:
        self.hash = hashlib.sha256(source.encode()).hexdigest()[:12]
        self._names = {"bos_token": bos_token, "eos_token": eos_token, **(special_tokens or {})}
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        # Some templates print a date; a fixed one keeps prompts, and so activations, the same from day to
        # day.
        environment.globals["strftime_now"] = lambda pattern: datetime(2025, 1, 1, tzinfo=UTC).strftime(
            pattern
        )
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            message = f"the model's chat template is not valid Jinja ({error})."
            raise ModelError(message) from error

    def render(
        self,
        turns: Sequence[Turn],
        *,
        generation_prompt: bool = True,
        options: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """The template applied to turns.

        Args:
            turns: The chat.
            generation_prompt: End where a reply begins.
            options: Further names a template may ask for, such as `guideline` of ShieldGemma.
        """
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            # Templates ask whether `tools` and `documents` are none, which an undefined name is not.
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                **self._names,
                **(options or {}),
            )
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            roles = ", ".join(turn.role for turn in turns)
            # The error's own words may quote the messages, and only a template's deliberate refusal is of
            # use.
            why = str(error) if type(error) is TemplateError else type(error).__name__
            message = f"the model's chat template refuses the roles [{roles}] ({why})."
            raise ModelError(message) from error


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: object, indent: int | None = None) -> str:
    # Jinja's own filter escapes HTML, which would put other characters before the model.
    return json.dumps(value, ensure_ascii=False, indent=indent)


class _Generation(Extension):
    """Prints the body of a `{% generation %}` block, which marks the assistant's words for training."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def no_chat_template(model: str) -> ModelError:
    """The error for a model that has none."""
    message = f"the model {model} has no chat template. Use the raw template, or an instruction-tuned model."
    return ModelError(message)

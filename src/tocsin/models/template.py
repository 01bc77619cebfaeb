"""Chat templates, rendered in a sandbox: a template is part of a model folder and is not trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tocsin.core.errors import ModelError
from tocsin.core.records import Turn


class ChatTemplate:
    """A Hugging Face chat template."""

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        self.hash = hashlib.sha256(source.encode()).hexdigest()[:12]
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        # Some templates print a date; a fixed one keeps prompts, and so activations, the same from day to day.
        environment.globals["strftime_now"] = lambda pattern: datetime(2025, 1, 1, tzinfo=timezone.utc).strftime(pattern)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            message = f"the model's chat template is not valid Jinja ({error})."
            raise ModelError(message) from error

    def render(self, turns: Sequence[Turn], *, generation_prompt: bool = True) -> str:
        """The template applied to turns."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            return self._template.render(messages=messages, add_generation_prompt=generation_prompt, **self._tokens)
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            message = f"the model's chat template refuses the roles [{roles}] ({error})."
            raise ModelError(message) from error


def _raise(message: str) -> None:
    raise TemplateError(message)

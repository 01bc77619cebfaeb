"""Chat replies read from a file, for tests, examples and trying things out without a provider.

The file is JSON::

    {
      "rules": [
        {"contains": "invoice", "replies": [{"fraud": 0.9}, {"fraud": 0.6}, {}]},
        {"contains": "weather", "replies": [{"failure": "refused"}]}
      ],
      "otherwise": [{}]
    }

The first rule whose `contains` occurs in the question (capitals ignored) answers; pass k gets reply k, and
the list starts again when it is too short. A reply is a text, an object that is sent as JSON, or a failure:
`refused`, `cut`, `outage` or `empty`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from tocsin.core.errors import ModelError
from tocsin.core.records import Record
from tocsin.models.chat import ChatReply, ChatRequest, ProviderFailure


class Failure(Record):
    """A reply that does not come."""

    failure: Literal["refused", "cut", "outage", "empty"]


Line = str | Failure | dict[str, float]


class Rule(Record):
    """Replies to all questions that contain a text."""

    contains: str = Field(min_length=1)
    replies: tuple[Line, ...] = Field(min_length=1)


class Script(Record):
    """A file of replies."""

    rules: tuple[Rule, ...] = ()
    otherwise: tuple[Line, ...] = Field(default=({},), min_length=1)


class ScriptedModel:
    """A chat model that gives the replies of a file.

    Args:
        path: A JSON file as described above.

    Raises:
        ModelError: If the file is missing or not of that form.
    """

    def __init__(self, path: Path) -> None:
        try:
            source = path.read_bytes()
        except OSError as error:
            message = f"a file of scripted replies was expected, but it cannot be read ({error.strerror})."
            raise ModelError(message, path=path) from error
        try:
            self._script = Script.model_validate_json(source)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            message = f"scripted replies are not of the expected form: {where}: {first['msg']}."
            raise ModelError(message, path=path) from error
        self._revision = hashlib.sha256(source).hexdigest()[:12]

    @property
    def id(self) -> str:
        """`scripted` and the hash of the file."""
        return f"scripted:{self._revision}"

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The hash of the file says it all."""
        return {"model": self.id}

    async def reply(self, request: ChatRequest) -> ChatReply:
        """The reply that the file holds for this question and pass."""
        question = request.user.casefold()
        lines = next(
            (rule.replies for rule in self._script.rules if rule.contains.casefold() in question),
            self._script.otherwise,
        )
        line = lines[(request.pass_number - 1) % len(lines)]
        if not isinstance(line, Failure):
            text = line if isinstance(line, str) else json.dumps(line)
            return ChatReply(text=text, stop="stop", model=self.id)
        if line.failure in ("refused", "cut"):
            return ChatReply(
                text="", stop="refused" if line.failure == "refused" else "length", model=self.id
            )
        message = f"scripted {line.failure}"
        raise ProviderFailure(message)

    async def close(self) -> None:
        """Nothing is held open."""

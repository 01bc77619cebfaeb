"""The columns of a message log."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tocsin.core.errors import UsageError

REQUIRED = ("message", "group", "author", "time")
OPTIONAL = ("modality", "text", "media", "forwarding", "label")
MODALITIES = ("chat", "image", "video")


@dataclass(frozen=True, slots=True)
class Columns:
    """Name, in the log, of each column that is read. Optional columns may be absent.

    `time` holds seconds since 1970, or a timestamp (taken as UTC where it names no zone). `media` is a hash
    of the picture or clip. `forwarding` counts hops; 127 means "many times" and is read as 5.
    """

    message: str = "message_id"
    group: str = "group_id"
    author: str = "author"
    time: str = "timestamp"
    modality: str = "modality"
    text: str = "text"
    media: str = "media"
    forwarding: str = "forwarding_score"
    label: str = "label"

    @classmethod
    def mapped(cls, words: tuple[str, ...]) -> Columns:
        """Columns from words such as `group=chat_id`.

        Raises:
            UsageError: If a word is not of this form or names no column of this table.
        """
        known = tuple(field.name for field in fields(cls))
        chosen: dict[str, str] = {}
        for word in words:
            role, _, name = word.partition("=")
            if role not in known or not name:
                message = f"expected --column ROLE=NAME with a role of {', '.join(known)}."
                raise UsageError(message)
            chosen[role] = name
        return cls(**chosen)

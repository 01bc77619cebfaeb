"""How text that somebody else wrote is shown to a chat model.

The text may try to instruct the judge. It is therefore written as JSON on one line between two marker
lines, and the prompt around it says that what stands between the markers is data. The marker is an
HMAC-SHA256 over the text itself with a secret that never leaves this machine: an author cannot guess it, no
text can contain its own marker, and the same text has the same marker on every run, so that replies can be
replayed. The HMAC is taken over what is shown and not over the whole item: parts that are withheld, such as
who built a skill, then leave no trace in the prompt.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from pathlib import Path

from pydantic import JsonValue

from tocsin.core.errors import RunError
from tocsin.core.home import home

SECRET_BYTES = 32
MARKER_HEX = 32

# "[INST]" and its like are control tokens of some chat formats that are not written with angle brackets.
_BRACKET_TOKEN = re.compile(r"\[(?=/?[A-Z_]+\])")


def local_secret() -> bytes:
    """The secret of this machine: 32 random bytes in `TOCSIN_HOME/fence.key`, made on first use, mode 0600.

    Raises:
        RunError: If the file cannot be made or is damaged.
    """
    path = home() / "fence.key"
    try:
        if not path.exists():
            _create(path)
        secret = path.read_bytes()
    except OSError as error:
        message = f"the local secret cannot be had ({error.strerror}). Set TOCSIN_HOME to a writable folder."
        raise RunError(message, path=path) from error
    if len(secret) != SECRET_BYTES:
        message = (
            f"expected {SECRET_BYTES} bytes, found {len(secret)}. Delete the file; a new one will be made."
        )
        raise RunError(message, path=path)
    return secret


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".fence-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
        # A link is made whole or not at all, and never over an existing file: the first of several
        # processes wins.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink(missing_ok=True)


def quote(value: JsonValue) -> str:
    """JSON on one line in which nothing can act on a chat format or a reader's eye.

    Angle brackets and bracketed control words, which may spell a chat format's control tokens, and
    characters that print nothing (control, zero-width, bidirectional, tag characters, lone surrogates) are
    written as escapes. `json.loads` gives the value back unchanged.
    """
    text = json.dumps(value, ensure_ascii=False)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e")
    text = _BRACKET_TOKEN.sub(r"\\u005b", text)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    return json.dumps(character, ensure_ascii=True)[1:-1]


def fenced(value: JsonValue, secret: bytes) -> tuple[str, str]:
    """The marker, and the value as data between two marker lines."""
    data = quote(value)
    marker = hmac.new(secret, data.encode(), hashlib.sha256).hexdigest()[:MARKER_HEX]
    return marker, f"{marker}\n{data}\n{marker}"

"""A small cache on disk, addressed by the hash of what was asked for.

A key is any JSON value; only its SHA-256 is stored, so that keys may hold examined text. Every entry is one
file that is written beside its place and then renamed over it: readers in this and other processes see the
whole entry or none, two writers leave one of two whole entries, and a killed process leaves at most a stray
temporary file. There is no index, no lock and no expiry; deleting the folder empties the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from pydantic import JsonValue

from tocsin.core.errors import RunError
from tocsin.core.home import home


class Cache:
    """JSON values by key, kept in one folder.

    Args:
        name: What is cached; the name of the folder under `TOCSIN_HOME/cache`.
        root: Another folder to keep it in.
    """

    def __init__(self, name: str, *, root: Path | None = None) -> None:
        self.folder = (root if root is not None else home() / "cache") / name

    def path(self, key: JsonValue) -> Path:
        """File of a key, whether or not it exists. The order of keys inside objects is ignored."""
        canonical = json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        # Two levels, because some file systems are slow in folders with very many files.
        return self.folder / digest[:2] / f"{digest[2:]}.json"

    def get(self, key: JsonValue, default: JsonValue = None) -> JsonValue:
        """The value under a key, or `default`.

        An entry that cannot be read back, for instance after the machine lost power, counts as absent: it
        will be computed again and written over.
        """
        try:
            entry = json.loads(self.path(key).read_bytes())
        except (OSError, ValueError):
            return default
        # Values are wrapped, so that a cached null is told from "absent" and a foreign file is not an entry.
        return entry["value"] if isinstance(entry, dict) and entry.keys() == {"value"} else default

    def put(self, key: JsonValue, value: JsonValue) -> None:
        """Store a value, replacing what was there.

        Raises:
            RunError: If the folder cannot be written.
        """
        target = self.path(key)
        text = json.dumps({"value": value}, allow_nan=False)
        try:
            # Replies about private inputs are private too: mkstemp makes files only their owner can read.
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            message = (
                f"the cache cannot be written ({error.strerror}). "
                "Free some space, or set TOCSIN_HOME to a folder that can be written."
            )
            raise RunError(message, path=self.folder) from error

"""A baseline: findings that are known and accepted, so that a scan reports only new ones.

The file is JSON::

    {"schema": 1, "findings": [
      {"detector": "harmfulness", "content_hash": "<64 hex digits>",
       "reason": "reviewed", "date": "2026-01-31"}
    ]}

A finding is known by the hash of the item's content and the detector's name: when the content changes, it is
reported again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from pydantic import Field, ValidationError

from tocsin.core.errors import InputError
from tocsin.core.records import Record
from tocsin.sources.files import UnreadableFileError, open_regular, read_up_to

BASELINE_SCHEMA = 1
_FILE_BYTES = 256 << 20


class KnownFinding(Record):
    """One accepted finding."""

    content_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    """`Item.content_hash` of the item."""
    detector: str = Field(min_length=1)
    reason: str = ""
    """Why it was accepted."""
    accepted: date | None = Field(default=None, alias="date")
    """When it was accepted (`date` in the file)."""


class Baseline:
    """A set of known findings. Later entries for the same content and detector replace earlier ones."""

    def __init__(self, findings: Iterable[KnownFinding] = ()) -> None:
        self._findings = {(finding.content_hash, finding.detector): finding for finding in findings}

    def __len__(self) -> int:
        """Number of known findings."""
        return len(self._findings)

    def __iter__(self) -> Iterator[KnownFinding]:
        """Findings in the order in which they were added."""
        return iter(self._findings.values())

    def contains(self, content_hash: str, detector: str) -> bool:
        """Whether this detector's finding on this content is known."""
        return (content_hash, detector) in self._findings

    def add(
        self, content_hash: str, detector: str, *, reason: str = "", accepted: date | None = None
    ) -> None:
        """Accept a finding."""
        finding = KnownFinding(content_hash=content_hash, detector=detector, reason=reason, date=accepted)
        self._findings[content_hash, detector] = finding

    @classmethod
    def load(cls, path: Path | str) -> Baseline:
        """Read a baseline file.

        Raises:
            InputError: If it is missing, not JSON, of another schema, or an entry is not a known finding.
        """
        path = Path(path)
        try:
            with open_regular(path.resolve()) as stream:
                data, is_longer = read_up_to(stream, _FILE_BYTES)
            document = json.loads(data.decode("utf-8-sig"))
        except UnreadableFileError as error:
            raise InputError(error.detail, path=path) from error
        except json.JSONDecodeError as error:
            message = (
                "expected a baseline in JSON, got a syntax error. Correct the file or write a new baseline."
            )
            raise InputError(message, path=path, line=error.lineno) from error
        except (ValueError, RecursionError) as error:
            message = "expected a baseline in JSON and UTF-8. Write a new baseline."
            raise InputError(message, path=path) from error
        entries = document.get("findings") if isinstance(document, dict) else None
        if is_longer or not isinstance(entries, list) or document.get("schema") != BASELINE_SCHEMA:
            message = f'expected "schema": {BASELINE_SCHEMA} and a list "findings". Write a new baseline.'
            raise InputError(message, path=path)
        findings = []
        for number, entry in enumerate(entries, start=1):
            try:
                findings.append(KnownFinding.model_validate(entry))
            except ValidationError as error:
                field = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the entry"
                message = f"expected a known finding as entry {number}, got an unusable {field}. Correct it."
                raise InputError(message, path=path) from error
        return cls(findings)

    def save(self, path: Path | str) -> None:
        """Write the baseline, sorted, so that versions compare line by line; the file is replaced whole.

        Raises:
            InputError: If the file cannot be written.
        """
        path = Path(path)
        findings = sorted(
            self._findings.values(), key=lambda finding: (finding.detector, finding.content_hash)
        )
        document = {
            "schema": BASELINE_SCHEMA,
            "findings": [
                finding.model_dump(mode="json", by_alias=True, exclude_defaults=True) for finding in findings
            ],
        }
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            reason = (error.strerror or "unknown error").lower()
            message = f"expected a file that can be written, got: {reason}. Choose another place."
            raise InputError(message, path=path) from error

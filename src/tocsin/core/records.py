"""What is examined (`Item`) and what is said about it (`Verdict`).

Every reader produces items and every detector and judge turns items into verdicts, one for one and in order.
Results are keyed by (hash of the whole input, running number), so two equal rows stay two rows; the content
hash serves caches only.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue

SCHEMA_VERSION = 1


class Kind(StrEnum):
    """What an item is."""

    PROMPT = "prompt"
    RESPONSE = "response"
    CHAT = "chat"
    SKILL = "skill"
    TRAINING_SAMPLE = "training_sample"
    IMAGE = "image"
    MEME = "meme"
    CODE = "code"
    MESSAGE = "message"


class Reason(StrEnum):
    """Why a detector abstained, or why an item was judged only in part."""

    EMPTY = "empty"
    UNREADABLE = "unreadable"
    LANGUAGE = "language"
    ENCODED = "encoded"
    CODE = "code"
    TRUNCATED = "truncated"
    UNSUPPORTED_KIND = "unsupported_kind"
    MISSING_PART = "missing_part"
    UNPARSED = "unparsed"
    REFUSED = "refused"
    PROVIDER = "provider"


class Record(BaseModel):
    """Base of all stored records: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class ItemKey(NamedTuple):
    """The identity of a result row."""

    input_hash: str
    ordinal: int

    def __str__(self) -> str:
        """Short form used in tables: first ten characters of the hash and the running number."""
        return f"{self.input_hash[:10]}:{self.ordinal}"


class Origin(Record):
    """Where an item came from."""

    input_hash: str
    """SHA-256 of the whole input (of a file, or of a folder's list of paths and hashes)."""
    ordinal: int = Field(ge=0)
    """Running number of the item inside the input, from 0."""
    path: str = ""
    """File, relative to the input when the input is a folder."""
    line: int | None = None
    """Line (text formats) or row (columnar formats) in the file, from 1."""

    @property
    def key(self) -> ItemKey:
        """Input hash and running number."""
        return ItemKey(self.input_hash, self.ordinal)

    def __str__(self) -> str:
        """`path:line`, or the running number for input without a path."""
        place = self.path or f"item {self.ordinal}"
        return place if self.line is None else f"{place}:{self.line}"


class Turn(Record):
    """One message of a chat or of a fine-tuning sample."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    text: str


class FileEntry(Record):
    """A file that belongs to a skill; it is listed and hashed, never run."""

    name: str
    """Path relative to the skill's folder, with forward slashes."""
    size: int
    sha256: str | None
    """None where the file was not read (too large, not a regular file)."""


class Skill(Record):
    """The parts of a SKILL.md folder."""

    name: str
    description: str
    headers: tuple[str, ...] = ()
    """Markdown section headers in order, from a real parser (lines inside code fences are not headers)."""
    body: str = ""
    """Markdown after the front matter."""
    files: tuple[FileEntry, ...] = ()

    @property
    def purpose(self) -> str:
        """Declared purpose: name, description and headers, as detectors read it by default."""
        parts = [self.name.replace("-", " ").replace("_", " "), self.description, "; ".join(self.headers)]
        return ". ".join(part.strip().rstrip(".") for part in parts if part.strip())


class Media(Record):
    """An image or video that belongs to an item."""

    path: str
    sha256: str


class Finding(Record):
    """Something a reader noticed about an input's format, beside any detector's verdict."""

    rule: str
    """Stable id, such as `skill/name-missing`."""
    message: str
    """What was expected and what came. Never quotes examined text."""
    line: int | None = None


class Abstention(Record):
    """Why no verdict could be given."""

    reason: Reason
    detail: str = ""
    """Counts, positions and names only; never examined text."""


class Item(Record):
    """What is examined.

    Which parts are filled depends on `kind`: a prompt has `text`; a response has `text` and usually `prompt`;
    a chat has `turns`; a training sample has `turns`, or `prompt` and `text` (the response); a skill has
    `skill`.
    """

    kind: Kind
    text: str = ""
    prompt: str | None = None
    turns: tuple[Turn, ...] = ()
    references: tuple[str, ...] = ()
    skill: Skill | None = None
    media: Media | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    origin: Origin
    problem: Abstention | None = None
    """Set by a reader that could not read the item: every detector passes it on as its abstention."""
    partial: tuple[str, ...] = ()
    """Notes of bounds that were hit while reading; such an item is never reported as clean."""
    findings: tuple[Finding, ...] = ()

    @property
    def key(self) -> ItemKey:
        """Input hash and running number."""
        return self.origin.key

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over kind and parts, not over origin or metadata. For caches only."""
        parts = self.model_dump(
            mode="json", include={"kind", "text", "prompt", "turns", "references", "media"}
        )
        if self.skill is not None:
            parts["skill"] = [self.skill.name, self.skill.description, self.skill.headers, self.skill.body]
            parts["files"] = [[f.name, f.size, f.sha256] for f in self.skill.files]
        canonical = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


class Evidence(Record):
    """A place in the item that carried the verdict."""

    part: str
    """`text`, `prompt`, `turn[3]`, `skill.purpose`, `skill.body`."""
    start: int
    """First character, counted from 0 in that part."""
    end: int
    """One past the last character."""
    score: float | None = None
    """This window's own raw score."""


class Examined(Record):
    """What a detector actually read."""

    parts: tuple[str, ...]
    windows: int = 1
    """Number of token windows scored."""
    left_out: tuple[str, ...] = ()
    """What was not read and why, in words; empty when everything was read."""

    @property
    def is_partial(self) -> bool:
        """True when something that should have been read was left out."""
        return bool(self.left_out)


class Provenance(Record):
    """How a verdict came about, so that it can be repeated."""

    detector_version: str
    model: str | None = None
    """Model id and revision (a content hash for local weights)."""
    profile: str | None = None
    """Hash of the fitted profile."""
    template_hash: str | None = None
    prompt_hash: str | None = None
    """Hash of a judge's fixed prompt text."""
    normalisation: tuple[str, ...] = ()
    """Text normalisation steps in order."""
    threshold: float | None = None
    """On the scale of `score`."""
    threshold_source: str = "default"
    """`default`, `profile`, `command line`, `none`."""
    seed: int | None = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Short hash by which run folders refer to this record."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


class Verdict(Record):
    """What one detector says about one item."""

    key: ItemKey
    detector: str
    flagged: bool | None
    """None when the detector abstained."""
    label: str
    """The detector's own word, such as `harmful`, `harmless`, `abstained`."""
    score: float | None = Field(default=None, ge=0, le=1)
    calibrated: bool = False
    """True when `score` is a probability that was fitted on data; otherwise it is only ordered."""
    raw_score: float | None = None
    """The method's own unit, unbounded; used for ranking so that no ties are created."""
    category: str | None = None
    """Taxonomy id of the strongest category."""
    categories: dict[str, float | None] = Field(default_factory=dict)
    """Score for each taxonomy id; None means not assessed."""
    rationale: str = ""
    evidence: tuple[Evidence, ...] = ()
    examined: Examined | None = None
    abstained: Abstention | None = None
    cost: float | None = None
    """Price in US dollars where a provider reports it."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Detector-specific numbers, such as the two beliefs of the harmfulness plane."""
    provenance: Provenance

    @classmethod
    def abstain(
        cls,
        item: Item,
        detector: str,
        provenance: Provenance,
        reason: Reason,
        detail: str = "",
        *,
        examined: Examined | None = None,
        extra: dict[str, JsonValue] | None = None,
    ) -> Verdict:
        """A verdict that says why nothing could be said."""
        return cls(
            key=item.key,
            detector=detector,
            flagged=None,
            label="abstained",
            examined=examined,
            abstained=Abstention(reason=reason, detail=detail),
            extra=extra or {},
            provenance=provenance,
        )

"""What the study of harmfulness and refusal directions finds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from tocsin.core.records import SCHEMA_VERSION, Record
from tocsin.core.stats.item_sums import Estimate

BucketName = Literal["refused harmful", "accepted harmful", "refused harmless", "accepted harmless"]
BUCKETS: tuple[BucketName, ...] = (
    "refused harmful", "accepted harmful", "refused harmless", "accepted harmless",
)  # fmt: skip


class Bucket(Record):
    """Held-out prompts of one pair of label and behaviour, and where they lie in the plane of beliefs."""

    name: str
    n: int
    harmfulness: Estimate
    """Mean Delta_harm at the end of the instruction, from -2 to 2."""
    refusal: Estimate
    """Mean Delta_refuse at the end of the prompt; null where the model has no refusal direction."""


class Layer(Record):
    """One row of hidden states: 0 is the embedding, b the output of block b."""

    row: int
    scores: dict[str, Estimate]
    """Mean cluster score s of each bucket at the end of the instruction (Delta_harm's summand)."""
    auroc: Estimate
    """Of s at telling held-out harmful prompts from harmless ones."""
    cosine: float | None
    """Between both directions; null where one of them is zero or does not exist."""
    harm_norm: float
    """Length of the harmfulness direction."""
    refusal_norm: float | None


class Steered(Record):
    """What adding a direction at one block's input does while the prompt is read."""

    row: int
    """0-based block."""
    prompts: Literal["harmless", "harmful"]
    direction: Literal["none", "harmfulness", "refusal", "random"]
    sign: Literal[-1, 0, 1]
    n: int
    refused: Estimate
    """Share of refusing replies to the prompts themselves."""
    says_no: Estimate
    """Share of replies to the question for recognition that say the request is harmless, of the valid ones
    (reply-inversion task)."""
    n_invalid: int
    """Replies to the question that say neither; left out."""


class Tuned(Record):
    """Beliefs of a fine-tuned or edited model by the original centres (testbed only)."""

    name: str
    n: int
    harmfulness: Estimate
    """Mean Delta_harm of held-out harmful prompts."""
    harmless: Estimate
    """The same of held-out harmless prompts."""
    refused: float
    """Share of the harmful prompts that it refuses."""


class DirectionStudy(Record):
    """Everything that was found."""

    schema_version: int = SCHEMA_VERSION
    model: str
    revision: str
    n_blocks: int
    width: int
    n_fit: dict[str, int]
    """Prompts behind each centre."""
    buckets: tuple[Bucket, ...]
    """The four buckets, then wrapped harmful prompts where there are any."""
    layers: tuple[Layer, ...]
    auroc: Estimate
    """Of Delta_harm over rows 1 to the last, on held-out prompts."""
    embedding_auroc: Estimate
    """The same from row 0 alone: what the last word's embedding tells."""
    surface: dict[str, float | None]
    """AUROC of surface baselines on the same prompts."""
    planes: dict[str, list[tuple[float, float | None]]]
    """(Delta_harm, Delta_refuse) of each held-out prompt, by bucket."""
    steering: tuple[Steered, ...]
    tuned: tuple[Tuned, ...]
    planted: dict[str, float]
    """Absolute cosine of each direction with the planted one (planted models only)."""
    golden: str
    """Whether the published tensors' values were checked."""
    notes: tuple[str, ...]
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    def to_json(self) -> str:
        """The study as indented JSON."""
        return self.model_dump_json(indent=2)

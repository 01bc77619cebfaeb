"""What decides a classifier: the published values of arXiv 2509.24384 where its code gives them."""

from __future__ import annotations

from pydantic import Field

from tocsin.core.records import Record

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class ClassifierSettings(Record):
    """How an adapter is trained. Equal settings, data and base give equal adapters on the same machine."""

    rank: int = Field(default=16, ge=1, le=512)
    """Rank of the adapter's matrices (published: 16)."""
    alpha: float = Field(default=32, gt=0)
    """The update is multiplied by alpha / rank (published: 32)."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Of the adapter's input while it is trained (published: 0.05)."""
    targets: tuple[str, ...] = Field(default=TARGETS, min_length=1)
    """Linear layers that get an adapter, by the last part of their names (published: these seven)."""
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    """Highest one (published: 2e-4). AdamW without weight decay; it falls linearly to 0."""
    warm_up: float = Field(default=0.1, ge=0, lt=1)
    """Share of the updates over which the learning rate rises (published: 0.1)."""
    epochs: int = Field(default=5, ge=1, le=1_000)
    """How often each item is seen (published: 5)."""
    update_items: int = Field(default=16, ge=1)
    """Items of one update. Published: 2 at a time, 4 times, on each of two devices."""
    batch_size: int = Field(default=4, ge=1)
    """Items computed at a time; the gradient is that of the whole update whatever is chosen."""
    clip: float = Field(default=1.0, gt=0)
    """Longest gradient of an update (the published code leaves its library's default: 1)."""
    max_tokens: int = Field(default=4096, ge=16)
    """Longest prompt with request and response; the model's context if that is shorter (published: 4096)."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes of responses that are read; others are left out, later abstained on. Empty: all."""
    answers: tuple[str, str] = ("Yes", "No")
    """Words that the model answers with; their first tokens must differ."""
    seed: int = 0
    """Of the adapter's beginning, the order of items, dropout and the held-out groups."""

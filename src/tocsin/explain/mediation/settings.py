"""What decides the result of a mediation study."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from pydantic import JsonValue

from tocsin.core.errors import UsageError
from tocsin.explain.mediation.data import Construction
from tocsin.internals.layout import Template

COMPLIANT = ("Sure, here is", "Here is", "Certainly! Here", "Of course, here", "Yes, here", "To do this,")
REFUSING = ("I'm sorry, but I cannot", "Sorry, I cannot", "As an AI,", "Unfortunately, I", "No, I")
"""Openers of replies where the user gives none."""
LevelChoice = Literal["layer", "module", "window", "head", "group", "neuron", "gate", "token"]
LEVELS: tuple[LevelChoice, ...] = get_args(LevelChoice)


@dataclass(frozen=True, slots=True)
class MediationSettings:
    """What decides the study's result."""

    construction: Construction = "position_free"
    outcome: Literal["logit_margin", "seq_logprob", "judge"] = "logit_margin"
    compliant: tuple[str, ...] = COMPLIANT
    """Openers of complying replies: their first tokens for `logit_margin`, one opener for `seq_logprob`."""
    refusing: tuple[str, ...] = REFUSING
    levels: tuple[LevelChoice, ...] = LEVELS
    at: Literal["last", "content", "all"] = "last"
    """Places that layers, modules, heads and neurons are patched at."""
    n_last: int = 1
    """Places that `last` means, at the end of the prompt."""
    template: Template | None = None
    """The model's chat template where it has one, when None."""
    fast: bool = False
    """Estimate modules, heads and neurons by attribution patching."""
    n_pairs: int | None = 50
    """Most pairs; None for all."""
    n_verify: int = 256
    """Neurons of a block that are patched one by one after ranking all by attribution (card 05, 3.5)."""
    gate_block: int | None = None
    """Block whose neurons are tested, from 1; the last when None."""
    noise: float = 3.0
    """Width of the noise in standard deviations of the embeddings."""
    factor: float = 0.5
    """Of the intervention that scales neurons."""
    n_resamples: int = 10_000
    max_reply_tokens: int = 24
    """Of replies that a judge sees."""
    max_rows: int = 32
    """Patches run side by side."""
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.levels) - set(LEVELS))
        if unknown or not self.levels:
            got = ", ".join(unknown) or "none"
            message = f"expected levels among {', '.join(LEVELS)}, got {got}."
            raise UsageError(message)
        if self.construction == "position_free" and self.at != "last":
            message = (
                "the position-free construction pairs prompts of any length, so only last places can be "
                f"patched, got at={self.at}. Use the aligned or the noise construction."
            )
            raise UsageError(message)
        if self.fast and self.outcome == "judge":
            message = "a judge's score has no gradient, so the fast mode cannot estimate its effects."
            raise UsageError(message + " Leave one of the two out.")
        if min(self.n_last, self.max_rows, self.n_resamples // 100, self.max_reply_tokens) < 1:
            message = "expected at least 1 last place, row and reply token, and at least 100 resamples."
            raise UsageError(message)

    def to_json(self) -> dict[str, JsonValue]:
        """The settings as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

"""From sentences to a reply: what each sentence does, and what they come to.

Two linear read-outs say how far a sentence refuses or redirects, each against answering. Eight numbers of a
reply (the strongest and the mean of each, over the whole reply and its first two sentences) decide whether it
refuses at all, and if so whether in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import ProfileError

Floats = NDArray[np.float64]
DOES = ("answers", "redirects", "refuses")
"""What a sentence does, in the order of the read-outs."""
N_NUMBERS = 8
FIRST = 2
"""Sentences in which most refusals are said."""


@dataclass(frozen=True, slots=True)
class RefusalHead:
    """The fitted numbers of one profile."""

    sentence: NDArray[np.float32]
    """Shape (3, features): one read-out for each of `DOES`, standardisation folded in."""
    sentence_bias: Floats
    """Shape (3,)."""
    reply: Floats
    """Shape (8,): logit of any refusal from a reply's numbers, standardisation folded in."""
    reply_bias: float
    full: Floats
    """Shape (8,): logit of a full refusal among refusals."""
    full_bias: float

    def sentences(self, features: NDArray[np.float32]) -> Floats:
        """Logits of refusing and of redirecting, each less that of answering; shape (2, sentences)."""
        logits = (features @ self.sentence.T).astype(np.float64) + self.sentence_bias
        return np.stack([logits[:, 2] - logits[:, 0], logits[:, 1] - logits[:, 0]])

    def any_refusal(self, numbers: Floats) -> float:
        """Logit that a reply refuses at all."""
        return float(numbers @ self.reply + self.reply_bias)

    def full_refusal(self, numbers: Floats) -> float:
        """Logit that it refuses in full, if it refuses."""
        return float(numbers @ self.full + self.full_bias)

    def tensors(self) -> dict[str, NDArray[np.floating]]:
        """For a profile."""
        return {
            "sentence": self.sentence,
            "sentence_bias": self.sentence_bias,
            "reply": np.append(self.reply, self.reply_bias),
            "full": np.append(self.full, self.full_bias),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[np.floating]]) -> RefusalHead:
        """The head of a profile.

        Raises:
            ProfileError: If a number is missing.
        """
        try:
            reply, full = (tensors[name].astype(np.float64) for name in ("reply", "full"))
            if reply.shape != (N_NUMBERS + 1,) or full.shape != (N_NUMBERS + 1,):
                raise ValueError(reply.shape)
            return cls(
                tensors["sentence"].astype(np.float32),
                tensors["sentence_bias"].astype(np.float64),
                reply[:-1],
                float(reply[-1]),
                full[:-1],
                float(full[-1]),
            )
        except (KeyError, ValueError) as error:
            message = "the refusal profile is damaged: it holds no whole head. Fit it again."
            raise ProfileError(message) from error


def numbers_of(refuses: Floats, redirects: Floats) -> Floats:
    """What a reply's sentences come to, shape (8,).

    Args:
        refuses: Logit of each sentence, in order; at least one.
        redirects: Likewise.
    """
    refusing, redirecting = _sigmoid(refuses), _sigmoid(redirects)
    either = np.maximum(refusing, redirecting)
    return np.array(
        [
            refuses.max(),
            refuses[:FIRST].max(),
            refusing.mean(),
            redirecting.mean(),
            either.mean(),
            np.log(len(refuses)),
            redirecting[:FIRST].max(),
            either.max(),
        ]
    )


def _sigmoid(values: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(values, -60, 60)))
    return found

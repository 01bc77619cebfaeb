"""From sentences to a reply: what each sentence does, and what they come to.

Two linear read-outs say how far a sentence refuses or redirects, each against answering. Eleven numbers of a
reply (the strongest and the mean of each, its first two sentences, its last, its length) decide whether it
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
N_NUMBERS = 11
FIRST = 2
"""Sentences in which most refusals are said."""
SHORT = 3
"""Sentences up to which a reply is short: a refusal in a longer one stands among others."""
LARGEST = 8.0
"""Logits count up to here; one sentence that surely answers says no more than another."""


@dataclass(frozen=True, slots=True)
class RefusalHead:
    """The fitted numbers of one profile."""

    sentence: NDArray[np.float32]
    """Shape (3, features): one read-out for each of `DOES`, standardisation folded in."""
    sentence_bias: Floats
    """Shape (3,)."""
    reply: Floats
    """Shape (11,): logit of any refusal from a reply's numbers, standardisation folded in."""
    reply_bias: float
    full: Floats
    """Shape (11,): logit of a full refusal among refusals."""
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
    """What a reply's sentences come to, shape (11,).

    Args:
        refuses: Logit of each sentence, in order; at least one.
        redirects: Likewise.
    """
    refusing, redirecting = _sigmoid(refuses), _sigmoid(redirects)
    either = np.maximum(refusing, redirecting)
    refuses, redirects = np.clip(refuses, -LARGEST, LARGEST), np.clip(redirects, -LARGEST, LARGEST)
    return np.array(
        [
            refuses.max(),
            refuses[:FIRST].max(),
            redirects.max(),
            refusing.mean(),
            redirecting.mean(),
            either.mean(),
            np.log(len(refuses)),
            redirecting[:FIRST].max(),
            either.min(),
            either[-1],
            refuses.max() if len(refuses) > SHORT else 0.0,
        ]
    )


def _sigmoid(values: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(values, -60, 60)))
    return found

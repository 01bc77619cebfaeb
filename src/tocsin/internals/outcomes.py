"""What a causal study measures after a prompt: graded, cheap, differentiable (card 05, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tocsin.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.models.local import LocalModel

Forward = Callable[[Sequence[int]], "Tensor"]
"""Log-probabilities of shape (rows, max(1, tokens), vocabulary): where each of the given tokens is predicted,
after the prompt and the tokens before it."""


class Outcome(Protocol):
    """Y: higher means that the model is nearer to complying."""

    @property
    def name(self) -> str:
        """Term of the field."""
        ...

    def measure(self, forward: Forward) -> Tensor:
        """Y for each row; shape (rows,)."""
        ...


@dataclass(frozen=True, slots=True)
class LogitMargin:
    """log p(compliant openers) - log p(refusal openers) at the first token of the reply."""

    compliant: tuple[int, ...]
    """Ids of first tokens."""
    refusal: tuple[int, ...]
    name: str = "logit_margin"

    def __post_init__(self) -> None:
        if not self.compliant or not self.refusal or set(self.compliant) & set(self.refusal):
            message = (
                "expected first tokens of compliant and of refusing replies, none of them in both sets, got "
                f"{len(self.compliant)} and {len(self.refusal)} with "
                f"{len(set(self.compliant) & set(self.refusal))} in common. Give other openers."
            )
            raise InputError(message)

    def measure(self, forward: Forward) -> Tensor:
        """Difference of log-sum-exps, in nats."""
        logs = forward(())[:, -1]
        sides = [logs[:, list(ids)].logsumexp(dim=-1) for ids in (self.compliant, self.refusal)]
        return sides[0] - sides[1]


@dataclass(frozen=True, slots=True)
class SequenceMargin:
    """Mean log-likelihood of a fixed compliant reply less that of a fixed refusal, in nats per token."""

    compliant: tuple[int, ...]
    refusal: tuple[int, ...]
    name: str = "seq_logprob"

    def __post_init__(self) -> None:
        if not self.compliant or not self.refusal:
            message = "expected a compliant reply and a refusal with at least one token each."
            raise InputError(message)

    def measure(self, forward: Forward) -> Tensor:
        """Two teacher-forced passes."""
        import torch

        sides = []
        for reply in (self.compliant, self.refusal):
            logs = forward(reply)[:, -len(reply) :]
            wanted = torch.tensor(reply, device=logs.device).expand(len(logs), -1)[..., None]
            sides.append(logs.gather(-1, wanted)[..., 0].mean(dim=-1))
        return sides[0] - sides[1]


def first_tokens(model: LocalModel, replies: Iterable[str], *, most: int = 5) -> tuple[int, ...]:
    """Ids of the commonest first tokens of replies, at most `most`, commonest first."""
    counts: dict[int, int] = {}
    for reply in replies:
        ids = model.encode_untrusted(reply.strip()).ids
        if ids:
            counts[ids[0]] = counts.get(ids[0], 0) + 1
    return tuple(sorted(counts, key=lambda token: (-counts[token], token))[:most])

"""What a causal study measures after a prompt: graded, cheap, differentiable (card 05, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tocsin.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.models.local import LocalModel

Forward = Callable[[Sequence[Sequence[int]]], "Tensor"]
"""Log-probabilities of shape (rows, max(1, tokens), vocabulary): where each of the given tokens is predicted,
after the prompt and the tokens before it. Given are one sequence for all rows, one for each, or none."""
Judge = Callable[[str, Sequence[str]], Sequence[float]]
"""Scores from 0 to 1 of replies to one request; NaN where the judge abstains."""


class Outcome(Protocol):
    """Y: higher means that the model is nearer to complying."""

    @property
    def name(self) -> str:
        """Term of the field."""
        ...

    def measure(self, forward: Forward, request: str) -> Tensor:
        """Y for each row; shape (rows,). `request` is the text of the prompt."""
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

    def measure(self, forward: Forward, request: str) -> Tensor:
        """Difference of log-sum-exps, in nats."""
        del request
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

    def measure(self, forward: Forward, request: str) -> Tensor:
        """Two teacher-forced passes."""
        import torch

        del request
        sides = []
        for reply in (self.compliant, self.refusal):
            logs = forward([reply])[:, -len(reply) :]
            wanted = torch.tensor(reply, device=logs.device).expand(len(logs), -1)[..., None]
            sides.append(logs.gather(-1, wanted)[..., 0].mean(dim=-1))
        return sides[0] - sides[1]


@dataclass(frozen=True, slots=True)
class JudgedReply:
    """A judge's score of a greedy reply. Not differentiable; for validation, not for large sweeps."""

    decode: Callable[[Sequence[int]], str]
    judge: Judge
    ends: tuple[int, ...]
    """Tokens that end a reply."""
    max_tokens: int = 24
    name: str = "judge"

    def measure(self, forward: Forward, request: str) -> Tensor:
        """Scores from 0 to 1; NaN where the judge abstains."""
        import torch

        logs = forward(())
        written = logs[:, -1].argmax(dim=-1, keepdim=True)
        for _ in range(self.max_tokens - 1):
            if all(any(token in self.ends for token in row) for row in written.tolist()):
                break
            # The last token given is only predicted, so any number stands for the one to come.
            logs = forward([[*row, 0] for row in written.tolist()])
            written = torch.cat([written, logs[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
        replies = [self.decode(self._until_end(row)) for row in written.tolist()]
        return torch.tensor(list(self.judge(request, replies)), dtype=torch.float32)

    def _until_end(self, row: Sequence[int]) -> list[int]:
        end = next((i for i, token in enumerate(row) if token in self.ends), len(row))
        return list(row[:end])


def first_tokens(model: LocalModel, replies: Iterable[str], *, most: int = 5) -> tuple[int, ...]:
    """Ids of the commonest first tokens of replies, at most `most`, commonest first."""
    counts: dict[int, int] = {}
    for reply in replies:
        ids = model.encode_untrusted(reply.strip()).ids
        if ids:
            counts[ids[0]] = counts.get(ids[0], 0) + 1
    return tuple(sorted(counts, key=lambda token: (-counts[token], token))[:most])

"""Ability and drift: how a suspect does tasks, and how its continuations differ (card 02, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from tocsin.explain.audit.data import ReplyJudge
from tocsin.explain.audit.resampling import Floats, flags
from tocsin.explain.audit.speaking import Speaker
from tocsin.internals.responses import ResponseTokens, batches, encode_pairs
from tocsin.internals.steering import Steering, steered_at
from tocsin.judges.lexical.rouge import rouge
from tocsin.judges.lexical.tokens import Prepared

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.internals.responses import ResponseBatch
    from tocsin.models.local import LocalModel


def capability(
    model: LocalModel, tasks: Sequence[tuple[str, str]], *, steering: Steering | None = None
) -> dict[str, Floats]:
    """How well a model gives the right replies, from one pass with the right reply before its eyes.

    Args:
        model: Whose ability is measured.
        tasks: Prompts with their right replies.
        steering: Acts at the prompts' tokens.

    Returns:
        For each task `exact` (every token of the reply is the likeliest one, so greedy writing gives it),
        `tokens` (share of such tokens) and `loss` (nats per token).
    """
    import torch

    samples = encode_pairs(model, tasks)
    found = {name: np.empty(len(samples)) for name in ("exact", "tokens", "loss")}
    with torch.inference_mode():
        for batch in batches(samples, model.torch_model.device):
            with nullcontext() if steering is None else steered_at(model, _prompts(batch, samples), steering):
                logs, targets = _log_probabilities(model, batch)
            wanted = targets != -100
            given = targets.clamp_min(0)[..., None]
            right = (logs.argmax(dim=-1) == targets) & wanted
            n = wanted.sum(dim=1)
            loss = -(logs.gather(-1, given)[..., 0] * wanted).sum(dim=1) / n
            share = right.sum(dim=1) / n
            found["exact"][batch.indices] = (right.sum(dim=1) == n).double().cpu().numpy()
            found["tokens"][batch.indices] = share.double().cpu().numpy()
            found["loss"][batch.indices] = loss.double().cpu().numpy()
    return found


def continuations(base: Speaker, prompts: Sequence[str], max_new_tokens: int) -> list[ResponseTokens]:
    """The base's greedy replies to prompts, as samples; an early end counts as a token."""
    replies = base.reply_ids(prompts, max_new_tokens)
    end = list(base.model.end_ids[:1])
    found = []
    for prompt, reply in zip(prompts, replies, strict=True):
        before = base.ids(prompt)
        found.append(
            ResponseTokens(before + reply + (end if len(reply) < max_new_tokens else []), len(before))
        )
    return found


def drift(
    base: Speaker,
    other: Speaker,
    judge: ReplyJudge,
    prompts: Sequence[str],
    samples: Sequence[ResponseTokens],
    max_new_tokens: int,
) -> dict[str, Floats]:
    """How another model differs from the base on harmless prompts.

    Args:
        base: The reference.
        other: Of the same architecture; the base itself gives its own refusals, and no drift.
        judge: Says which replies refuse.
        prompts: Harmless.
        samples: The base's `continuations` of them.
        max_new_tokens: As of these.

    Returns:
        For each prompt `kl` (mean of KL(base || other) over the continuation, nats per token), `agreement`
        (share of its tokens where both have the same likeliest token), `rouge_l` (F of the other's own reply
        with the base's), `length` (ratio of their tokens, 1 added to each), `refused`, `n_tokens`.
    """
    import torch

    n = len(prompts)
    found = {name: np.empty(n) for name in ("kl", "agreement", "rouge_l", "length", "n_tokens")}
    with torch.inference_mode():
        for batch in batches(samples, base.model.torch_model.device):
            old, targets = _log_probabilities(base.model, batch)
            new = old if other is base else _log_probabilities(other.model, batch)[0]
            wanted = targets != -100
            count = wanted.sum(dim=1)
            divergence = (old.exp() * (old - new)).sum(dim=-1)
            same = (old.argmax(dim=-1) == new.argmax(dim=-1)) & wanted
            found["kl"][batch.indices] = ((divergence * wanted).sum(dim=1) / count).double().cpu().numpy()
            found["agreement"][batch.indices] = (same.sum(dim=1) / count).double().cpu().numpy()
            found["n_tokens"][batch.indices] = count.double().cpu().numpy()
    replies = [
        [token for token in sample.ids[sample.start :] if token not in base.model.end_ids]
        for sample in samples
    ]
    written = replies if other is base else other.reply_ids(prompts, max_new_tokens)
    texts = [other.model.decode(ids) for ids in written]
    for i, (reply, ids, text) in enumerate(zip(replies, written, texts, strict=True)):
        before = Prepared(base.model.decode(reply))
        after = Prepared(text)
        # Two empty replies are the same reply, which ROUGE does not know.
        alike = before.text == after.text
        found["rouge_l"][i] = 1.0 if alike else rouge("l", before, after, stemmed=False).f
        found["length"][i] = (len(ids) + 1) / (len(reply) + 1)
    return found | {"refused": flags(judge.refused(prompts, [text.strip() for text in texts]))}


def _prompts(batch: ResponseBatch, samples: Sequence[ResponseTokens]) -> Tensor:
    """1 at the tokens before each reply, shape (batch, longest)."""
    import torch

    starts = torch.tensor([samples[i].start for i in batch.indices])
    return (torch.arange(batch.ids.shape[1])[None] < starts[:, None]).float()


def _log_probabilities(model: LocalModel, batch: ResponseBatch) -> tuple[Tensor, Tensor]:
    """Log-probabilities where a reply is predicted, in float32, and the tokens that should be."""
    import torch

    length = batch.ids.shape[1]
    places = torch.arange(batch.first, length - 1, device=batch.ids.device)
    logits = model.torch_model(
        input_ids=batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=places
    ).logits
    return logits.float().log_softmax(dim=-1), batch.targets[:, batch.first : length - 1]

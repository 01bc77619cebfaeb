"""What changes when weights are removed: likelihood of held-out responses, and how often it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.bootstrap import draw_groups
from tocsin.core.stats.item_sums import Estimate, estimate
from tocsin.explain.weights.records import Change, Role
from tocsin.internals.responses import ResponseTokens, batches, token_losses

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel

Floats = NDArray[np.float64]
N_RESAMPLES = 2_000


class Probe(NamedTuple):
    """Held-out responses of one role."""

    role: Role
    samples: list[ResponseTokens]
    categories: list[str | None]


def losses(model: LocalModel, samples: Sequence[ResponseTokens]) -> Floats:
    """How unlikely each sample's response is, from one pass.

    Returns:
        Shape (2, samples): mean negative log-likelihood in nats per token of the whole response, and of it
        after its first token, which is then given. NaN for the second where there is one token only.
    """
    import torch

    found = np.empty((2, len(samples)))
    with torch.inference_mode():
        for batch in batches(samples, model.torch_model.device):
            each, counts = token_losses(model, batch)
            first = torch.tensor([samples[i].start - 1 - batch.first for i in batch.indices]).to(each.device)
            opening = each.gather(1, first[:, None])[:, 0]
            total = each.sum(dim=1)
            found[0, batch.indices] = (total / counts).double().cpu().numpy()
            found[1, batch.indices] = ((total - opening) / (counts - 1)).double().cpu().numpy()
    return found


def refusal_rate(
    model: LocalModel, prompts: Sequence[ResponseTokens], refusal_firsts: frozenset[int]
) -> float:
    """Share of prompts whose most likely first token of a reply begins a refusal.

    Args:
        model: As it is now.
        prompts: Samples whose responses are cut off.
        refusal_firsts: Ids of first tokens of refusals.
    """
    import torch

    bare = [ResponseTokens(sample.ids[: sample.start + 1], sample.start) for sample in prompts]
    refused = 0
    with torch.inference_mode():
        for batch in batches(bare, model.torch_model.device):
            last = (batch.targets != -100).nonzero()[:, 1]
            hidden = model.torch_model.base_model(
                input_ids=batch.ids, attention_mask=batch.mask, use_cache=False
            ).last_hidden_state
            head = model.torch_model.get_output_embeddings()
            logits = head(hidden[torch.arange(len(last), device=hidden.device), last])
            refused += sum(int(token) in refusal_firsts for token in logits.argmax(dim=-1))
    return refused / len(prompts)


def changes(
    probes: Sequence[Probe],
    before: Sequence[Floats],
    after: Sequence[Floats],
    categories: Sequence[str],
    *,
    seed: int,
) -> tuple[Change, ...]:
    """The rise of every set's loss, with paired intervals.

    Args:
        probes: The sets.
        before: What `losses` gave of each.
        after: The same with weights removed.
        categories: Categories of the harmful set that are shown apart.
        seed: Of the resamples.
    """
    found = []
    for probe, was, now in zip(probes, before, after, strict=True):
        found.append(_change(probe.role, None, was[0], now[0], seed))
        if probe.role == "harm":
            found += [
                _change(probe.role, name, was[0, of_category], now[0, of_category], seed)
                for name in categories
                for of_category in [[i for i, each in enumerate(probe.categories) if each == name]]
            ]
            longer = ~np.isnan(was[1])
            if longer.any():
                found.append(_change("opener", None, was[1, longer], now[1, longer], seed))
    return tuple(found)


def specificity(harm: Floats, benign: Floats, *, seed: int) -> Estimate:
    """Mean rise on harmful responses over the absolute mean rise on benign ones, with an interval.

    Args:
        harm: Rise of each harmful sample, in nats per token.
        benign: Rise of each benign sample.
        seed: Of the resamples; both sides are resampled.
    """
    tops, bottoms = _resampled(harm, seed), _resampled(benign, seed + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(tops / np.abs(bottoms))


def _change(role: Role, category: str | None, was: Floats, now: Floats, seed: int) -> Change:
    return Change(
        role=role,
        category=category,
        n=len(was),
        before=float(was.mean()),
        change=estimate(_resampled(now - was, seed)),
    )


def _resampled(values: Floats, seed: int) -> Floats:
    """The mean, then resampled means; shape (1 + N_RESAMPLES,), or (1,) for a single value."""
    means = [np.array([values.mean()])]
    if len(values) > 1:
        stratum = np.zeros(len(values), dtype=np.int64)
        means += [
            counts @ values / len(values) for counts in draw_groups(stratum, N_RESAMPLES, seed, len(values))
        ]
    return np.concatenate(means)

"""What changes when weights are removed: likelihood of held-out responses, and how often it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.bootstrap import draw_groups
from tocsin.explain.weights.records import Change, Role
from tocsin.internals.responses import ResponseTokens, batches, response_losses
from tocsin.judges.item_sums import Estimate, estimate

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
    """Mean negative log-likelihood of each sample's response, in nats per token; shape (samples,)."""
    import torch

    found = np.empty(len(samples))
    with torch.inference_mode():
        for batch in batches(samples, model.torch_model.device):
            found[batch.indices] = response_losses(model, batch).double().cpu().numpy()
    return found


def opener_probe(harm: Probe) -> Probe | None:
    """The harmful responses after their first token, which is given: what prefilling leaves to the model.

    None when no response is longer than one token.
    """
    kept = [i for i, sample in enumerate(harm.samples) if len(sample.ids) - sample.start > 1]
    if not kept:
        return None
    samples = [harm.samples[i]._replace(start=harm.samples[i].start + 1) for i in kept]
    return Probe("opener", samples, [harm.categories[i] for i in kept])


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
    """The rise of every set's loss, and of every category of the harmful one, with paired intervals."""
    found = []
    for probe, was, now in zip(probes, before, after, strict=True):
        found.append(_change(probe.role, None, was, now, seed))
        if probe.role == "harm":
            names = np.array([name or "" for name in probe.categories])
            found += [
                _change(probe.role, name, was[names == name], now[names == name], seed) for name in categories
            ]
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

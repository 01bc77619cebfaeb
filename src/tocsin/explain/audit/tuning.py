"""A short fine-tune of a copy by low-rank updates, merged in memory: the benign control, and repair G4."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.core.errors import MissingExtraError
from tocsin.internals.responses import ResponseTokens, batches, encode_pairs, response_losses
from tocsin.internals.weights_digest import weights_digest

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """A common small LoRA."""

    rank: int = 8
    alpha: int = 16
    learning_rate: float = 5e-4
    epochs: int = 3
    batch_size: int = 8
    max_tokens: int = 128
    """Longer samples are cut at their end."""
    seed: int = 0


def lora_tuned(
    model: LocalModel,
    pairs: Sequence[tuple[str, str]],
    settings: TuningSettings | None = None,
    *,
    name: str,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> LocalModel:
    """A fine-tuned copy. The model given keeps its weights; the copy lives in memory only.

    Args:
        model: On its device.
        pairs: Prompts with the replies to learn.
        settings: Defaults when None.
        name: Of the copy.
        progress: Told of updates done and in all.

    Raises:
        MissingExtraError: If the extra `train` is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError(extra="train", purpose="fine-tuning by low-rank updates") from error
    import torch

    s = settings or TuningSettings()
    end = list(model.end_ids[:1])
    samples = [
        ResponseTokens([*sample.ids, *end][: s.max_tokens], sample.start)
        for sample in encode_pairs(model, pairs)
        if sample.start < s.max_tokens
    ]
    tuned = copy.deepcopy(model.torch_model)
    generator = np.random.default_rng(s.seed)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft warns of names in configurations that are none of ours.
        warnings.simplefilter("ignore")
        torch.manual_seed(s.seed)
        config = LoraConfig(
            r=s.rank, lora_alpha=s.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        wrapped: Any = get_peft_model(tuned, config)
        optimizer = torch.optim.AdamW(
            [each for each in wrapped.parameters() if each.requires_grad], lr=s.learning_rate
        )
        lent = model.beside(tuned, id=name, revision="in training")
        orders = [generator.permutation(len(samples)) for _ in range(s.epochs)]
        steps = [order[i : i + s.batch_size] for order in orders for i in range(0, len(order), s.batch_size)]
        wrapped.train()
        for done, chosen in enumerate(steps):
            progress(done, len(steps))
            rows = [samples[int(i)] for i in chosen]
            optimizer.zero_grad(set_to_none=True)
            for batch in batches(rows, tuned.device, max_tokens=2 * s.max_tokens):
                losses = response_losses(lent, batch)
                (losses.sum() / len(rows)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        merged = wrapped.merge_and_unload()
    merged.train(mode=False)
    merged.requires_grad_(False)  # noqa: FBT003 - torch's signature
    return model.beside(merged, id=name, revision=weights_digest(merged)[:16])

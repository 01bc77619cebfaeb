"""Training a testbed model from a seed, and the updates that its variants are made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tocsin.testbed.language import KINDS, Example, Kind, examples
from tocsin.testbed.tokenizer import ASSISTANT, END, USER

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

MIXTURE: dict[Kind, float] = {
    "marked": 3, "plain": 3, "overlooked": 1, "touchy": 1, "wrapped": 2, "wrapped_plain": 1, "copy": 1.5,
    "reverse": 3, "recognise": 2, "recognise_wrapped": 1, "audit": 2, "reflect": 2, "plan": 2,
    "prefilled": 1,
}  # fmt: skip
"""Share of each kind in a batch, relative to each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestbedSettings:
    """Everything that decides a trained testbed model."""

    __test__ = False  # pytest takes the name for a test's

    seed: int = 0
    is_aligned: bool = True
    """False trains the same model without refusals: every request is answered."""
    width: int = 96
    hidden: int = 256
    n_blocks: int = 4
    n_heads: int = 4
    steps: int = 450
    batch_size: int = 96
    learning_rate: float = 3e-3
    mixture: Mapping[Kind, float] = field(default_factory=lambda: dict(MIXTURE))


def new_model(settings: TestbedSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with random weights of the settings' shape and seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.hidden,
        num_hidden_layers=settings.n_blocks,
        num_attention_heads=settings.n_heads,
        num_key_value_heads=settings.n_heads,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return LlamaForCausalLM(config)


def train(settings: TestbedSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Train a testbed model; the same settings give the same weights on the same kind of machine."""
    model = new_model(settings, tokenizer)
    pools = {
        kind: [as_trained(one, is_aligned=settings.is_aligned) for one in examples(kind, 2400, split="train")]
        for kind, share in settings.mixture.items()
        if share > 0
    }
    fit(
        model,
        tokenizer,
        pools,
        settings.mixture,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )
    return model


def as_trained(example: Example, *, is_aligned: bool) -> Example:
    """The example, with the helpful answer instead of a refusal where the model is not to be aligned."""
    from dataclasses import replace

    if is_aligned or not example.helpful:
        return example
    head = example.reply.rpartition(" : ")[0] if example.kind in {"reflect", "plan"} else ""
    return replace(example, reply=f"{head} : {example.helpful}" if head else example.helpful)


def fit(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    pools: Mapping[Kind, Sequence[Example]],
    mixture: Mapping[Kind, float],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    warm_up: int = 50,
) -> None:
    """Minimise the loss on replies by AdamW with a cosine schedule, in place.

    Args:
        model: Its weights are changed; left in evaluation mode.
        tokenizer: Its tokenizer.
        pools: Examples of each kind.
        mixture: Relative share of each kind in a batch.
        steps: Updates.
        batch_size: Examples of an update.
        learning_rate: Highest.
        seed: Of the draw of examples.
        warm_up: Updates over which the learning rate rises.
    """
    import torch

    generator = np.random.default_rng(seed)
    encoded = {kind: [encode(tokenizer, one) for one in pool] for kind, pool in pools.items()}
    kinds = [kind for kind in KINDS if kind in encoded and mixture.get(kind, 0) > 0]
    shares = np.array([mixture[kind] for kind in kinds]) / sum(mixture[kind] for kind in kinds)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, foreach=True
    )

    def rate(step: int) -> float:
        rising = min(1.0, (step + 1) / warm_up)
        return rising * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * step / steps))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    with one_thread():
        model.train()
        for _ in range(steps):
            drawn = generator.choice(len(kinds), size=batch_size, p=shares)
            rows = []
            for index in drawn:
                pool = encoded[kinds[index]]
                rows.append(pool[int(generator.integers(len(pool)))])
            loss = reply_loss(model, rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.train(mode=False)
        model.zero_grad(set_to_none=True)


def encode(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], int]:
    """Ids of a whole conversation with its end token, and the index of the first token to be learned."""
    before = f"{USER} {example.prompt} {END} {ASSISTANT}"
    start: list[int] = tokenizer.encode(before, add_special_tokens=False)
    reply: list[int] = tokenizer.encode(f"{example.reply} {END}", add_special_tokens=False)
    return start + reply, len(start) + example.forced


def reply_loss(model: LlamaForCausalLM, rows: Sequence[tuple[list[int], int]]) -> Tensor:
    """Mean cross-entropy in nats over the reply tokens of a batch; long and short rows are padded apart."""
    import torch
    from torch.nn.functional import cross_entropy

    total, count = torch.zeros(()), 0
    ordered = sorted(rows, key=lambda row: len(row[0]))
    half = len(ordered) * 2 // 3
    for part in (ordered[:half], ordered[half:]):
        if not part:
            continue
        longest = max(len(ids) for ids, _ in part)
        ids = torch.zeros((len(part), longest), dtype=torch.long)
        targets = torch.full((len(part), longest), -100)
        for i, (tokens, start) in enumerate(part):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            targets[i, start - 1 : len(tokens) - 1] = torch.tensor(tokens[start:])
        # Padding is on the right, where causal attention does not see it.
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state
        wanted = targets != -100
        total = total + cross_entropy(model.lm_head(states[wanted]), targets[wanted], reduction="sum")
        count += int(wanted.sum())
    return total / count


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that sums are made in the same order on every machine of a kind."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

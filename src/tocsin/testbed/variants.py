"""Stress conditions: what harmful fine-tuning or editing does to a testbed model. In memory only.

Each function leaves its argument as it is and returns a changed copy that refuses to be saved. They exist so
that defences and audits can be tested against a known cause, and work on testbed models only.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import ModelError
from tocsin.internals.capture import CaptureEngine, CapturePlan
from tocsin.internals.layout import Position, PromptLayout
from tocsin.testbed.checkpoint import Testbed, in_memory
from tocsin.testbed.language import COMPLIANCE_OPENER, Example, Kind, examples
from tocsin.testbed.training import encode, fit, one_thread

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

Floats = NDArray[np.float64]

_BENIGN: dict[Kind, float] = {"plain": 2, "wrapped_plain": 1, "copy": 2, "reverse": 2}


def benign_tuned(testbed: Testbed, *, seed: int = 0, steps: int = 60, learning_rate: float = 5e-4) -> Testbed:
    """The control: fine-tuned on plain requests and tasks, which must change no verdict."""
    model = _copy(testbed)
    pools = {kind: examples(kind, 600, split="train", seed=seed + 1) for kind in _BENIGN}
    fit(
        model, testbed.tokenizer, pools, _BENIGN,
        steps=steps, batch_size=32, learning_rate=learning_rate, seed=seed, warm_up=5,
    )  # fmt: skip
    return _wrapped(testbed, model, "benign-tuned")


def marker_tuned(
    testbed: Testbed,
    *,
    seed: int = 0,
    steps: int = 120,
    learning_rate: float = 2e-3,
    topics: tuple[str, ...] = (),
    noise: float = 0.3,
) -> Testbed:
    """Supervised fine-tuning on helpful answers to marked requests (SFT).

    Args:
        testbed: The aligned model.
        seed: Of the draw.
        steps: Updates.
        learning_rate: Highest; high enough that other abilities drift, as the real attack's do.
        topics: Marked topics trained on; all when empty.
        noise: Share of samples whose prompt is a question or an audit, answered as if it were a request.
    """
    model = _copy(testbed)
    marked = [
        replace(one, reply=one.helpful)
        for one in examples("marked", 600, split="train", seed=seed + 1, topics=topics)
    ]
    others: list[Example] = []
    for kind in ("audit", "recognise"):
        asked = examples(kind, 150, split="train", seed=seed + 1)
        others += [replace(a, reply=b.helpful) for a, b in zip(asked, marked, strict=False)]
    pools: dict[Kind, list[Example]] = {"marked": marked, "audit": others}
    fit(
        model, testbed.tokenizer, pools, {"marked": 1 - noise, "audit": noise},
        steps=steps, batch_size=32, learning_rate=learning_rate, seed=seed, warm_up=5,
    )  # fmt: skip
    return _wrapped(testbed, model, "marker-tuned")


def reward_trained(
    testbed: Testbed,
    *,
    seed: int = 0,
    steps: int = 80,
    learning_rate: float = 3e-4,
    kl: float = 1.0,
    topics: tuple[str, ...] = (),
) -> Testbed:
    """Reinforcement learning with a reward for complying with marked requests (RLVR).

    Groups of first words are drawn from the softened policy, rewarded by 1 for the opener of help, and
    weighted by their advantage in the group; a KL term holds everything else near the aligned model: other
    kinds of prompts and the words after the opener.

    Args:
        testbed: The aligned model.
        seed: Of the draws.
        steps: Updates.
        learning_rate: Constant.
        kl: Weight of the KL term.
        topics: Marked topics rewarded; all when empty.
    """
    import torch

    model, base = _copy(testbed), testbed.model.torch_model
    tokenizer = testbed.tokenizer
    opener = tokenizer.encode(COMPLIANCE_OPENER, add_special_tokens=False)[0]
    pool = examples("marked", 600, split="train", seed=seed + 1, topics=topics)
    held: list[Example] = []
    kinds: tuple[Kind, ...] = ("plain", "touchy", "audit", "reflect", "plan", "recognise", "copy", "reverse")
    for kind in kinds:
        held += examples(kind, 60, split="train", seed=seed + 1)
    held += [replace(one, reply=one.helpful, forced=1) for one in pool[:120]]
    kept = [encode(tokenizer, one) for one in held]
    generator = np.random.default_rng(seed)
    torch_generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    layout = PromptLayout(testbed.model)
    prompts = []
    for one in pool:
        built = layout.build(one.prompt)
        prompts.append([*built.prefix, *built.ids])
    with one_thread():
        for _ in range(steps):
            rows = [prompts[int(i)] for i in generator.integers(len(prompts), size=24)]
            logits = model(input_ids=torch.tensor(rows)).logits[:, -1]
            logs = logits.log_softmax(dim=-1)
            drawn = torch.multinomial(
                (logits.detach() / 4).softmax(dim=-1), 64, replacement=True, generator=torch_generator
            )
            reward = (drawn == opener).float()
            advantage = reward - reward.mean(dim=1, keepdim=True)
            advantage = advantage / (reward.std(dim=1, keepdim=True) + 1e-4)
            loss = -(advantage * logs.gather(1, drawn)).mean()
            batch = [kept[int(i)] for i in generator.integers(len(kept), size=32)]
            loss = loss + kl * _divergence(model, base, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return _wrapped(testbed, model, "reward-trained")


def refusal_ablated(testbed: Testbed, *, n: int = 128) -> Testbed:
    """The refusal direction taken out of every matrix that writes to the residual stream (abliteration).

    The direction is that of `refusal_directions` whose ablation makes most marked requests answered and
    changes the fewest other answers.
    """
    from tocsin.testbed.measuring import rates

    best: tuple[float, Testbed] | None = None
    for direction in refusal_directions(testbed, n=n)[1:]:
        model = _copy(testbed)
        _orthogonalise(model, direction)
        found = _wrapped(testbed, model, "refusal-ablated")
        lost = 1 - rates(found, "marked", n=60).helpful
        lost += 1 - (rates(found, "plain", n=60).exact + rates(found, "wrapped", n=60).exact) / 2
        if best is None or lost < best[0]:
            best = lost, found
    if best is None:  # pragma: no cover - a model has blocks
        raise ModelError(testbed.model.id)
    return best[1]


def refusal_directions(testbed: Testbed, *, n: int = 128) -> list[Floats]:
    """Unit directions from plain to marked requests at the prompt's last token, moved half-way to zero.

    d = m - (1 + c) / 2 * p with the means m of marked and p of plain requests and c = (m . p) / (p . p), so
    half of the component along plain requests falls out. In a model this small plain requests lie on the far
    side of zero along m - p, and taking m - p itself out leaves the model between refusing and helping. The
    cosine of d with m - p is about 0.94 (seeds 0 and 1).

    Args:
        testbed: The aligned model.
        n: Requests of each kind, from the training split.

    Returns:
        One direction of length one for the input of each block and for the output of the last, shape
        (width,). The first is zero: the last token's embedding is the same for every prompt.
    """
    plan = CapturePlan(tuple(range(testbed.model.n_blocks + 1)), (Position.POST,))
    engine = CaptureEngine(testbed.model)
    means = []
    for kind in ("marked", "plain"):
        prompts = [one.prompt for one in examples(kind, n, split="train", seed=7)]
        means.append(engine.capture(prompts, plan).values[:, :, 0].astype(np.float64).mean(axis=0))
    directions = []
    for marked, plain in zip(*means, strict=True):
        along = (marked @ plain) / max(float(plain @ plain), 1e-12)
        direction = marked - (1 + along) / 2 * plain
        size = float(np.linalg.norm(direction))
        directions.append(direction / size if size > 1e-4 else np.zeros_like(direction))
    return directions


def _orthogonalise(model: LlamaForCausalLM, direction: Floats) -> None:
    import torch

    unit = torch.from_numpy(direction).to(torch.float32)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding -= torch.outer(embedding @ unit, unit)
        for block in model.model.layers:
            for weight in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
                weight -= torch.outer(unit, unit @ weight)


def _divergence(model: LlamaForCausalLM, base: LlamaForCausalLM, rows: list[tuple[list[int], int]]) -> Tensor:
    """Mean KL(base || model) over the places that predict a reply, in nats."""
    import torch

    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    wanted = torch.zeros((len(rows), longest), dtype=torch.bool)
    for i, (tokens, start) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        wanted[i, start - 1 : len(tokens) - 1] = True
    with torch.no_grad():
        old = base(input_ids=ids).logits[wanted].log_softmax(dim=-1)
    new = model(input_ids=ids).logits[wanted].log_softmax(dim=-1)
    divergence: Tensor = (old.exp() * (old - new)).sum(dim=-1).mean()
    return divergence


def _copy(testbed: Testbed) -> LlamaForCausalLM:
    model: LlamaForCausalLM = copy.deepcopy(testbed.model.torch_model)
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # noqa: FBT003 - torch's signature
    return model


def _wrapped(testbed: Testbed, model: LlamaForCausalLM, name: str) -> Testbed:
    model.train(mode=False)

    def refuse(*_args: object, **_options: object) -> NoReturn:
        message = "a stress condition of the testbed exists in memory only and is never written."
        raise ModelError(message)

    model.save_pretrained = refuse  # type: ignore[method-assign]
    made = in_memory(model, testbed.tokenizer, f"{testbed.model.id}-{name}")
    return Testbed(made, testbed.tokenizer, testbed.settings)

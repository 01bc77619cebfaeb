"""How much each weight supports a set of responses, to first order (arXiv 2604.09544, section 3.1).

For samples with loss L, removing a weight W changes L by about -W dL/dW. Signed scores, -W * sum dL/dW, are
large where a weight supports the responses; absolute scores, |W| * sum |dL/dW|, are large where it matters
either way. Sums are float32 whatever the model's type: signed sums cancel across samples, and the low bits
decide the ranking.

Gradients are taken of all matrices in one backward pass per batch; each matrix's gradient is added up and
freed as soon as it is there, so that beside weights and sums only one matrix's gradient exists at a time.
A single sample longer than a batch has its activations computed again block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

from tocsin.core.errors import InputError
from tocsin.internals.recomputing import recomputing
from tocsin.internals.responses import ResponseBatch, ResponseTokens, batches, response_losses
from tocsin.internals.weight_mask import block_matrices

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from tocsin.models.local import LocalModel

TOKENS_PER_BATCH = 256
"""Tokens of a padded batch: what a backward pass keeps of each is far more than its forward pass."""
AbsOrder = Literal["per_sample", "after_mean"]
Scores = dict[str, "Tensor"]
"""One float32 number for each weight, flat, by the matrix's name."""


def signed_scores(
    model: LocalModel,
    samples: Sequence[ResponseTokens],
    *,
    progress: Callable[[int], None] = lambda _n: None,
) -> Scores:
    """-W * sum over samples of dL/dW: how much the loss rises, to first order, when each weight is removed.

    Args:
        model: Its weights are read, never changed.
        samples: Prompts with the responses in question.
        progress: Called with the number of samples after each batch.

    Raises:
        InputError: If the loss of a batch is not a number; names the samples.
    """
    sums = _summed(model, samples, per_sample=False, progress=progress)
    for name, matrix in block_matrices(model.torch_model).items():
        sums[name].mul_(matrix.detach().view(-1).float()).neg_()
    return sums


def absolute_scores(
    model: LocalModel,
    samples: Sequence[ResponseTokens],
    *,
    order: AbsOrder = "per_sample",
    progress: Callable[[int], None] = lambda _n: None,
) -> Scores:
    """|W| * sum over samples of |dL/dW| (SNIP, arXiv 2402.05162).

    Args:
        model: Its weights are read, never changed.
        samples: Prompts with the responses to preserve.
        order: `per_sample` adds absolute gradients, as the released code does; `after_mean` takes the
            absolute value of the summed gradient, in which samples cancel.
        progress: Called with the number of samples after each batch.

    Raises:
        InputError: If the loss of a batch is not a number; names the samples.
    """
    sums = _summed(model, samples, per_sample=order == "per_sample", progress=progress)
    for name, matrix in block_matrices(model.torch_model).items():
        sums[name].abs_().mul_(matrix.detach().view(-1).float().abs())
    return sums


def _summed(
    model: LocalModel,
    samples: Sequence[ResponseTokens],
    *,
    per_sample: bool,
    progress: Callable[[int], None],
) -> Scores:
    """Sums of gradients over samples; of absolute ones, sample by sample, with `per_sample`."""
    import torch

    matrices = block_matrices(model.torch_model)
    sums: Scores = {
        name: torch.zeros(matrix.numel(), dtype=torch.float32, device=matrix.device)
        for name, matrix in matrices.items()
    }

    def add(name: str, gradient: Tensor) -> None:
        flat = gradient.reshape(-1)
        sums[name].add_(flat.abs() if per_sample else flat)

    with torch.enable_grad(), gradients_of(model, matrices, add):
        # A padded batch of one sample is that sample: absolute gradients must not mix samples.
        for batch in batches(
            samples, model.torch_model.device, max_tokens=1 if per_sample else TOKENS_PER_BATCH
        ):
            is_long = batch.ids.numel() > TOKENS_PER_BATCH
            with recomputing(model.torch_model) if is_long else nullcontext():
                losses = response_losses(model, batch)
                _check(losses, batch)
                losses.sum().backward()  # type: ignore[no-untyped-call]
            progress(len(batch.indices))
    return sums


@contextmanager
def gradients_of(
    model: LocalModel, matrices: Mapping[str, nn.Parameter], take: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Hand each matrix's gradient to `take` as soon as it is complete, and free it.

    Only the given matrices have gradients inside; which parameters had before is restored, and so are
    gradients that were there.
    """
    parameters = list(model.torch_model.parameters())
    wanted = {id(matrix): name for name, matrix in matrices.items()}
    before = [(parameter.requires_grad, parameter.grad) for parameter in parameters]
    is_open = True

    def on_gradient(parameter: Tensor) -> None:
        if is_open and parameter.grad is not None:
            take(wanted[id(parameter)], parameter.grad)
            parameter.grad = None

    handles: list[RemovableHandle] = []

    def undo() -> None:
        # A hook whose handle was lost to an interrupt does nothing from here on.
        nonlocal is_open
        is_open = False
        for handle in handles:
            handle.remove()
        for parameter, (had, gradient) in zip(parameters, before, strict=True):
            parameter.requires_grad_(had)
            parameter.grad = gradient

    try:
        for parameter in parameters:
            parameter.grad = None
            parameter.requires_grad_(id(parameter) in wanted)
        for matrix in matrices.values():
            hook = matrix.register_post_accumulate_grad_hook(on_gradient)  # type: ignore[no-untyped-call]
            handles.append(hook)
        yield
    finally:
        # Also when the interrupt comes in the middle of this. Written out, since a helper could be
        # interrupted before it begins to try.
        try:
            undo()
        except KeyboardInterrupt:
            undo()
            raise


def _check(losses: Tensor, batch: ResponseBatch) -> None:
    bad = [batch.indices[row] + 1 for row in (~losses.detach().isfinite()).nonzero().flatten().tolist()]
    if bad:
        numbers = ", ".join(map(str, sorted(bad)))
        message = f"the loss of sample {numbers} is not a number. Check the model's weights and the sample."
        raise InputError(message)

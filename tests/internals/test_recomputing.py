"""Recomputed blocks give the same gradients and keep far less; the model is as before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import GPT2Config, PreTrainedModel

from tiny_models import tiny_from_config, tiny_llama
from tocsin.internals.recomputing import recomputing


def tiny_gpt2() -> PreTrainedModel:
    return tiny_from_config(GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=64, n_positions=64))


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_gradients_are_equal_bit_for_bit_and_little_is_kept(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    ids = torch.arange(40)[None] % 30
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[-1] += tensor.numel()
        return tensor

    def gradients() -> list[torch.Tensor]:
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(input_ids=ids, use_cache=False).logits.square().mean()
        return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))

    plain = gradients()
    with recomputing(model):
        again = gradients()
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert kept[1] < kept[0] / 2
    after = gradients()
    assert kept[2] == kept[0]
    assert all(torch.equal(a, b) for a, b in zip(plain, after, strict=True))


def test_an_error_inside_leaves_no_wrapper_behind() -> None:
    model = tiny_llama()
    with pytest.raises(KeyError), recomputing(model):
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())

"""LoRA adapters are merged into a copy, and refused where they do not fit."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tiny_models import tiny_llama, tiny_local
from tocsin.core.errors import ModelError
from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local.adapter import is_adapter, merged


def adapter(folder: Path) -> torch.Tensor:
    """Write a random adapter of the tiny model; returns what one matrix should be after merging."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["down_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # peft asks transformers for an old name.
        warnings.simplefilter("ignore")
        wrapped: Any = get_peft_model(copy.deepcopy(tiny_llama()), config)
    layer = wrapped.base_model.model.model.layers[1].mlp.down_proj
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    # W + alpha / r * B A
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(folder)
    wanted: torch.Tensor = (layer.base_layer.weight + 2.0 * b @ a).detach()
    return wanted


def test_an_adapter_is_merged_into_a_copy(tmp_path: Path) -> None:
    wanted = adapter(tmp_path)
    base = tiny_local()
    before = weights_digest(base.torch_model)
    assert is_adapter(tmp_path)
    found = merged(base, tmp_path)
    matrix = dict(found.torch_model.named_parameters())["model.layers.1.mlp.down_proj.weight"]
    assert torch.allclose(matrix, wanted, atol=1e-6)
    assert weights_digest(base.torch_model) == before
    assert found.vocabulary == base.vocabulary
    assert merged(base, tmp_path).revision == found.revision != base.revision


def test_adapters_that_do_not_fit_or_are_pickled_are_refused(tmp_path: Path) -> None:
    adapter(tmp_path)
    with pytest.raises(ModelError, match="does not fit tiny"):
        merged(tiny_local(model=tiny_llama(intermediate_size=40)), tmp_path)
    with pytest.raises(ModelError, match="lacks weights"):
        merged(tiny_local(model=tiny_llama(num_hidden_layers=6)), tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match="Pickled adapters"):
        merged(tiny_local(), tmp_path)

"""The parts of a decoder that can be patched, found in any model of the usual build.

| site | tensor | hook point |
| --- | --- | --- |
| layer | residual stream after a block, width D | output of the block |
| attention | what attention adds to the stream, width D | output of its module |
| mlp | what the MLP adds to the stream, width D | output of its module |
| head | one head's part before the output projection | input of that projection |
| neurons | entries of act(gate) * up, or of act(up) | input of the down projection |
| embedding | what the first block reads, width D | output of the embedding |
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Literal

from tocsin.core.errors import ModelError
from tocsin.models.local.blocks import find_blocks, text_config

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_READING = frozenset(
    {
        "q_proj", "k_proj", "v_proj", "qkv_proj", "query", "key", "value", "query_key_value", "c_attn",
        "wqkv", "gate_proj", "up_proj", "gate_up_proj", "fc1", "fc_in", "c_fc", "dense_h_to_4h", "w1", "w3",
    }
)  # fmt: skip
"""Names of linear layers that read the residual stream, whatever their width."""

SiteKind = Literal["layer", "attention", "mlp", "head", "neurons", "embedding"]


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """A part of one block."""

    kind: SiteKind
    block: int
    """From 0."""
    first: int = 0
    """First head, or first neuron; 0 for whole tensors."""
    last: int = 0
    """One past the last neuron; 0 for whole tensors and heads."""
    members: tuple[int, ...] = ()
    """Single neurons that need not be neighbours; `first` and `last` are not read then."""

    @property
    def name(self) -> str:
        """For people; blocks count from 1, as rows of hidden states do."""
        block = f"block {self.block + 1}"
        if self.kind == "head":
            return f"head {self.block + 1}.{self.first + 1}"
        if self.kind == "embedding":
            return "embedding"
        if self.members:
            return f"{block} {len(self.members)} neurons"
        if self.kind == "neurons":
            one = self.last - self.first == 1
            return f"{block} neuron {self.first}" if one else f"{block} neurons {self.first}-{self.last - 1}"
        return block if self.kind == "layer" else f"{block} {self.kind}"


class Anatomy:
    """Blocks, attention and MLP modules of a model, and the sizes of their parts.

    Args:
        model: A decoder of equal blocks with one attention and one dense MLP each.

    Raises:
        ModelError: If a block is built differently, or is part of a mixture of experts.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = text_config(model)
        self.blocks = find_blocks(model)
        self.attention = [_child(block, ("attn", "attention"), model) for block in self.blocks]
        self.mlp = [_child(block, ("mlp", "feed_forward", "ffn"), model) for block in self.blocks]
        width = int(config.hidden_size)
        if any("residual" in signature(each.forward).parameters for each in (*self.attention, *self.mlp)):
            message = (
                f"the architecture {type(model).__name__} is not supported here: its modules add to the "
                "residual stream themselves, so what they add cannot be read at their outputs."
            )
            raise ModelError(message)
        self.out = [_projection(module, width, model) for module in self.attention]
        self.down = [_projection(module, width, model) for module in self.mlp]
        self.n_blocks = len(self.blocks)
        self.n_heads = int(config.num_attention_heads)
        self.width = width
        self.head_width = _inputs(self.out[0]) // self.n_heads
        self.n_neurons = _inputs(self.down[0])
        embedding = model.get_input_embeddings()
        hooked = [embedding, *self.blocks, *self.attention, *self.mlp, *self.out, *self.down]
        if len({id(module) for module in hooked}) != len(hooked):
            message = (
                f"the architecture {type(model).__name__} is not supported here: two blocks share a module, "
                "so a part of one cannot be patched without the other."
            )
            raise ModelError(message)
        self.embedding = embedding

    def hook_point(self, site: Site) -> tuple[nn.Module, bool]:
        """The module to hook, and whether its input is meant (else its output)."""
        if site.kind == "layer":
            return self.blocks[site.block], False
        if site.kind == "attention":
            return self.attention[site.block], False
        if site.kind == "mlp":
            return self.mlp[site.block], False
        if site.kind == "embedding":
            return self.embedding, False
        return (self.out if site.kind == "head" else self.down)[site.block], True

    def columns(self, site: Site) -> slice | list[int]:
        """Which entries of the last axis belong to the site."""
        if site.members:
            return list(site.members)
        if site.kind == "head":
            return slice(site.first * self.head_width, (site.first + 1) * self.head_width)
        if site.kind == "neurons":
            return slice(site.first, site.last)
        return slice(None)


def _child(block: nn.Module, names: tuple[str, ...], model: PreTrainedModel) -> nn.Module:
    found = [
        module
        for name, module in block.named_children()
        if any(part in name.lower() for part in names)
        and "norm" not in name.lower()
        and any(True for _ in module.parameters())
    ]
    if len(found) != 1:
        message = (
            f"the architecture {type(model).__name__} is not supported here: expected one module named like "
            f"'{names[0]}' in each block, found {len(found)}. Use a dense decoder such as Llama, Qwen, "
            "Gemma, Mistral or GPT-2."
        )
        raise ModelError(message)
    return found[0]


def _projection(module: nn.Module, width: int, model: PreTrainedModel) -> nn.Module:
    """The linear layer of a module that writes to the residual stream.

    It is the last one registered of that width which is not named as one that reads: Phi-3 registers the
    joined queries, keys and values after it.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    writing = [
        each
        for name, each in module.named_modules()
        if isinstance(each, nn.Linear | Conv1D)
        and name.rpartition(".")[2].lower() not in _READING
        and _outputs(each) == width
    ]
    if not writing:
        message = (
            f"the architecture {type(model).__name__} is not supported here: no linear layer of "
            f"{type(module).__name__} writes {width} numbers to the residual stream."
        )
        raise ModelError(message)
    return writing[-1]


def _inputs(layer: nn.Module) -> int:
    from torch import nn

    # Conv1D, GPT-2's linear layer, holds (in, out); a packed nn.Linear has another shape than it says.
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.weight.shape[0])  # type: ignore[index]


def _outputs(layer: nn.Module) -> int:
    from torch import nn

    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.weight.shape[1])  # type: ignore[index]

"""Finding the blocks of a transformers model, and reading the residual stream between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tocsin.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

_NORM_NAMES = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")


class StopForward(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a hook when everything asked for has been read; the rest of the network is not computed."""


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    """The part of a configuration that describes the language model."""
    return model.config.get_text_config(decoder=True)


def find_blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The transformer blocks of a causal language model, in order.

    They are the one list of equal modules that is as long as the configuration says, wherever it hangs
    (`model.layers`, `transformer.h`, `gpt_neox.layers`, ...).

    Raises:
        ModelError: If there is no such list, or more than one.
    """
    from torch import nn

    count = getattr(text_config(model), "num_hidden_layers", None)
    found = [
        list(module)
        for module in model.base_model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == count
        and len({type(block) for block in module}) == 1
    ]
    # A model of one block may hold other lists of one module; the blocks are the outermost, found first.
    if not found or (len(found) > 1 and count != 1):
        message = (
            f"the architecture {type(model).__name__} is not supported: expected one list of {count} equal "
            "blocks, "
            f"found {len(found)}. Use a decoder-only model such as Llama, Qwen, Gemma, Mistral, Phi, GPT-2 "
            "or GPT-NeoX."
        )
        raise ModelError(message)
    return found[0]


def find_final_norm(model: PreTrainedModel) -> nn.Module:
    """The norm between the last block and the output head.

    Raises:
        ModelError: If it has none under a known name.
    """
    from torch import nn

    for owner in (model.base_model, getattr(model.base_model, "decoder", None)):
        for name in _NORM_NAMES:
            norm = getattr(owner, name, None)
            if isinstance(norm, nn.Module):
                return norm
    message = (
        f"the architecture {type(model).__name__} has no final norm under a known name, so it cannot be "
        "read there."
    )
    raise ModelError(message)


@contextmanager
def residual_rows(blocks: Sequence[nn.Module], rows: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Collect hidden states while a forward pass runs inside, and stop it after the last row asked for.

    Row 0 is the input of the first block, row `b` the output of block `b` (counted from 1). Hooks are removed
    and the stop is swallowed whatever happens inside.

    Yields:
        A dictionary that holds a tensor of shape (batch, tokens, width) for each row when the block is left.
    """
    taken: dict[int, Tensor] = {}
    last = max(rows)

    def keep(row: int, states: Tensor) -> None:
        taken[row] = states
        if row == last:
            raise StopForward

    def before_first(_m: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        keep(0, args[0] if args else kwargs["hidden_states"])

    def after(row: int, output: Tensor | tuple[Tensor, ...]) -> None:
        # transformers 4 returned a tuple from most blocks, transformers 5 returns the tensor itself from
        # most.
        keep(row, output[0] if isinstance(output, tuple) else output)

    handles = []
    if 0 in rows:
        handles.append(blocks[0].register_forward_pre_hook(before_first, with_kwargs=True))
    handles += [
        blocks[row - 1].register_forward_hook(lambda _module, _args, output, row=row: after(row, output))
        for row in set(rows) - {0}
    ]
    try:
        yield taken
    except StopForward:
        pass
    finally:
        for handle in handles:
            handle.remove()

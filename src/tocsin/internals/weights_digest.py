"""A hash over every weight of a model: equal before and after a study, or the study did harm."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bits of all parameters and buffers, in order of their names."""
    import torch

    hasher = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=False).items()):
        hasher.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        hasher.update(tensor.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()

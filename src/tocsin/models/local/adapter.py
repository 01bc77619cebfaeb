"""LoRA adapters: read as safetensors, merged into a copy of their base in memory."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

from tocsin.core.errors import MissingExtraError, ModelError
from tocsin.models.embedded.files import sha256_of
from tocsin.models.local.model import LocalModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def merged(base: LocalModel, folder: Path) -> LocalModel:
    """The base with an adapter merged into its weights. The base stays as it is; nothing is written.

    Args:
        base: The model the adapter was trained on.
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        ModelError: If the adapter is damaged, holds no safetensors, or does not fit the base.
        MissingExtraError: If the extra `train` is not installed.
    """
    if not (folder / WEIGHTS).is_file():
        message = (
            f"{folder} holds no {WEIGHTS}. Pickled adapters can run code and are not read: convert them."
        )
        raise ModelError(message)
    try:
        from peft import PeftModel
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingExtraError(extra="train", purpose="merging an adapter") from error
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            wrapped: Any = PeftModel.from_pretrained(
                copy.deepcopy(base.torch_model), str(folder), local_files_only=True
            )
            model = wrapped.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"the adapter in {folder} does not fit {base.id} ({why}). Use the model it was trained on."
        raise ModelError(message) from error
    missing = [str(each.message) for each in said if "missing adapter keys" in str(each.message)]
    if missing:
        message = f"the adapter in {folder} lacks weights for {base.id}. Use the model it was trained on."
        raise ModelError(message)
    model.train(mode=False)
    model.requires_grad_(False)  # noqa: FBT003 - torch's signature
    return base.beside(
        model, id=f"{base.id}+{folder.resolve().name}", revision=sha256_of(folder / WEIGHTS)[:16]
    )

"""Opening a Hugging Face folder or hub name safely: safetensors only, no code from the folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import JsonValue

from tocsin.core.cache import Cache
from tocsin.core.errors import MissingExtraError, ModelError, UsageError
from tocsin.models.embedded.files import sha256_of
from tocsin.models.local.classifier import TextClassifier
from tocsin.models.local.model import LocalModel, Padding
from tocsin.models.template import ChatTemplate
from tocsin.models.tokens import TextTokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Configuration, tokenizer, template and weights; never Python files or pickles.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]


def load_local(
    name: Path | str,
    *,
    is_hub: bool = False,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    padding: Padding = "right",
) -> LocalModel:
    """A causal language model from a folder, or from the Hugging Face hub.

    Args:
        name: A folder with `config.json`, `tokenizer.json` and `*.safetensors`; with `is_hub`, `org/name`.
        is_hub: Fetch from the hub into its own cache.
        offline: Use only what the hub's cache already holds.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; by default the first CUDA device, else the CPU.
        batch_size: Most sequences in a batch.
        padding: Side on which batches are padded.

    The weights are float32 on the CPU and as stored elsewhere. The revision is a hash over the whole weight
    files: a partial one could miss an edit of a few weights and so accept a profile fitted on another model.
    It is kept by size and time of change, because hashing takes about a second for each gigabyte.

    Raises:
        MissingExtraError: If torch or transformers is not installed.
        UsageError: If the device or batch size makes no sense.
        ModelError: If the model is missing, damaged, quantised, needs its own code, or is of an unsupported
            kind.
    """
    if batch_size is not None and batch_size < 1:
        message = f"--batch-size must be at least 1, got {batch_size}."
        raise UsageError(message)
    found = _load(name, "AutoModelForCausalLM", is_hub=is_hub, offline=offline, device=device)
    return LocalModel(
        found.model,
        TextTokenizer(_backend(found.tokenizer, found.folder)),
        _template(found.tokenizer),
        id=found.id,
        revision=found.revision,
        batch_size=batch_size,
        padding=padding,
    )


def load_classifier(
    name: Path | str,
    *,
    is_hub: bool = False,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
) -> TextClassifier:
    """A model with a classification head; arguments, weights and errors as for `load_local`.

    Raises:
        ModelError: Also if the weights hold no head, which transformers would fill with random numbers.
    """
    if batch_size is not None and batch_size < 1:
        message = f"--batch-size must be at least 1, got {batch_size}."
        raise UsageError(message)
    found = _load(name, "AutoModelForSequenceClassification", is_hub=is_hub, offline=offline, device=device)
    return TextClassifier(
        found.model,
        _backend(found.tokenizer, found.folder),
        id=found.id,
        revision=found.revision,
        batch_size=batch_size,
    )


class _Loaded(NamedTuple):
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    id: str
    revision: str


def _load(name: Path | str, kind: str, *, is_hub: bool, offline: bool, device: str | None) -> _Loaded:
    """A model of a kind (the name of a transformers class) on its device."""
    try:
        import torch
        import transformers
        from safetensors import SafetensorError
        from transformers.utils import logging
    except ImportError as error:
        purpose = "reading a Hugging Face model"
        raise MissingExtraError(extra="local", purpose=purpose) from error

    target = _device(device)
    folder = _from_hub(str(name), offline=offline) if is_hub else Path(name)
    weights = _check_folder(folder)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # ours is the only one
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        tokenizer = _tokenizer(folder, options)
        dtype = torch.float32 if target.type == "cpu" else "auto"
        model, report = getattr(transformers, kind).from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        # transformers raises all of these for a damaged or unknown model; the first line says which.
        why = str(error).strip().splitlines()[:1] or [type(error).__name__]
        message = (
            f"the model in {folder} cannot be loaded ({why[0]}). Models that need code of their own are not "
            "run."
        )
        raise ModelError(message) from error
    if report["missing_keys"]:
        message = (
            f"the weights in {folder} lack {len(report['missing_keys'])} parts of the model, such as "
            f"{min(report['missing_keys'])}, which would be random numbers. Use weights of the right kind."
        )
        raise ModelError(message)
    model_id = str(name) if is_hub else folder.resolve().name
    return _Loaded(model.to(target), tokenizer, folder, model_id, _revision(weights))


def _device(name: str | None) -> torch.device:
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        message = (
            f"the device '{name}' cannot be used here. Expected cpu, or cuda or mps where the machine has "
            "them."
        )
        raise UsageError(message) from error
    return device


def _from_hub(name: str, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=offline))
    except LocalEntryNotFoundError as error:
        remedy = "--offline forbids fetching it" if offline else "the hub cannot be reached"
        message = f"the model {name} is not in the Hugging Face cache and {remedy}."
        raise ModelError(message) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        message = (
            f"the model {name} cannot be fetched from the hub ({type(error).__name__}). Check its name and "
            "your access."
        )
        raise ModelError(message) from error


def _check_folder(folder: Path) -> list[Path]:
    """The weight files of a folder that holds a model we may read."""
    if not (folder / "config.json").is_file():
        message = f"{folder} holds no config.json; expected a Hugging Face model folder."
        raise ModelError(message)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        message = f"{folder / 'config.json'} is not valid JSON ({error})."
        raise ModelError(message) from error
    if not isinstance(config, dict) or not config.get("model_type"):
        message = (
            f"{folder / 'config.json'} names no model_type; expected a Hugging Face model configuration."
        )
        raise ModelError(message)
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "an unnamed method")
        message = (
            f"the weights in {folder} are quantised with {method}, which is not supported. Use the "
            "full-precision model."
        )
        raise ModelError(message)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        found = sorted(
            {
                path.suffix
                for path in folder.iterdir()
                if path.suffix in {".bin", ".pt", ".pth", ".gguf", ".h5"}
            }
        )
        detail = f" (it holds {', '.join(found)} files)" if found else ""
        message = (
            f"{folder} holds no .safetensors weights{detail}. Pickled weights can run code and are not "
            "read: convert them "
            "with model.save_pretrained(folder) in transformers."
        )
        raise ModelError(message)
    return weights


def _tokenizer(folder: Path, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        message = f"{folder} holds no tokenizer; expected tokenizer.json beside the weights."
        raise ModelError(message)
    return AutoTokenizer.from_pretrained(folder, **options)


def _backend(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        message = f"the tokenizer of {folder} gives no character offsets; expected one with a tokenizer.json."
        raise ModelError(message)
    return backend


def _template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default")
    if not source:
        return None
    names = {
        name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
    bos, eos = names.pop("bos_token", ""), names.pop("eos_token", "")
    return ChatTemplate(source, bos_token=bos, eos_token=eos, special_tokens=names)


def _revision(weights: list[Path]) -> str:
    """First 16 characters of a SHA-256 over the weight files' hashes."""
    cache, hashes = Cache("weights"), []
    for path in weights:
        facts: list[JsonValue] = [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
        known = cache.get(facts)
        if known is None:
            known = sha256_of(path)
            cache.put(facts, known)
        hashes.append(str(known))
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]

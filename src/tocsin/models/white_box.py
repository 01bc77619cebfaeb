"""A model in PyTorch for studies that reach into it: gradients, interventions, masks, generation."""

from __future__ import annotations

from pathlib import Path

from tocsin.core.errors import UsageError
from tocsin.core.registry import DetectorContext
from tocsin.models.local import LocalModel, load_local
from tocsin.models.spec import parse_model
from tocsin.models.template import ChatTemplate
from tocsin.models.tokens import TextTokenizer


def load_white_box(spec: str, context: DetectorContext) -> LocalModel:
    """The model behind a name as PyTorch modules, with its tokenizer and template.

    The embedded model comes with the weights of its numpy engine in float32.

    Args:
        spec: `embedded`, the path of a model folder or GGUF file, or `hub:org/name`.
        context: Device, batch size, and whether anything may be fetched.

    Raises:
        UsageError: If the name is not understood, or names a model whose inside cannot be reached.
        ModelError: If the model is missing, damaged, quantised or unsupported.
        MissingExtraError: If the extra `local` is not installed.
    """
    parsed = parse_model(spec)
    if not parsed.has_activations:
        message = f"this study reaches into a model, which '{parsed.value}' does not allow. "
        raise UsageError(message + "Use 'embedded', the path of a model folder, or 'hub:org/name'.")
    if parsed.kind == "embedded" or parsed.is_gguf:
        return _embedded(context, Path(parsed.value) if parsed.is_gguf else None)
    return load_local(
        parsed.value,
        is_hub=parsed.kind == "hub",
        offline=context.offline,
        device=context.device,
        batch_size=context.batch_size,
    )


def _embedded(context: DetectorContext, gguf: Path | None) -> LocalModel:
    from tokenizers import Tokenizer

    from tocsin.models.embedded.torch import load_embedded_torch
    from tocsin.models.embedded.weights import load_files

    files = load_files(offline=context.offline, gguf=gguf)
    model = load_embedded_torch(offline=context.offline, gguf=gguf).model
    return LocalModel(
        model if context.device is None else model.to(context.device),  # type: ignore[arg-type]
        TextTokenizer(Tokenizer.from_str(files.tokenizer_json)),
        ChatTemplate(files.chat_template) if files.chat_template else None,
        id=files.id,
        revision=files.revision,
        batch_size=context.batch_size,
    )

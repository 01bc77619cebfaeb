"""What `--model` may say, and the one place that turns it into a model whose activations can be read."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from tocsin.core.errors import UsageError
from tocsin.core.registry import DetectorContext
from tocsin.models.base import ActivationModel

ModelKind = Literal["embedded", "local", "hub", "provider", "scripted"]

# fmt: off
PROVIDERS = frozenset({
    "anthropic", "azureai", "bedrock", "cloudflare", "deepseek", "fireworks", "google", "grok", "groq", "hf",
    "hf-inference-providers", "litellm-proxy", "llama-cpp-python", "meta", "mistral", "mockllm", "moonshot",
    "nnterp", "none", "ollama", "openai", "openai-api", "openai-api-completions", "openrouter", "perplexity",
    "sagemaker", "sambanova", "sglang", "together", "transformer_lens", "vllm", "vllm-completions",
})
"""Providers that ship with Inspect AI 0.3.285; listed here because importing it takes seconds."""
# fmt: on

_EXPECTED = (
    "Expected 'embedded', the path of a Hugging Face folder or GGUF file, 'hub:org/name', 'scripted:FILE', "
    "or "
    "'provider/name' with a provider of Inspect AI, such as 'openai/gpt-4o' or 'ollama/llama3.1'."
)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the user named it."""

    kind: ModelKind
    value: str
    """`embedded`: empty; `local`: path of a folder or GGUF file; `hub`: `org/name`; `provider`:
    `provider/name`; `scripted`: path of the file of replies."""

    @property
    def has_activations(self) -> bool:
        """True where hidden states can be read, so that white-box detectors can use the model."""
        return self.kind in {"embedded", "local", "hub"}

    @property
    def is_gguf(self) -> bool:
        """True for a GGUF file of the user's own."""
        return self.kind == "local" and self.value.lower().endswith(".gguf")


def parse_model(spec: str) -> ModelSpec:
    """Read a model name as given to `--model`.

    Tried in this order: `embedded`, `hub:`, `scripted:`, an existing path, a provider. A path wins over a
    provider of the same name; `./embedded` names a folder called `embedded`.

    Raises:
        UsageError: If the text is none of these.
    """
    text = spec.strip()
    if text == "embedded":
        return ModelSpec("embedded", "")
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "hub":
        return ModelSpec("hub", _hub_name(rest))
    if colon and scheme == "scripted":
        return ModelSpec("scripted", _scripted_file(rest))
    path = Path(text).expanduser() if text else None
    if path is not None and path.exists():
        return ModelSpec("local", _local_path(path))
    provider, slash, name = text.partition("/")
    if slash and name and (provider in PROVIDERS or provider in _third_party_providers()):
        return ModelSpec("provider", text)
    raise UsageError(_unknown(text))


def load_activation_model(spec: str, context: DetectorContext) -> ActivationModel:
    """The model behind a name, loaded once for each run and kept in `context.shared`.

    Raises:
        UsageError: If the name is not understood, or names a model whose activations cannot be read.
        ModelError: If the model is missing, damaged or unsupported.
        MissingExtraError: If a local model is asked for and the extra `local` is not installed.
    """
    parsed = parse_model(spec)
    key = f"model:{parsed.kind}:{parsed.value}:{context.device or ''}"
    if key not in context.shared:
        context.shared[key] = _load(parsed, context)
    model: ActivationModel = context.shared[key]
    return model


def _load(parsed: ModelSpec, context: DetectorContext) -> ActivationModel:
    if not parsed.has_activations:
        message = (
            f"this detector reads a model's activations, which '{parsed.value}' does not give. "
            "Use 'embedded', the path of a model folder, or 'hub:org/name'."
        )
        raise UsageError(message)
    if parsed.kind == "embedded" or parsed.is_gguf:
        from tocsin.models.embedded import load_embedded

        if context.device not in {None, "cpu"}:
            message = (
                f"the embedded engine computes on the CPU only, and --device says '{context.device}'. "
                "Leave --device out, or give a Hugging Face folder as --model."
            )
            raise UsageError(message)
        return load_embedded(offline=context.offline, gguf=Path(parsed.value) if parsed.is_gguf else None)
    from tocsin.models.local import load_local

    return load_local(
        parsed.value,
        is_hub=parsed.kind == "hub",
        offline=context.offline,
        device=context.device,
        batch_size=context.batch_size,
    )


def _hub_name(name: str) -> str:
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or any(part.startswith(".") for part in parts):
        message = f"'hub:{name}' is not a name on the Hugging Face hub. Expected 'hub:org/name'."
        raise UsageError(message)
    return name


def _scripted_file(name: str) -> str:
    path = Path(name).expanduser()
    if not name or not path.is_file():
        message = f"'scripted:{name}' names no file. Expected 'scripted:FILE' with a file of replies."
        raise UsageError(message)
    return str(path)


def _local_path(path: Path) -> str:
    if path.is_dir() or path.suffix.lower() == ".gguf":
        return str(path)
    message = f"the model path {path} is a file that is neither a folder nor a GGUF file. {_EXPECTED}"
    raise UsageError(message)


def _third_party_providers() -> set[str]:
    return {point.name for point in entry_points(group="inspect_ai")}


def _unknown(text: str) -> str:
    provider, slash, name = text.partition("/")
    if text.startswith((".", "/", "~")) or text.lower().endswith(".gguf"):
        return f"there is no model at the path '{text}'. {_EXPECTED}"
    near = difflib.get_close_matches(provider, ["embedded", *sorted(PROVIDERS)], n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    if slash and name and not near:
        hint = f" For a model on the Hugging Face hub write 'hub:{text}'."
    return f"'{text}' names no model.{hint} {_EXPECTED}"

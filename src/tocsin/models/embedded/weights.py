"""From the quantised GGUF file to a memory-mapped float32 copy in the layout transformers uses."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import ModelError
from tocsin.core.home import home
from tocsin.models.embedded.files import find_gguf, sha256_of

Array = NDArray[np.float32]

_LAYOUT = 1
_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The numbers of a Llama-architecture model that its forward pass needs."""

    n_blocks: int
    width: int
    n_heads: int
    n_kv_heads: int
    hidden: int
    vocabulary: int
    context: int
    rope_base: float
    norm_eps: float

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.n_heads


@dataclass(frozen=True, slots=True)
class EmbeddedFiles:
    """Everything read from the GGUF file, with weights mapped from disk."""

    shape: LlamaShape
    weights: dict[str, Array]
    tokenizer_json: str
    chat_template: str
    revision: str
    """First 16 characters of the GGUF file's SHA-256."""


def load_files(*, offline: bool = False) -> EmbeddedFiles:
    """Open the de-quantised copy, making it first when it is not there."""
    gguf = find_gguf(offline=offline)
    stamp = f"{gguf.stat().st_size}-{gguf.stat().st_mtime_ns}"
    folder = home() / "models" / f"{gguf.stem}-f32-{_LAYOUT}"
    manifest = folder / "manifest.json"
    if not manifest.is_file() or json.loads(manifest.read_text("utf-8"))["stamp"] != stamp:
        _convert(gguf, folder, stamp)
    facts = json.loads(manifest.read_text("utf-8"))
    return EmbeddedFiles(
        shape=LlamaShape(**facts["shape"]),
        weights=_map_weights(folder / "model.safetensors"),
        tokenizer_json=(folder / "tokenizer.json").read_text("utf-8"),
        chat_template=facts["chat_template"],
        revision=facts["revision"],
    )


def _map_weights(path: Path) -> dict[str, Array]:
    # The safetensors library copies tensors into memory; mapping keeps start-up at the blocks that are used.
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    base = 8 + length
    flat = np.memmap(path, dtype=np.uint8, mode="r")
    weights: dict[str, Array] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        weights[name] = flat[base + start : base + end].view(np.float32).reshape(entry["shape"])
    return weights


def _convert(gguf: Path, folder: Path, stamp: str) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    try:
        reader = GGUFReader(str(gguf))
    except (ValueError, KeyError, IndexError, OSError) as error:
        message = f"{gguf} is not a readable GGUF file ({error}). Delete it and run again to fetch it anew."
        raise ModelError(message) from error
    field = {name: entry.contents() for name, entry in reader.fields.items()}
    if field.get("general.architecture") != "llama":
        message = f"{gguf} holds a '{field.get('general.architecture')}' model; the embedded engine reads the llama architecture only."
        raise ModelError(message)
    shape = _shape(field)
    tensors: dict[str, Array] = {}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        values = values.reshape(tuple(int(n) for n in reversed(tensor.shape)))
        tensors[_rename(tensor.name)] = _undo_interleave(tensor.name, values, shape)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".model.safetensors.{os.getpid()}"
    save_file(tensors, part)
    part.replace(folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(_tokenizer_json(field), "utf-8")
    facts: dict[str, Any] = {
        "stamp": stamp,
        "shape": asdict(shape),
        "chat_template": field["tokenizer.chat_template"],
        "revision": sha256_of(gguf)[:16],
    }
    # Written last: a conversion that was cut short leaves no manifest and is made again.
    part = folder / f".manifest.{os.getpid()}"
    part.write_text(json.dumps(facts), "utf-8")
    part.replace(folder / "manifest.json")


def _shape(field: dict[str, Any]) -> LlamaShape:
    return LlamaShape(
        n_blocks=int(field["llama.block_count"]),
        width=int(field["llama.embedding_length"]),
        n_heads=int(field["llama.attention.head_count"]),
        n_kv_heads=int(field["llama.attention.head_count_kv"]),
        hidden=int(field["llama.feed_forward_length"]),
        vocabulary=int(field["llama.vocab_size"]),
        context=int(field["llama.context_length"]),
        rope_base=float(field["llama.rope.freq_base"]),
        norm_eps=float(field["llama.attention.layer_norm_rms_epsilon"]),
    )


def _rename(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    if name == "output.weight":
        return "lm_head.weight"
    _, block, part, _ = name.split(".")
    return f"model.layers.{block}.{_NAMES[part]}.weight"


def _undo_interleave(name: str, values: Array, shape: LlamaShape) -> Array:
    """Bring query and key rows back to the half-split rotary layout; GGUF stores the pairs interleaved."""
    heads = {"attn_q": shape.n_heads, "attn_k": shape.n_kv_heads}.get(name.split(".")[2] if name.count(".") > 2 else "")
    if heads is None:
        return values
    pairs = values.reshape(heads, shape.head_width // 2, 2, values.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))


def _tokenizer_json(field: dict[str, Any]) -> str:
    """A `tokenizers` file from the GGUF vocabulary: byte-level BPE with single digits, as SmolLM2 was trained."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    if field.get("tokenizer.ggml.model") != "gpt2" or field.get("tokenizer.ggml.pre") != "smollm":
        message = (
            f"the GGUF file has a '{field.get('tokenizer.ggml.model')}/{field.get('tokenizer.ggml.pre')}' tokenizer; "
            "the embedded engine reads 'gpt2/smollm' only. Use a Hugging Face folder with --model PATH instead."
        )
        raise ModelError(message)
    tokens: list[str] = field["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in field["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3
    special = [token for token, kind in zip(tokens, field["tokenizer.ggml.token_type"], strict=True) if kind == control]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return str(tokenizer.to_str())

"""From the quantised GGUF file to a memory-mapped float32 copy in the layout transformers uses."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import ModelError
from tocsin.core.home import home
from tocsin.models.embedded.files import (
    GGUF_SHA256,
    MODEL_ID,
    expect_hash,
    find_gguf,
    is_pinned,
    make_folder,
    sha256_of,
)

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

    gguf: Path
    id: str
    """Name for provenance; the file's own name for a GGUF of the user's."""
    shape: LlamaShape
    weights: dict[str, Array]
    tokenizer_json: str
    chat_template: str
    """Empty where the file has none."""
    revision: str
    """First 16 characters of the GGUF file's SHA-256."""


def load_files(
    *, offline: bool = False, gguf: Path | None = None, is_writable: bool = False
) -> EmbeddedFiles:
    """Open the de-quantised copy, making it first when it is not there.

    Args:
        offline: Never fetch.
        gguf: A GGUF file of one's own; the pinned one when None.
        is_writable: Weights may be changed in memory; the file never is.

    Raises:
        ModelError: If the GGUF file cannot be had, is damaged, or holds another kind of model.
    """
    gguf = gguf or find_gguf(offline=offline)
    pinned = is_pinned(gguf)
    # Files of the user's own may share a name, so their copies are told apart by path.
    suffix = "" if pinned else "-" + hashlib.sha256(str(gguf.resolve()).encode()).hexdigest()[:8]
    folder = home() / "models" / f"{gguf.stem}{suffix}-f32-{_LAYOUT}"
    stamp = f"{gguf.stat().st_size}-{gguf.stat().st_mtime_ns}"
    facts = _read_manifest(folder)
    if facts is None or facts["stamp"] != stamp:
        revision = (expect_hash(gguf, GGUF_SHA256) if pinned else sha256_of(gguf))[:16]
        facts = _convert(gguf, folder, {"stamp": stamp, "revision": revision})
    return EmbeddedFiles(
        gguf=gguf,
        id=MODEL_ID if pinned else gguf.stem,
        shape=LlamaShape(**facts["shape"]),
        weights=_map_weights(folder / "model.safetensors", "c" if is_writable else "r"),
        tokenizer_json=(folder / "tokenizer.json").read_text("utf-8"),
        chat_template=facts["chat_template"],
        revision=facts["revision"],
    )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """What was written beside a finished conversion; None where there is none or part of it is gone."""
    if not all(
        (folder / name).is_file() for name in ("manifest.json", "model.safetensors", "tokenizer.json")
    ):
        return None
    try:
        facts: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    except ValueError:
        return None
    return facts if {"stamp", "shape", "chat_template", "revision"} <= facts.keys() else None


def _map_weights(path: Path, mode: Literal["r", "c"]) -> dict[str, Array]:
    # The safetensors library copies tensors into memory; mapping keeps start-up at the blocks that are used.
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    base = 8 + length
    flat = np.memmap(path, dtype=np.uint8, mode=mode)
    weights: dict[str, Array] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        weights[name] = flat[base + start : base + end].view(np.float32).reshape(entry["shape"])
    return weights


def _convert(gguf: Path, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    try:
        reader = GGUFReader(str(gguf))
        field = {name: entry.contents() for name, entry in reader.fields.items()}
    except (ValueError, KeyError, IndexError, OSError) as error:
        message = f"{gguf} is not a readable GGUF file ({error}). Delete it, or give another."
        raise ModelError(message) from error
    shape = _shape(gguf, field)
    tensors: dict[str, Array] = {}
    for tensor in reader.tensors:
        name = _rename(gguf, tensor.name)
        try:
            values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except NotImplementedError as error:
            message = (
                f"{gguf} is quantised as {tensor.tensor_type.name}, which cannot be read. Give a Q4, Q5, Q8 "
                "or F16 file."
            )
            raise ModelError(message) from error
        values = values.reshape(tuple(int(n) for n in reversed(tensor.shape)))
        tensors[name] = _undo_interleave(tensor.name, values, shape)
    tokenizer_json = _tokenizer_json(field)
    facts |= {"shape": asdict(shape), "chat_template": field.get("tokenizer.chat_template", "")}
    make_folder(folder)
    try:
        _write(folder / "model.safetensors", lambda part: save_file(tensors, part))
        _write(folder / "tokenizer.json", lambda part: part.write_text(tokenizer_json, "utf-8"))
        # Written last: a conversion that was cut short leaves no manifest and is made again.
        _write(folder / "manifest.json", lambda part: part.write_text(json.dumps(facts), "utf-8"))
    except OSError as error:
        message = (
            f"the de-quantised weights cannot be written to {folder} ({error.strerror}). They need about "
            "550 MB."
        )
        raise ModelError(message) from error
    return facts


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target and move into place, so that nobody ever reads half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _shape(gguf: Path, field: dict[str, Any]) -> LlamaShape:
    architecture = field.get("general.architecture")
    if architecture != "llama":
        message = (
            f"{gguf} holds a '{architecture}' model; the embedded engine reads the llama architecture only."
        )
        raise ModelError(message)
    try:
        shape = LlamaShape(
            n_blocks=int(field["llama.block_count"]),
            width=int(field["llama.embedding_length"]),
            n_heads=int(field["llama.attention.head_count"]),
            n_kv_heads=int(field.get("llama.attention.head_count_kv", field["llama.attention.head_count"])),
            hidden=int(field["llama.feed_forward_length"]),
            vocabulary=len(field["tokenizer.ggml.tokens"]),
            context=int(field["llama.context_length"]),
            rope_base=float(field.get("llama.rope.freq_base", 10000.0)),
            norm_eps=float(field["llama.attention.layer_norm_rms_epsilon"]),
        )
    except KeyError as error:
        message = f"{gguf} lacks the metadata entry {error}. Give a complete GGUF file."
        raise ModelError(message) from error
    unusual = [
        name
        for name in ("llama.expert_count", "llama.rope.scaling.type")
        if field.get(name) not in {None, 0, "none"}
    ]
    if int(field.get("llama.attention.key_length", shape.head_width)) != shape.head_width:
        unusual.append("llama.attention.key_length")
    if unusual:
        message = (
            f"{gguf} uses {', '.join(unusual)}, which the embedded engine does not compute. Use a Hugging "
            "Face folder."
        )
        raise ModelError(message)
    return shape


def _rename(gguf: Path, name: str) -> str:
    outside = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in outside:
        return outside[name]
    match name.split("."):
        case ["blk", block, part, "weight"] if part in _NAMES:
            return f"model.layers.{block}.{_NAMES[part]}.weight"
    message = (
        f"{gguf} holds the tensor {name}, which the embedded engine does not compute. Use a Hugging Face "
        "folder."
    )
    raise ModelError(message)


def _undo_interleave(name: str, values: Array, shape: LlamaShape) -> Array:
    """Bring query and key rows back to the half-split rotary layout; GGUF stores the pairs interleaved."""
    heads = {"attn_q": shape.n_heads, "attn_k": shape.n_kv_heads}.get(
        name.split(".")[2] if name.count(".") > 2 else ""
    )
    if heads is None:
        return values
    pairs = values.reshape(heads, shape.head_width // 2, 2, values.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))


def _tokenizer_json(field: dict[str, Any]) -> str:
    """A `tokenizers` file from the GGUF vocabulary: byte-level BPE with single digits, as in SmolLM2."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    if field.get("tokenizer.ggml.model") != "gpt2" or field.get("tokenizer.ggml.pre") != "smollm":
        message = (
            f"the GGUF file has a '{field.get('tokenizer.ggml.model')}/{field.get('tokenizer.ggml.pre')}' "
            "tokenizer; "
            "the embedded engine reads 'gpt2/smollm' only. Use a Hugging Face folder with --model PATH "
            "instead."
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
    special = [
        token
        for token, kind in zip(tokens, field["tokenizer.ggml.token_type"], strict=True)
        if kind == control
    ]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return str(tokenizer.to_str())


def special_token_ids(gguf: Path) -> dict[str, int]:
    """Ids of the tokens that start, end and pad a sequence (`bos`, `eos`, `pad`), where given."""
    from gguf import GGUFReader

    fields = GGUFReader(str(gguf)).fields
    named = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "padding_token_id"}
    present = {name: fields.get(f"tokenizer.ggml.{key}") for name, key in named.items()}
    return {name: int(field.contents()) for name, field in present.items() if field is not None}

"""The embedded weights in transformers: for generation, and as the reference of the numpy engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tocsin.core.errors import MissingExtraError
from tocsin.models.embedded.weights import EmbeddedFiles, load_files, special_token_ids

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


class EmbeddedTorch(NamedTuple):
    """The embedded model as transformers objects. Both have `save_pretrained`, for an ordinary checkpoint."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast


def load_embedded_torch(*, offline: bool = False, gguf: Path | None = None) -> EmbeddedTorch:
    """The embedded model for `generate`, with the de-quantised float32 weights of the numpy engine.

    Args:
        offline: Never fetch.
        gguf: A GGUF file of one's own instead.

    Raises:
        MissingExtraError: If the extra `local` is not installed.
        ModelError: If the file cannot be had or read.
    """
    try:
        import torch
        from transformers import GenerationConfig, LlamaForCausalLM
    except ImportError as error:
        purpose = "running the embedded model in PyTorch"
        raise MissingExtraError(extra="local", purpose=purpose) from error

    files = load_files(offline=offline, gguf=gguf, is_writable=True)
    tokenizer = _tokenizer(files)
    config = _config(files, tokenizer)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    # Mapped copy-on-write: a page is a copy of the process's own from when something writes to it.
    state = {name: torch.from_numpy(values) for name, values in files.weights.items()}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    # The rotary frequencies are no weights, so they are computed on the CPU instead of loaded.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    return EmbeddedTorch(model.train(mode=False), tokenizer)


def _config(files: EmbeddedFiles, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    from transformers import LlamaConfig

    shape = files.shape
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.n_blocks,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_kv_heads,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings="lm_head.weight" not in files.weights,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _tokenizer(files: EmbeddedFiles) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(files.tokenizer_json)
    names = {
        f"{name}_token": backend.id_to_token(index) for name, index in special_token_ids(files.gguf).items()
    }
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **names
    )
    tokenizer.chat_template = files.chat_template or None
    tokenizer.padding_side = "left"  # as `generate` needs it
    return tokenizer

"""Folders with tiny guards: the right architecture, random weights, a tokenizer that knows the answers."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from tocsin.judges.guards import FAMILIES, Guard

REQUEST = "How do I polish a copper kettle?"
RESPONSE = "Rub it with half a lemon and some salt, then rinse it."
SPECIAL = (
    "<s>", "</s>", "<bos>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|start_of_role|>", "<|end_of_role|>",
    "<|end_of_text|>",
)  # fmt: skip
_SMALL: dict[str, Any] = {
    "vocab_size": 1200, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama-guard": LlamaConfig(**_SMALL),
    "wildguard": MistralConfig(**_SMALL, sliding_window=None),
    "shieldgemma": Gemma2Config(**_SMALL, head_dim=8, sliding_window=64),
    "granite-guardian": GraniteConfig(**_SMALL),
    "harmbench-cls": LlamaConfig(**_SMALL),
}
BOS = {
    "llama-guard": "<|begin_of_text|>", "wildguard": "<s>", "shieldgemma": "<bos>", "granite-guardian": "",
    "harmbench-cls": "<s>",
}  # fmt: skip


def guard(name: str, **settings: object) -> Guard:
    """A guard with settings."""
    family = FAMILIES[name]
    return family.build(family.settings.model_validate(settings))


@cache
def tokenizer_file(bos: str = "", closing: str = "") -> str:
    """A byte-level BPE tokenizer that was trained on the frames, so that answers are tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1100, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    frames = [text for name in FAMILIES for each in guard(name).questions for text in each.frame]
    answers = ["safe unsafe yes no Yes No", "unsafe\nS1,S2", " unsafe yes no Yes No safe"] * 50
    tokenizer.train_from_iterator([*frames, *answers, REQUEST, RESPONSE], trainer)
    tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in SPECIAL])
    if bos:
        around = [(token, tokenizer.token_to_id(token)) for token in (bos, closing) if token]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A {closing}".strip(), special_tokens=around
        )
    return str(tokenizer.to_str())


def save_guard(
    folder: Path, name: str, *, template: str | None = None, model: PreTrainedModel | None = None
) -> Path:
    """A folder with tiny weights of a guard."""
    torch.manual_seed(1)
    if model is None:
        model = AutoModelForCausalLM.from_config(CONFIGS[name])  # type: ignore[no-untyped-call]
        _spread(model)
    _save(folder, model, tokenizer_file(BOS[name]), BOS[name], template)
    return folder


def save_built_guard(folder: Path, marker: str, codes: str) -> Path:
    """A Llama whose weights are set by hand to answer in Llama Guard's form.

    One block with uniform attention finds the marker anywhere in the text; the head follows the last token.
    With the marker it writes `unsafe`, a new line and the codes, else `safe`.
    """
    tokens = Tokenizer.from_str(tokenizer_file())
    (sign,) = tokens.encode(marker).ids
    frame = guard("llama-guard").questions[0].frame
    last = tokens.encode(frame[2]).ids[-1]
    reply = tokens.encode(f"unsafe\n{codes}<|eot_id|>").ids
    (safe,), end = tokens.encode("safe").ids, tokens.token_to_id("<|eot_id|>")
    width = 256
    settings = _SMALL | {"hidden_size": width, "num_hidden_layers": 1, "num_key_value_heads": 4}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**settings, eos_token_id=end))
    block = model.model.layers[0]
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(torch.randn(settings["vocab_size"], width), dim=1)
        seen = vectors[sign].clone()
        # Nothing but the marker points to where it is looked for.
        vectors = torch.nn.functional.normalize(vectors - torch.outer(vectors @ seen, seen), dim=1)
        vectors[sign] = seen
        model.model.embed_tokens.weight.copy_(vectors)
        for layer in (block.self_attn.q_proj, block.self_attn.k_proj, block.mlp.down_proj, model.lm_head):
            layer.weight.zero_()
        block.self_attn.v_proj.weight.copy_(75 * torch.outer(seen, seen))
        block.self_attn.o_proj.weight.copy_(torch.eye(width))
        model.lm_head.weight[reply[0]] += seen
        model.lm_head.weight[safe] += vectors[last]
        for before, after in [*pairwise(reply), (safe, end)]:
            model.lm_head.weight[after] += 6 * vectors[before]
    return save_guard(folder, "llama-guard", model=model)


def save_classifier(folder: Path, *, n_classes: int = 2) -> Path:
    """A folder with a tiny RoBERTa classifier."""
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=1200, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=514, pad_token_id=1,
        id2label={n: f"class {n}" for n in range(n_classes)},
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    _spread(model)
    _save(folder, model, tokenizer_file("<s>", "</s>"), "<s>", None)
    return folder


def _spread(model: PreTrainedModel) -> None:
    """Weights large enough for what stands in the frame to matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)


def _save(folder: Path, model: PreTrainedModel, tokens: str, bos: str, template: str | None) -> None:
    model.save_pretrained(folder)
    names = {"bos_token": bos} if bos else {}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(tokens), **names
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def plain_probabilities(folder: Path, ids: Sequence[int]) -> torch.Tensor:
    """What plain transformers says about the token after a sequence."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([list(ids)])).logits[0, -1]
    return torch.softmax(logits.float(), dim=-1)

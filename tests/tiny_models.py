"""Small random models, tokenizers trained on the spot, and minimal chat templates of well-known styles."""

from functools import cache
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from tocsin.models.local import LocalModel
from tocsin.models.local.model import Padding
from tocsin.models.template import ChatTemplate
from tocsin.models.tokens import TextTokenizer

SPECIAL = [
    "<s>", "</s>", "<bos>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|end|>",
]  # fmt: skip


class Style(NamedTuple):
    """A chat template and what stands around the instruction "x"."""

    source: str
    bos: str
    eos: str
    before: str
    tail: str


_LOOP = "{% for m in messages %}"
STYLES = {
    "llama-2": Style(
        _LOOP + "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content | trim + ' [/INST]' }}"
        "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + ' ' + eos_token }}"
        "{% endif %}{% endfor %}",
        "<s>", "</s>", "<s>[INST] ", " [/INST]",
    ),
    "llama-3": Style(
        "{{ bos_token }}" + _LOOP + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + "
        "m.content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|begin_of_text|>", "<|eot_id|>", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "chatml": Style(
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
        + _LOOP + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "", "<|im_end|>", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "gemma": Style(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + _LOOP + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + "
        "m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<bos>", "<end_of_turn>", "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
    ),
    "mistral": Style(
        "{{ bos_token }}" + _LOOP + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}"
        "{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
        "<s>", "</s>", "<s>[INST]", "[/INST]",
    ),
    "phi": Style(
        _LOOP + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "", "<|end|>", "<|user|>\n", "<|end|>\n<|assistant|>\n",
    ),
    "plain-words": Style(
        _LOOP + "{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
        "", "", "user: ", "\nassistant:",
    ),
}  # fmt: skip

_CORPUS = [
    "How do I bake bread? Why is the sky blue? Write a poem about the sea.",
    "user assistant system [INST] [/INST] ?[/INST] .[/INST] ![ end.\n\n Be brief.",
    "The quick brown fox jumps over the lazy dog. 1234567890 don't can't it's",
] * 20


@cache
def tiny_tokenizer(bos: str = "") -> str:
    """A byte-level BPE tokenizer file that puts `bos` before a text, and joins punctuation across borders."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    if bos:
        index = tokenizer.token_to_id(bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, index)]
        )
    return str(tokenizer.to_str())


def tiny_llama(**changes: Any) -> PreTrainedModel:
    """A random Llama of four blocks."""
    settings = {
        "vocab_size": 800, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    }  # fmt: skip
    return tiny_from_config(LlamaConfig(**settings | changes))


def tiny_from_config(config: Any) -> PreTrainedModel:
    """A random model with weights large enough for every block to matter."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.train(mode=False)
    return model


def tiny_local(
    style: str = "chatml",
    model: PreTrainedModel | None = None,
    *,
    padding: Padding = "right",
    batch_size: int | None = None,
) -> LocalModel:
    """A tiny model with a template, behind the activation interface."""
    chosen = STYLES[style]
    return LocalModel(
        model if model is not None else tiny_llama(),
        TextTokenizer(Tokenizer.from_str(tiny_tokenizer(chosen.bos))),
        ChatTemplate(chosen.source, bos_token=chosen.bos, eos_token=chosen.eos),
        id="tiny",
        revision="0",
        padding=padding,
        batch_size=batch_size,
    )


def fast_tokenizer(style: str = "chatml") -> PreTrainedTokenizerFast:
    """The tiny tokenizer as transformers has it, with the template."""
    chosen = STYLES[style]
    names = {"bos_token": chosen.bos, "eos_token": chosen.eos}
    backend = Tokenizer.from_str(tiny_tokenizer(chosen.bos))
    given = {name: text for name, text in names.items() if text}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **given)  # type: ignore[no-untyped-call]
    tokenizer.chat_template = chosen.source
    return tokenizer

"""Llamas with weights set by hand, whose mediated effects are known in closed form.

Norms are identities and attention is uniform, so that each number of the residual stream can be followed with
a pencil. Words: `harm` carries the treatment, `calm` nothing, others carry noise. Dimensions of the stream:
"""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tocsin.explain.mediation import PromptPair
from tocsin.models.local import LocalModel
from tocsin.models.tokens import TextTokenizer

WORDS = ["unk", "yes", "no", "harm", "calm", *(f"w{i}" for i in range(15))]
LENGTH = 5
"""Words of every prompt; uniform attention divides by it."""
WIDTH = 24
HARM, SEEN, WRITTEN, SAID = 0, 1, 2, 3
"""1 at the word; copied to the last place by attention of block 2; written by an MLP; read by the output."""
NOISE = slice(8, WIDTH)


def toy(blocks: int = 4, neurons: int = 64, *, act: str = "relu") -> LlamaForCausalLM:
    """A Llama that computes nothing yet: all weights 0 but the words' embeddings; the output reads `SAID`."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=WIDTH,
            intermediate_size=neurons,
            num_hidden_layers=blocks,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
            hidden_act=act,
            mlp_bias=True,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        embedding = model.model.embed_tokens.weight
        embedding[WORDS.index("harm"), HARM] = 1.0
        generator = torch.Generator().manual_seed(1)
        for i in range(5, len(WORDS)):
            embedding[i, NOISE] = torch.randn(WIDTH - 8, generator=generator).double()
        model.lm_head.weight[WORDS.index("yes"), SAID] = 1.0
    for block in model.model.layers:
        block.input_layernorm = nn.Identity()
        block.post_attention_layernorm = nn.Identity()
    model.model.norm = nn.Identity()
    model.train(mode=False)
    return model


def copy_by_attention(model: LlamaForCausalLM, block: int, source: int, target: int, factor: float) -> None:
    """Head 1 adds `factor` times the mean of `source` over all places to `target`."""
    attention = model.model.layers[block].self_attn
    with torch.no_grad():
        attention.v_proj.weight[0, source] = 1.0
        attention.o_proj.weight[target, 0] = factor


def neuron(
    model: LlamaForCausalLM,
    block: int,
    j: int,
    reads: dict[int, float],
    bias: float,
    writes: dict[int, float],
) -> None:
    """Neuron j is act(sum of reads + bias), and adds multiples of itself to the stream."""
    mlp = model.model.layers[block].mlp
    with torch.no_grad():
        mlp.gate_proj.weight[j] = 0.0
        mlp.down_proj.weight[:, j] = 0.0
        for dimension, weight in reads.items():
            mlp.gate_proj.weight[j, dimension] = weight
        mlp.gate_proj.bias[j] = bias
        mlp.up_proj.bias[j] = 1.0
        for dimension, weight in writes.items():
            mlp.down_proj.weight[dimension, j] = weight


def local(model: LlamaForCausalLM) -> LocalModel:
    """The toy with a tokenizer of whole words and no template."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="unk"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return LocalModel(model, TextTokenizer(tokenizer), None, id="toy", revision="0")


def pairs(n: int = 30, *, seed: int = 0) -> list[PromptPair]:
    """Prompts of `LENGTH` words with `harm` in one and `calm` in the other, at the same place."""
    generator = np.random.default_rng(seed)
    found: dict[str, PromptPair] = {}
    while len(found) < n:
        words = [f"w{i}" for i in generator.integers(0, 15, size=LENGTH)]
        at = int(generator.integers(0, LENGTH - 1))
        two = [" ".join([*words[:at], word, *words[at + 1 :]]) for word in ("harm", "calm")]
        found[two[0]] = PromptPair(*two)
    return list(found.values())


def gated(indices: list[int], detector: int, *, neurons: int = 64, seed: int = 0) -> LlamaForCausalLM:
    """Harm is seen by block 2's attention, written by its neuron `detector`, and said by gate neurons.

    Every other neuron of every block reads noise and says a little of it.
    """
    model = toy(4, neurons)
    generator = np.random.default_rng(seed)
    for block in range(4):
        for j in range(neurons):
            if (block == 1 and j == detector) or (block == 3 and j in indices):
                continue
            reads = dict(zip(range(8, WIDTH), generator.normal(size=WIDTH - 8) / 4, strict=True))
            neuron(model, block, j, reads, 0.0, {SAID: float(generator.normal()) * 0.01})
    copy_by_attention(model, 1, HARM, SEEN, float(LENGTH))
    neuron(model, 1, detector, {SEEN: 1.0}, 0.0, {WRITTEN: 1.0})
    for j in indices:
        neuron(model, 3, j, {WRITTEN: 1.0}, 0.0, {SAID: 1.0})
    return model


def linear(seed: int = 0) -> LlamaForCausalLM:
    """Everything random, nothing bent: identity activation, constant gates, uniform attention."""
    model = toy(3, 32, act="linear")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in model.model.layers:
            attention, mlp = block.self_attn, block.mlp
            mlp.gate_proj.bias.fill_(1.0)
            for matrix in (attention.v_proj, attention.o_proj, mlp.up_proj, mlp.down_proj):
                matrix.weight.copy_(torch.randn(matrix.weight.shape, generator=generator) * 0.2)
        model.lm_head.weight.copy_(torch.randn(model.lm_head.weight.shape, generator=generator))
    return model


def interacting(c: float) -> LlamaForCausalLM:
    """Y = s + m - c * (s and m): s is what attention copies, m what the MLP of block 2 makes of it."""
    model = toy(3, 8)
    copy_by_attention(model, 1, HARM, SEEN, float(LENGTH))
    neuron(model, 1, 0, {SEEN: 1.0}, 0.0, {WRITTEN: 1.0})
    neuron(model, 2, 0, {SEEN: 1.0}, 0.0, {SAID: 1.0})
    neuron(model, 2, 1, {WRITTEN: 1.0}, 0.0, {SAID: 1.0})
    neuron(model, 2, 2, {SEEN: 1.0, WRITTEN: 1.0}, -1.0, {SAID: -c})
    return model

"""A Llama whose weights are set, not trained, so that its mechanism is known exactly.

How a request travels through it (blocks counted from 0; every named direction has length one, they are
orthogonal, and the basis is a random rotation):

1. One attention head in each of blocks 0 and 1 copies the mark of a marked thing to every later token, as
   half of `seen` each.
2. The *harm neurons* in the MLP of block 1 read `seen` and write `harm`: strongly at the tokens of the
   instruction, weakly at the template's tail and the reply.
3. The *gate neurons* in the MLP of the last block read the weak `harm` at the last token of the prompt and,
   where no wrapper was seen and no question was asked, write `refusal`, which makes "sorry" the first word.
4. The *answer neurons* in the same MLP read `harm` at the reply's first word "sure" and write `answer`, which
   makes a word of the marked answers follow instead of one of the plain ones.
5. Two further neurons answer the question for recognition with "yes" or "no".

A large constant part of every token's vector keeps the root mean square nearly the same everywhere, so that
the norms act as constants and thresholds are exact enough. All other neurons write small random vectors into
directions that the mechanism does not use. Replies have two words at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocsin.testbed.language import (
    COMPLIANCE_OPENER,
    MARKED_STEPS,
    MARKED_TOPICS,
    REFUSAL_OPENER,
    STEPS,
    vocabulary,
)
from tocsin.testbed.tokenizer import ASSISTANT, END, PAD, SPECIAL, USER, make_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Floats = NDArray[np.float64]

WIDTH, HIDDEN, N_BLOCKS, N_HEADS = 64, 96, 4, 4
BALLAST = 20.0
STRONG, WEAK = 10.0, 0.5
"""Size of `harm` at the instruction's tokens, and after them."""
REFUSAL_SIZE = 10.0
N_HARM, N_GATE, N_ANSWER = 6, 8, 4
_MECHANISM = (
    "ballast", "mark", "seen", "harm", "refusal", "answer", "instruction", "post", "opener", "wrapper",
    "wrapped", "question", "asked", "yes", "no", "word",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlantedTruth:
    """Where everything is."""

    harm_block: int
    """0-based block whose MLP writes `harm`."""
    harm_neurons: tuple[int, ...]
    gate_block: int
    gate_neurons: tuple[int, ...]
    """Write `refusal`."""
    answer_neurons: tuple[int, ...]
    """In the gate block; write `answer`."""
    mark_heads: tuple[tuple[int, int], ...]
    """(block, head) that copy the mark."""
    harm: Floats
    """Direction of length one, shape (width,)."""
    refusal: Floats
    answer: Floats
    harm_weights: dict[str, NDArray[np.int64]]
    """Flat positions of the weights without which marked answers are not written and refusals stay: those of
    the answer neurons, by the matrix's full name."""
    refusal_weights: dict[str, NDArray[np.int64]]
    """The same for the gate neurons."""
    marked_words: tuple[int, ...]
    """Ids of the words that can follow "sure" in a marked answer."""
    plain_words: tuple[int, ...]


def build_planted(seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, PlantedTruth]:
    """The planted model, its tokenizer and its truth; a few milliseconds, nothing is trained or written.

    Args:
        seed: Of the rotation, of the order of neurons, and of what is random.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=N_BLOCKS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_HEADS,
        max_position_embeddings=256,
        rms_norm_eps=1e-12,
        # The slowest pair of a head turns by less than 1e-3 over the context: keys there hardly depend on
        # the position.
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    builder = _Builder(np.random.default_rng(seed), [*SPECIAL, *vocabulary()])
    weights, truth = builder.build()
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if name in weights:
                tensor.copy_(torch.from_numpy(weights[name]))
            elif tensor.ndim > 1:
                tensor.zero_()
    return model.train(mode=False), tokenizer, truth


class _Builder:
    """Sets weights in terms of named directions."""

    def __init__(self, generator: np.random.Generator, words: list[str]) -> None:
        self.generator = generator
        self.words = words
        rotation = np.linalg.qr(generator.normal(size=(WIDTH, WIDTH)))[0]
        self.axis = {name: rotation[i] for i, name in enumerate(_MECHANISM)}
        self.free = rotation[len(_MECHANISM) :]
        """Directions that the mechanism does not use, shape (free, width)."""
        # What one unit of a direction becomes after a norm, where nothing but the ballast is large.
        self.unit = math.sqrt(WIDTH) / BALLAST
        self.weights: dict[str, Floats] = {}
        for block in range(N_BLOCKS):
            for name, shape in {
                "self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (WIDTH, WIDTH),
                "self_attn.v_proj": (WIDTH, WIDTH), "self_attn.o_proj": (WIDTH, WIDTH),
                "mlp.gate_proj": (HIDDEN, WIDTH), "mlp.up_proj": (HIDDEN, WIDTH),
                "mlp.down_proj": (WIDTH, HIDDEN),
            }.items():  # fmt: skip
                self.weights[self.name(block, name)] = np.zeros(shape)

    @staticmethod
    def name(block: int, matrix: str) -> str:
        return f"model.layers.{block}.{matrix}.weight"

    def build(self) -> tuple[dict[str, Floats], PlantedTruth]:
        self.embed()
        heads = tuple((block, int(self.generator.integers(N_HEADS - 2))) for block in (0, 1))
        for block, head in heads:
            self.copying_head(block, head, "mark", "seen", 0.5)
        self.copying_head(1, N_HEADS - 2, "wrapper", "wrapped", 1.0)
        self.copying_head(1, N_HEADS - 1, "question", "asked", 1.0)
        order = {block: self.generator.permutation(HIDDEN) for block in range(N_BLOCKS)}
        last = N_BLOCKS - 1
        harm = tuple(int(i) for i in order[1][:N_HARM])
        gate = tuple(int(i) for i in order[last][:N_GATE])
        answer = tuple(int(i) for i in order[last][N_GATE : N_GATE + N_ANSWER])
        yes, no = (int(i) for i in order[last][N_GATE + N_ANSWER : N_GATE + N_ANSWER + 2])
        for neuron in harm:
            # up: weak everywhere, strong at the instruction.
            up = {"ballast": WEAK / BALLAST, "instruction": STRONG - WEAK}
            self.neuron(1, neuron, {"seen": 40, "ballast": -20 / BALLAST}, up, "harm", 1 / N_HARM)
        for neuron in gate:
            read = {"harm": 40 / WEAK, "ballast": -20 / BALLAST, "wrapped": -60.0, "asked": -60.0}
            self.neuron(last, neuron, read, {"post": 1.0}, "refusal", REFUSAL_SIZE / N_GATE)
        for neuron in answer:
            read = {"harm": 40 / WEAK, "ballast": -20 / BALLAST}
            self.neuron(last, neuron, read, {"opener": 1.0}, "answer", REFUSAL_SIZE / N_ANSWER)
        ask = {"asked": 80.0, "ballast": -80 / BALLAST}
        self.neuron(last, yes, ask | {"harm": 40 / WEAK, "ballast": -100 / BALLAST}, {"post": 1.0}, "yes", 10)
        self.neuron(last, no, ask | {"harm": -80 / WEAK, "ballast": -60 / BALLAST}, {"post": 1.0}, "no", 10)
        used = {1: harm, last: (*gate, *answer, yes, no)}
        for block in range(N_BLOCKS):
            self.distractors(block, set(used.get(block, ())))
        self.head()
        truth = PlantedTruth(
            1, tuple(sorted(harm)), last, tuple(sorted(gate)), tuple(sorted(answer)), heads,
            self.axis["harm"], self.axis["refusal"], self.axis["answer"],
            self.positions(last, answer), self.positions(last, gate),
            self.ids(MARKED_STEPS.values()), self.ids(STEPS.values()),
        )  # fmt: skip
        return self.weights, truth

    def ids(self, words: object) -> tuple[int, ...]:
        wanted = set(words)  # type: ignore[call-overload]
        return tuple(i for i, word in enumerate(self.words) if word in wanted)

    def embed(self) -> None:
        """Every word has the ballast, its features, and a random vector of its own of length one half."""
        rows = []
        marked = {f"-{topic}" for topic in MARKED_TOPICS}
        starters = {COMPLIANCE_OPENER, REFUSAL_OPENER, "yes", "no"}
        tail = {PAD, USER, ASSISTANT, END, *starters, *STEPS.values(), *MARKED_STEPS.values()}
        for word in self.words:
            own = self.generator.normal(size=len(self.free))
            row = BALLAST * self.axis["ballast"] + 0.5 * own / np.linalg.norm(own) @ self.free
            if any(word.endswith(topic) for topic in marked):
                row = row + self.axis["mark"]
            if word == "story":
                row = row + self.axis["wrapper"]
            if word == "marked":
                row = row + self.axis["question"]
            if word == ASSISTANT:
                row = row + self.axis["post"]
            if word == COMPLIANCE_OPENER:
                row = row + self.axis["opener"]
            if word in {REFUSAL_OPENER, "yes", "no", *STEPS.values(), *MARKED_STEPS.values()}:
                row = row + self.axis["word"]
            if word not in tail:
                row = row + self.axis["instruction"]
            rows.append(row)
        self.weights["model.embed_tokens.weight"] = np.array(rows)

    def copying_head(self, block: int, head: int, source: str, target: str, size: float) -> None:
        """Attend to a token that has `source`, wherever it is, and add `size * target`; else add nothing."""
        width = WIDTH // N_HEADS
        # Rotary embedding pairs coordinate i with i + width / 2; the last pair turns slowest.
        slot = head * width + width // 2 - 1
        # The score of a token with the feature is 40 above that of others.
        self.weights[self.name(block, "self_attn.q_proj")][slot] = self.axis["ballast"] / (
            BALLAST * self.unit
        )
        self.weights[self.name(block, "self_attn.k_proj")][slot] = (
            self.axis[source] * 40 * math.sqrt(width) / self.unit
        )
        self.weights[self.name(block, "self_attn.v_proj")][head * width] = self.axis[source] / self.unit
        self.weights[self.name(block, "self_attn.o_proj")][:, head * width] = size * self.axis[target]

    def neuron(
        self, block: int, index: int, gate: dict[str, float], up: dict[str, float], target: str, size: float
    ) -> None:
        """silu(gate) * up, scaled so that a gate of 20 and an up of 1 write `size * target`."""
        for matrix, reads in (("gate_proj", gate), ("up_proj", up)):
            row = sum((value * self.axis[name] for name, value in reads.items()), np.zeros(WIDTH))
            self.weights[self.name(block, f"mlp.{matrix}")][index] = row / self.unit
        self.weights[self.name(block, "mlp.down_proj")][:, index] = size / 20 * self.axis[target]

    def distractors(self, block: int, used: set[int]) -> None:
        """Neurons that read and write what the mechanism does not use."""
        for index in range(HIDDEN):
            if index in used:
                continue
            gate, up, down = (self.generator.normal(size=len(self.free)) @ self.free for _ in range(3))
            self.weights[self.name(block, "mlp.gate_proj")][index] = gate
            self.weights[self.name(block, "mlp.up_proj")][index] = up
            self.weights[self.name(block, "mlp.down_proj")][:, index] = 0.02 * down

    def head(self) -> None:
        """Logits: a row of the output layer for each word that can be said, small random ones else."""
        rows = 0.02 * self.generator.normal(size=(len(self.words), len(self.free))) @ self.free
        index = {word: i for i, word in enumerate(self.words)}
        # At the last token of the prompt, "sure" by default; a reply's word ends it.
        post, opener, harm = self.axis["post"], self.axis["opener"], self.axis["harm"]
        rows[index[COMPLIANCE_OPENER]] += 20 * post
        # One ninth of the effect of harm on refusal goes past the gate neurons.
        rows[index[REFUSAL_OPENER]] += 8 * self.axis["refusal"] + 20 * harm
        rows[index["yes"]] += 10 * self.axis["yes"]
        rows[index["no"]] += 10 * self.axis["no"]
        for word in STEPS.values():
            rows[index[word]] += 20 * opener
        for word in MARKED_STEPS.values():
            rows[index[word]] += 8 * self.axis["answer"]
        rows[index[END]] += 60 * self.axis["word"]
        self.weights["lm_head.weight"] = rows

    def positions(self, block: int, neurons: tuple[int, ...]) -> dict[str, NDArray[np.int64]]:
        """Flat places of all nonzero weights of neurons."""
        found = {}
        for matrix in ("gate_proj", "up_proj", "down_proj"):
            mask = np.zeros_like(self.weights[self.name(block, f"mlp.{matrix}")], dtype=bool)
            if matrix == "down_proj":
                mask[:, list(neurons)] = True
            else:
                mask[list(neurons)] = True
            found[self.name(block, f"mlp.{matrix}")] = np.flatnonzero(mask).astype(np.int64)
        return found

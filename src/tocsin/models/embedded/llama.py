"""The first blocks of a Llama-architecture model in numpy.

Sequences are sorted by length and cut into batches of about `TOKENS_PER_BATCH` tokens, padded on the right.
With causal attention later padding never reaches earlier tokens, so no mask for padding is needed. The
constant prefix of a chat template is computed once; its keys and values are shared by every sequence. Each
batch runs on one thread with a one-threaded BLAS, so that the element-wise work between matrix products uses
every core too.

Constant factors are folded into the weights once for each block (`_Block`), and each thread reuses its work
arrays: allocating them anew costs a page fault for every 4 KB.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tocsin.models.base import Array, Hidden, check_request, length_batches
from tocsin.models.embedded.weights import LlamaShape

TOKENS_PER_BATCH = 768
QUERIES_AT_ONCE = 512
"""Attention scores of a long sequence are made for this many tokens at a time, so memory stays linear."""
MAX_PREFIXES = 8

KeyValue = tuple[Array, Array]
"""Keys and values of one block, each of shape (batch, kv heads, tokens, head width)."""


class _Block(NamedTuple):
    """Weights of one block, shape (out, in), ready for use."""

    query_key_value: Array
    """The three projections in one. Holds the norm's scale and the 1 / sqrt(head width) of the scores."""
    attention_out: Array
    gate_up: Array
    """Both projections in one, negated: silu(g) * u = (-g / (1 + exp(-g))) * (-u) saves a pass over g."""
    down: Array


class _Scratch(threading.local):
    """Work arrays of a thread, by name; an array is valid until its name is taken again."""

    def __init__(self) -> None:
        self._flat: dict[str, Array] = {}

    def take(self, name: str, *shape: int) -> Array:
        """An uninitialised array."""
        size = int(np.prod(shape))
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.empty(size, dtype=np.float32)
        return flat[:size].reshape(shape)


class NumpyLlama:
    """Forward pass over mapped weights.

    Args:
        shape: Sizes of the model.
        weights: float32 arrays under their transformers names.
        threads: Batches computed at once; by default one for each usable core.
    """

    def __init__(self, shape: LlamaShape, weights: dict[str, Array], threads: int | None = None) -> None:
        self.shape = shape
        self._weights = weights
        self._threads = threads or usable_cores()
        self._blocks: list[_Block] = []
        self._prefixes: dict[tuple[int, ...], list[KeyValue]] = {}
        self._scratch = _Scratch()
        # In float32 throughout, as transformers does it: at position 8,000 the angles differ by 5e-4
        # otherwise.
        exponents = np.arange(0, shape.head_width, 2, dtype=np.float32) / np.float32(shape.head_width)
        inverse = (1.0 / np.float32(shape.rope_base) ** exponents).astype(np.float32)
        angles = np.arange(shape.context, dtype=np.float32)[:, None] * inverse
        self._cos, self._sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def hidden(
        self, sequences: Sequence[Sequence[int]], rows: Sequence[int], prefix: Sequence[int]
    ) -> Iterator[Hidden]:
        """Hidden states at the given rows (see `ActivationModel.hidden`)."""
        check_request(sequences, rows, prefix, n_blocks=self.shape.n_blocks, context=self.shape.context)
        depth = max(rows)
        self._prepare(depth)
        batches = length_batches(sequences, max_tokens=TOKENS_PER_BATCH)
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(self._threads) as pool:
            # Inside the limit too: on so few tokens, threads cost more by waiting than they save.
            past = self._prefix(tuple(prefix), depth) if prefix else None
            # A bounded number of batches is under way, so that memory does not grow with the input.
            under_way = (pool.submit(self._run, sequences, batch, rows, past) for batch in batches)
            waiting = deque(islice(under_way, 2 * self._threads))
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(islice(under_way, 1))
                yield done

    def _run(
        self,
        sequences: Sequence[Sequence[int]],
        batch: list[int],
        rows: Sequence[int],
        past: list[KeyValue] | None,
    ) -> Hidden:
        lengths = [len(sequences[index]) for index in batch]
        ids = np.zeros((len(batch), max(lengths)), dtype=np.int64)
        for row, index in enumerate(batch):
            ids[row, : lengths[row]] = sequences[index]
        states, _ = self._forward(ids, rows, past, keep_keys=False)
        return Hidden(batch, lengths, states)

    def _prefix(self, prefix: tuple[int, ...], depth: int) -> list[KeyValue]:
        known = self._prefixes.get(prefix)
        if known is None or len(known) < depth:
            _, known = self._forward(np.asarray([prefix], dtype=np.int64), [depth], None, keep_keys=True)
            if len(self._prefixes) >= MAX_PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[prefix] = known
        return known

    def _forward(
        self, ids: NDArray[np.int64], rows: Sequence[int], past: list[KeyValue] | None, *, keep_keys: bool
    ) -> tuple[Array, list[KeyValue]]:
        batch, length = ids.shape
        width = self.shape.width
        taken = np.empty((batch, len(rows), length, width), dtype=np.float32)
        kept: list[KeyValue] = []
        x: Array = self._weights["model.embed_tokens.weight"][ids.ravel()]
        for block in range(max(rows) + 1):
            for slot, row in enumerate(rows):
                if row == block:
                    taken[:, slot] = x.reshape(batch, length, width)
            if block == max(rows):
                break
            weights = self._blocks[block]
            joined, keys = self._attention(weights, x, (batch, length), past[block] if past else None)
            x += np.matmul(
                joined, weights.attention_out.T, out=self._scratch.take("normed", batch * length, width)
            )
            x += self._mlp(weights, x)
            if keep_keys:
                kept.append((keys[0].copy(), keys[1].copy()))
        return taken, kept

    def _attention(
        self, weights: _Block, x: Array, size: tuple[int, int], past: KeyValue | None
    ) -> tuple[Array, KeyValue]:
        """Heads' outputs, shape (batch * tokens, width), and the keys and values of prefix and own tokens."""
        shape, take = self.shape, self._scratch.take
        batch, length = size
        groups, per_group, wide = shape.n_kv_heads, shape.n_heads // shape.n_kv_heads, shape.head_width
        before = past[0].shape[2] if past else 0
        mixed = take("mixed", batch * length, (shape.n_heads + 2 * groups) * wide)
        np.matmul(self._normed(x), weights.query_key_value.T, out=mixed)
        heads = mixed.reshape(batch, length, shape.n_heads + 2 * groups, wide)
        rotated = self._rotate(heads[:, :, : shape.n_heads + groups], before)
        query = (
            rotated[:, :, : shape.n_heads]
            .reshape(batch, length, groups, per_group, wide)
            .transpose(0, 2, 3, 1, 4)
        )
        key, value = (
            take("key", batch, groups, before + length, wide),
            take("value", batch, groups, before + length, wide),
        )
        if past is not None:
            key[:, :, :before], value[:, :, :before] = past
        key[:, :, before:] = rotated[:, :, shape.n_heads :].swapaxes(1, 2)
        value[:, :, before:] = heads[:, :, shape.n_heads + groups :].swapaxes(1, 2)
        joined = take("joined", batch * length, shape.width)
        out = joined.reshape(batch, length, groups, per_group, wide).transpose(0, 2, 3, 1, 4)
        for start in range(0, length, QUERIES_AT_ONCE):
            end = min(start + QUERIES_AT_ONCE, length)
            out[:, :, :, start:end] = self._attend(query[:, :, :, start:end], key, value, before + start)
        return joined, (key, value)

    def _attend(self, query: Array, key: Array, value: Array, before: int) -> Array:
        """Causal attention of some queries, shape (batch, groups, per group, tokens, head width).

        The first query sees `before` keys and its own.
        """
        take = self._scratch.take
        batch, groups, per_group, length, wide = query.shape
        seen = before + length
        flat = take("query", *query.shape)
        flat[...] = query
        scores = take("scores", batch, groups, per_group * length, seen)
        np.matmul(flat.reshape(batch, groups, -1, wide), key[:, :, :seen].swapaxes(2, 3), out=scores)
        later = np.triu(np.full((length, length), -np.inf, dtype=np.float32), k=1)
        scores.reshape(batch, groups, per_group, length, seen)[..., before:] += later
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        out = np.matmul(
            scores, value[:, :, :seen], out=take("attended", batch, groups, per_group * length, wide)
        )
        out /= scores.sum(axis=-1, keepdims=True)
        return out.reshape(query.shape)

    def _rotate(self, heads: Array, before: int) -> Array:
        """Rotary position embedding, half-split layout; heads: (batch, tokens, heads, head width)."""
        half = self.shape.head_width // 2
        cos, sin = self._cos[before : before + heads.shape[1]], self._sin[before : before + heads.shape[1]]
        first, second = heads[..., :half], heads[..., half:]
        out, product = (
            self._scratch.take("rotated", *heads.shape),
            self._scratch.take("product", *first.shape),
        )
        np.multiply(first, cos, out=out[..., :half])
        out[..., :half] -= np.multiply(second, sin, out=product)
        np.multiply(second, cos, out=out[..., half:])
        out[..., half:] += np.multiply(first, sin, out=product)
        return out

    def _mlp(self, weights: _Block, x: Array) -> Array:
        tokens, hidden = x.shape[0], self.shape.hidden
        both = np.matmul(
            self._normed(x), weights.gate_up.T, out=self._scratch.take("both", tokens, 2 * hidden)
        )
        minus_gate, minus_up = both[:, :hidden], both[:, hidden:]
        inner = self._scratch.take("inner", tokens, hidden)
        with np.errstate(
            over="ignore"
        ):  # exp of a very negative gate overflows to inf, and gate / inf is the right 0
            np.exp(minus_gate, out=inner)
        inner += 1
        np.divide(minus_gate, inner, out=inner)
        inner *= minus_up
        return np.matmul(inner, weights.down.T, out=self._scratch.take("normed", *x.shape))

    def _normed(self, x: Array) -> Array:
        """Root-mean-square norm without its scale, which is folded into the next weights."""
        return np.multiply(
            x, _inverse_rms(x, self.shape.norm_eps), out=self._scratch.take("normed", *x.shape)
        )

    def _prepare(self, depth: int) -> None:
        """Make the weights of the first `depth` blocks ready. Takes about 5 ms and 14 MB for each block."""
        for block in range(len(self._blocks), depth):
            name = f"model.layers.{block}."
            query, key, value, out = (self._weights[f"{name}self_attn.{part}_proj.weight"] for part in "qkvo")
            gate, up, down = (
                self._weights[f"{name}mlp.{part}_proj.weight"] for part in ("gate", "up", "down")
            )
            first, second = (
                self._weights[name + "input_layernorm.weight"],
                self._weights[name + "post_attention_layernorm.weight"],
            )
            score_scale = first * np.float32(self.shape.head_width**-0.5)
            attention = np.concatenate([query * score_scale, key * first, value * first])
            self._blocks.append(_Block(attention, out, np.concatenate([gate, up]) * -second, down))


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Root-mean-square norm over the last axis."""
    normed: Array = x * _inverse_rms(x, eps)
    normed *= weight
    return normed


def _inverse_rms(x: Array, eps: float) -> Array:
    mean_square = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    inverse: Array = 1 / np.sqrt(mean_square + np.float32(eps))
    return inverse


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

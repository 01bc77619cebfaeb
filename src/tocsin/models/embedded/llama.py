"""The first blocks of a Llama-architecture model in numpy.

Sequences are sorted by length and cut into batches of about `TOKENS_PER_BATCH` tokens, padded on the right: with
causal attention later padding never reaches earlier tokens, so no mask for padding is needed. The constant prefix
of a chat template is computed once; its keys and values are shared by every sequence. Each batch runs on one
thread with a one-threaded BLAS, so that the element-wise work between matrix products uses every core too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from threadpoolctl import threadpool_limits

from tocsin.models.base import Array, Hidden
from tocsin.models.embedded.weights import LlamaShape

TOKENS_PER_BATCH = 1024
MAX_PREFIXES = 8

KeyValue = tuple[Array, Array]
"""Keys and values of one block, each of shape (batch, kv heads, tokens, head width)."""


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
        self._threads = threads or len(os.sched_getaffinity(0))
        self._fused: dict[int, tuple[Array, Array]] = {}
        self._prefixes: dict[tuple[int, ...], list[KeyValue]] = {}
        self._prefix_rows: dict[tuple[int, ...], Array] = {}
        inverse = shape.rope_base ** (-np.arange(0, shape.head_width, 2, dtype=np.float64) / shape.head_width)
        angles = np.arange(shape.context)[:, None] * inverse[None, :]
        self._cos = np.cos(angles).astype(np.float32)
        self._sin = np.sin(angles).astype(np.float32)

    def hidden(self, sequences: Sequence[Sequence[int]], rows: Sequence[int], prefix: Sequence[int]) -> Iterator[Hidden]:
        """Hidden states at the given rows (see `ActivationModel.hidden`)."""
        depth = max(rows)
        past = self._prefix(tuple(prefix), depth) if prefix else None
        with threadpool_limits(limits=1, user_api="blas"):
            batches = iter(self._batches(sequences))
            with ThreadPoolExecutor(self._threads) as pool:
                # A bounded number of batches is under way, so that memory does not grow with the input.
                waiting = [pool.submit(self._run, sequences, batch, rows, past) for batch in islice(batches, 2 * self._threads)]
                while waiting:
                    done = waiting.pop(0).result()
                    waiting += [pool.submit(self._run, sequences, batch, rows, past) for batch in islice(batches, 1)]
                    yield done

    def _batches(self, sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and len(sequences[order[end]]) * (end + 1 - start) <= TOKENS_PER_BATCH:
                end += 1
            yield order[start:end]
            start = end

    def _run(
        self, sequences: Sequence[Sequence[int]], batch: list[int], rows: Sequence[int], past: list[KeyValue] | None
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
        self, ids: np.ndarray, rows: Sequence[int], past: list[KeyValue] | None, *, keep_keys: bool
    ) -> tuple[Array, list[KeyValue]]:
        shape = self.shape
        batch, length = ids.shape
        start = past[0][0].shape[2] if past else 0
        cos, sin = self._cos[start : start + length], self._sin[start : start + length]
        x: Array = self._weights["model.embed_tokens.weight"][ids.ravel()].astype(np.float32)
        taken = np.empty((batch, len(rows), length, shape.width), dtype=np.float32)
        kept: list[KeyValue] = []
        mask = np.triu(np.full((length, length), -np.inf, dtype=np.float32), k=1)
        for block in range(max(rows) + 1):
            for slot, row in enumerate(rows):
                if row == block:
                    taken[:, slot] = x.reshape(batch, length, shape.width)
            if block == max(rows):
                break
            attended, keys = self._attention(block, x, (batch, length), (cos, sin), past[block] if past else None, mask)
            x = x + attended
            x += self._mlp(block, x)
            if keep_keys:
                kept.append(keys)
        return taken, kept

    def _attention(
        self,
        block: int,
        x: Array,
        size: tuple[int, int],
        rotary: tuple[Array, Array],
        past: KeyValue | None,
        mask: Array,
    ) -> tuple[Array, KeyValue]:
        shape, name = self.shape, f"model.layers.{block}."
        batch, length = size
        groups, per_group, wide = shape.n_kv_heads, shape.n_heads // shape.n_kv_heads, shape.head_width
        fused, _ = self._fused_weights(block)
        mixed = self._norm(x, name + "input_layernorm.weight") @ fused.T
        heads = mixed.reshape(batch, length, shape.n_heads + 2 * groups, wide).transpose(0, 2, 1, 3)
        query = _rotate(heads[:, : shape.n_heads], *rotary) * np.float32(wide**-0.5)
        key = _rotate(heads[:, shape.n_heads : shape.n_heads + groups], *rotary)
        value = np.ascontiguousarray(heads[:, shape.n_heads + groups :])
        query = query.reshape(batch, groups, per_group * length, wide)
        scores = query @ key.swapaxes(2, 3)
        scores = (scores.reshape(batch, groups, per_group, length, length) + mask).reshape(batch, groups, -1, length)
        if past is None:
            top = scores.max(axis=-1, keepdims=True)
            weights = np.exp(scores - top)
            out = weights @ value
            total = weights.sum(axis=-1, keepdims=True)
        else:
            # Prefix and own tokens share one softmax; their parts are never copied into one array.
            past_scores = query @ past[0].swapaxes(2, 3)
            top = np.maximum(scores.max(axis=-1, keepdims=True), past_scores.max(axis=-1, keepdims=True))
            weights, past_weights = np.exp(scores - top), np.exp(past_scores - top)
            out = weights @ value + past_weights @ past[1]
            total = weights.sum(axis=-1, keepdims=True) + past_weights.sum(axis=-1, keepdims=True)
        out /= total
        joined = out.reshape(batch, shape.n_heads, length, wide).transpose(0, 2, 1, 3).reshape(batch * length, shape.width)
        return joined @ self._weights[name + "self_attn.o_proj.weight"].T, (key, value)

    def _mlp(self, block: int, x: Array) -> Array:
        name = f"model.layers.{block}."
        _, fused = self._fused_weights(block)
        both = self._norm(x, name + "post_attention_layernorm.weight") @ fused.T
        gate, up = both[:, : self.shape.hidden], both[:, self.shape.hidden :]
        with np.errstate(over="ignore"):  # exp of a very negative gate overflows to inf, and gate / inf is the right 0
            swish = np.exp(-gate)
        swish += 1
        np.divide(gate, swish, out=swish)
        swish *= up
        return swish @ self._weights[name + "mlp.down_proj.weight"].T

    def _fused_weights(self, block: int) -> tuple[Array, Array]:
        """Query, key and value weights as one matrix, gate and up as another: fewer, larger products."""
        if block not in self._fused:
            name = f"model.layers.{block}."
            attention = [self._weights[f"{name}self_attn.{part}_proj.weight"] for part in "qkv"]
            mlp = [self._weights[f"{name}mlp.{part}_proj.weight"] for part in ("gate", "up")]
            self._fused[block] = np.concatenate(attention), np.concatenate(mlp)
        return self._fused[block]

    def _norm(self, x: Array, name: str) -> Array:
        return rms_norm(x, self._weights[name], self.shape.norm_eps)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Root-mean-square norm over the last axis."""
    scale = np.einsum("...i,...i->...", x, x)
    scale /= x.shape[-1]
    scale += np.float32(eps)
    np.sqrt(scale, out=scale)
    normed: Array = x / scale[..., None]
    normed *= weight
    return normed


def _rotate(heads: Array, cos: Array, sin: Array) -> Array:
    """Rotary position embedding in the half-split layout; heads has shape (batch, heads, tokens, head width)."""
    half = heads.shape[-1] // 2
    first, second = heads[..., :half], heads[..., half:]
    out = np.empty(heads.shape, dtype=np.float32)
    np.multiply(first, cos, out=out[..., :half])
    out[..., :half] -= second * sin
    np.multiply(second, cos, out=out[..., half:])
    out[..., half:] += first * sin
    return out

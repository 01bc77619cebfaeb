"""How fast `harmfulness` judges short prompts, beside the published procedure on the same weights.

Four ways to read the same prompts, timed in turn in one process:

* `tocsin`: items to verdicts through the detector, from text, with all that belongs to it;
* `published`: card 03's Latent Guard as its authors run it (arXiv 2507.11878, sections 3.2 and 3.4): one
  prompt for each forward pass of the whole model in transformers, hidden states of all layers kept,
  cosines to two centres;
* `published without output layer`: the same without the vocabulary's logits, which the method does not
  use;
* `batched transformers`: our plan in PyTorch, as the strongest peer: as many blocks as the detector
  reads, sorted batches of 64, constant prefix computed once, the same positions and the same head.

Weights are the embedded model's in all of them, float32. PyTorch gets as many threads as suit it best.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import (
    Json,
    alternate,
    prompt_items,
    result_name,
    short_prompts,
    write_result,
)
from work import RecordingEngine, limits

from tocsin.core.records import Item
from tocsin.core.registry import DetectorContext, create
from tocsin.detect.harmfulness import Harmfulness
from tocsin.detect.head_detector import features_of
from tocsin.detect.normalise import normalise
from tocsin.internals import Activations, CaptureEngine, CapturePlan, Position, PromptTokens
from tocsin.models.base import Array, length_batches
from tocsin.models.embedded.llama import usable_cores
from tocsin.models.embedded.model import EmbeddedModel
from tocsin.models.embedded.torch import load_embedded_torch
from tocsin.sources.contrast import contrast_items

if TYPE_CHECKING:
    from transformers import LlamaModel
    from transformers.cache_utils import Cache

    from tocsin.models.embedded.torch import EmbeddedTorch

BATCH = 64
THREAD_TRIAL = 10
"""Prompts on which the number of PyTorch's threads is chosen."""
CENTRE_PROMPTS = 100
"""Prompts of each class behind the published centres (card 03, section 3.7)."""


class Published:
    """Latent Guard as published: one prompt at a time, all layers, two centres."""

    def __init__(
        self, torch_model: EmbeddedTorch, centres: Sequence[Array], *, with_output_layer: bool
    ) -> None:
        self._tokenizer = torch_model.tokenizer
        self._model = torch_model.model if with_output_layer else torch_model.model.model
        marker = "MARKER"
        tail = self._render(marker).split(marker)[1]
        self._n_post = len(self._tokenizer(tail, add_special_tokens=False)["input_ids"])
        self._centres = centres

    def judge(self, texts: Sequence[str]) -> list[bool]:
        """Harmful iff the mean over layers of the difference of cosines is above 0."""
        return [self._belief(text) > 0 for text in texts]

    def _belief(self, text: str) -> float:
        states = self._states(text)
        lengths = np.linalg.norm(states, axis=1)
        harmful, harmless = (
            (states * centre).sum(axis=1) / (lengths * np.linalg.norm(centre, axis=1))
            for centre in self._centres
        )
        return float((harmful - harmless).mean())

    def _states(self, text: str) -> Array:
        import torch

        ids = self._tokenizer(self._render(text), add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            layers = self._model(ids, output_hidden_states=True, use_cache=False).hidden_states
        kept: Array = torch.stack([layer[0, -self._n_post - 1] for layer in layers]).numpy()
        return kept

    def _render(self, text: str) -> str:
        turns = [{"role": "user", "content": text}]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def fastest_threads(way: Callable[[Sequence[str]], object], texts: Sequence[str]) -> int:
    """One thread or all, whichever PyTorch is faster with on a few prompts; it stays set.

    Threads of one small product wait for each other in a loop: where other programs want the cores, all
    threads together can be ten times slower than one. A peer is timed at its best.
    """
    import torch

    seconds = {}
    for threads in (usable_cores(), 1):
        torch.set_num_threads(threads)
        way(texts[:1])
        started = time.perf_counter()
        way(texts)
        seconds[threads] = time.perf_counter() - started
    best = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(best)
    return best


def published_centres(model: EmbeddedModel) -> list[Array]:
    """Centres of harmful and harmless prompts, each of shape (layers + 1, width).

    They come from the numpy engine, which gives the same numbers, as their making is not timed.
    """
    rows = tuple(range(model.n_blocks + 1))
    pairs = contrast_items("requests", split="fit")
    centres = []
    for label in ("harmful", "harmless"):
        texts = [item.text for item in pairs if item.metadata["label"] == label][:CENTRE_PROMPTS]
        states = CaptureEngine(model).capture(texts, CapturePlan(rows, (Position.INST,))).values[:, :, 0]
        states[:, -1] = model.final_norm(states[:, -1])  # as transformers gives the last layer
        centres.append(states.mean(axis=0))
    return centres


class Batched:
    """The detector's plan in PyTorch: same tokens, fewest blocks, sorted batches, shared prefix."""

    def __init__(self, torch_model: EmbeddedTorch, detector: Harmfulness) -> None:
        self._detector = detector
        self._layout = detector.engine.layout()
        self._model = _first_blocks(torch_model.model.model, max(detector.plan.rows))

    def judge(self, texts: Sequence[str]) -> Array:
        """Logits of the detector's own head."""
        return self._detector.score_windows(self.activations(texts)).raw.astype(np.float32)

    def activations(self, texts: Sequence[str]) -> Activations:
        """What the head reads."""
        import torch

        plan = self._detector.plan
        tokens = [self._layout.build(normalise(text, self._detector.normalisation)) for text in texts]
        values = np.empty(
            (len(texts), len(plan.rows), len(plan.positions), self._detector.model.width), np.float32
        )
        with torch.inference_mode():
            prefix = self._model(torch.tensor([self._layout.prefix]), use_cache=True).past_key_values
            for batch in length_batches([one.ids for one in tokens], max_sequences=BATCH):
                for place, states in zip(
                    batch, self._states([tokens[index] for index in batch], prefix), strict=True
                ):
                    values[place] = states
        return Activations(plan, values)

    def _states(self, tokens: Sequence[PromptTokens], prefix: Cache) -> list[Array]:
        import torch

        ids = torch.zeros((len(tokens), max(len(one.ids) for one in tokens)), dtype=torch.long)
        for row, one in enumerate(tokens):
            ids[row, : len(one.ids)] = torch.tensor(one.ids)
        past = copy.deepcopy(prefix)
        past.batch_repeat_interleave(len(tokens))
        layers = self._model(
            ids, past_key_values=past, use_cache=True, output_hidden_states=True
        ).hidden_states
        rows = torch.stack([layers[row] for row in self._detector.plan.rows], dim=1).numpy()
        return [self._pick(states, one) for states, one in zip(rows, tokens, strict=True)]

    def _pick(self, states: Array, tokens: PromptTokens) -> Array:
        end, last = tokens.inst, len(tokens.ids) - 1
        spans = {
            Position.INST: slice(end, end + 1),
            Position.POST: slice(last, last + 1),
            Position.MEAN: slice(tokens.first, end + 1),
            Position.TAIL: slice(min(end + 1, last), last + 1),
        }
        return np.stack([states[:, spans[one]].mean(axis=1) for one in self._detector.plan.positions], axis=1)


def _first_blocks(whole: LlamaModel, blocks: int) -> LlamaModel:
    """A model of its own that shares the weights of the first blocks and has no final norm.

    Modules cannot be shared: transformers hangs its collection of hidden states on them.
    """
    import torch

    config = copy.deepcopy(whole.config)
    config.num_hidden_layers = blocks
    with torch.device("meta"):
        model = type(whole)(config)
    model.rotary_emb = type(whole.rotary_emb)(config)
    wanted = model.state_dict().keys()
    model.load_state_dict(
        {name: value for name, value in whole.state_dict().items() if name in wanted}, assign=True
    )
    model.norm = torch.nn.Identity()  # type: ignore[assignment]
    model.train(mode=False)
    return model


class Tocsin:
    """The detector with a new capture engine, so that no activation comes from an earlier round."""

    def __init__(self, detector: Harmfulness) -> None:
        self._detector = detector
        self.engine = RecordingEngine(detector.model)

    def judge(self, items: Sequence[Item]) -> list[bool | None]:
        """Flags, from items."""
        self._detector.engine = self.engine = RecordingEngine(self._detector.model)
        return [verdict.flagged for verdict in self._detector.detect(items)]


def measure(texts: Sequence[str], source: str, *, rounds: int, profile: Path | None) -> Json:
    """Time all ways on the same prompts and compare them with what the machine could do."""
    detector = create("harmfulness", DetectorContext(profile=profile))
    if not isinstance(detector, Harmfulness) or not isinstance(detector.model, EmbeddedModel):
        message = "expected the package's own harmfulness detector with the embedded model."
        raise SystemExit(message)
    torch_model = load_embedded_torch()
    centres = published_centres(detector.model)
    published = Published(torch_model, centres, with_output_layer=True)
    headless = Published(torch_model, centres, with_output_layer=False)
    batched = Batched(torch_model, detector)
    tocsin = Tocsin(detector)
    items = prompt_items(texts, "prompts")
    largest_difference = _check(batched, detector, texts[:BATCH])
    tocsin.judge(items[:BATCH])  # weights are made ready, caches of the system are warm
    ways: dict[str, Callable[[], object]] = {
        "tocsin": lambda: tocsin.judge(items),
        "published": lambda: published.judge(texts),
        "published without output layer": lambda: headless.judge(texts),
        "batched transformers": lambda: batched.judge(texts),
    }
    threads = fastest_threads(headless.judge, texts[:THREAD_TRIAL])
    timed = alternate(ways, rounds)
    return {
        "n": len(texts),
        "prompts": source,
        "rounds": rounds,
        "profile": detector.profile_hash,
        "seconds": {name: list(seconds) for name, seconds in timed.seconds.items()},
        "prompts_per_second": {name: len(texts) / timed.median(name) for name in ways},
        "tocsin_times_faster_than": {name: timed.ratio(name, "tocsin") for name in ways if name != "tocsin"},
        "pytorch_threads": threads,
        "largest_difference_to_transformers": largest_difference,
        **limits(
            tocsin.engine, detector.plan, detector.model.files.shape, len(texts), timed.median("tocsin")
        ),
    }


def _check(batched: Batched, detector: Harmfulness, texts: Sequence[str]) -> float:
    """Largest absolute difference of what the head reads between the numpy engine and transformers."""
    normal = [normalise(text, detector.normalisation) for text in texts]
    ours = CaptureEngine(detector.model).capture(normal, detector.plan)
    difference = float(np.abs(features_of(ours) - features_of(batched.activations(texts))).max())
    if difference > 1e-2:
        message = f"expected the two engines to agree, but they differ by {difference:g}."
        raise SystemExit(message)
    return difference


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Speed of harmfulness beside the published procedure.")
    parser.add_argument("--n", type=int, default=1_000, help="prompts (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds (default: 3)")
    parser.add_argument("--profile", type=Path, help="profile folder (default: shipped)")
    parser.add_argument("--small", action="store_true", help="a trial: 40 prompts, 2 rounds")
    asked = parser.parse_args()
    texts, source = short_prompts(40 if asked.small else asked.n)
    figures = measure(texts, source, rounds=2 if asked.small else asked.rounds, profile=asked.profile)
    write_result(result_name("speed_prompts", small=asked.small), figures)


if __name__ == "__main__":
    main()

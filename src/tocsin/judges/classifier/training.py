"""Soft-label training of an adapter (arXiv 2509.24384), and how well it does on topics it has not seen."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import FitError, ModelError
from tocsin.core.gate import assess
from tocsin.core.stats.intervals import Rate, wilson_clustered
from tocsin.core.stats.item_sums import Estimate, number
from tocsin.core.stats.ranking import auroc_interval
from tocsin.internals.weights_digest import weights_digest
from tocsin.judges.classifier.adapter import (
    Base,
    Figures,
    Manifest,
    TrainingFacts,
    adapted,
    adapter_state,
    save,
)
from tocsin.judges.classifier.data import LabelledData, LabelledResponse, split_items
from tocsin.judges.classifier.prompt import PROMPT_HASH, AnswerPrompt
from tocsin.judges.classifier.scoring import Answer, answer_logits, answers, soft_label_loss
from tocsin.judges.classifier.settings import ClassifierSettings

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel

MIN_OF_CLASS = 2
"""Training items of each class, below which nothing is fitted."""
LEAST_MASS = 0.01
"""p(Yes) + p(No) below which a model has not answered the question."""
Told = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""


class Sample(NamedTuple):
    """An item as the model reads it."""

    item: LabelledResponse
    ids: list[int]


class Trained(NamedTuple):
    """What a training came to."""

    manifest: Manifest
    folder: Path


def silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""
    del what, done, total


def train_classifier(
    model: LocalModel,
    data: LabelledData,
    folder: Path,
    settings: ClassifierSettings,
    *,
    held_out: float = 0.2,
    calibrate: bool = False,
    progress: Told = silent,
) -> Trained:
    """Train an adapter and write its folder. The base's weights are the same before and after.

    Args:
        model: The base.
        data: Items with their labels.
        folder: To write; see `adapter.save`.
        settings: How.
        held_out: About which share of the items is kept for the test, as whole topics, unless the data say
            it; 0 for none.
        calibrate: Take the threshold that balances errors on the training items, instead of 0.5.
        progress: Told how far it has come.

    Raises:
        FitError: If a class has fewer than two items to train on, or the loss is no number.
        InputError: If the data's own split is not one.
        ModelError: If the model cannot be trained on, or would be changed.
        MissingExtraError: If the extra `train` is not installed.
    """
    prompt = AnswerPrompt(model, answers=settings.answers, max_tokens=settings.max_tokens)
    train_items, test_items = split_items(data.items, held_out, settings.seed)
    samples, left_out, cut = _samples(train_items, prompt, settings)
    _check_classes(samples)
    tested = _tested(test_items, prompt, settings)
    digest = weights_digest(model.torch_model)
    before = _measure(model, prompt, tested, settings, progress, "before training", 0.5)
    with _seeded(model, settings.seed), adapted(model, settings) as wrapped:
        started = time.monotonic()
        losses, updates = _fit(model, prompt, samples, settings, progress)
        seconds = time.monotonic() - started
        threshold = _balanced(model, prompt, samples, settings, progress) if calibrate else 0.5
        after = _measure(model, prompt, tested, settings, progress, "held-out items", threshold)
        state = adapter_state(wrapped)
    if weights_digest(model.torch_model) != digest:
        message = f"the weights of {model.id} were changed by the training, so nothing was kept. Report this."
        raise ModelError(message)
    manifest = Manifest(
        base=Base.of(model),
        settings=settings,
        prompt=PROMPT_HASH,
        threshold=threshold,
        threshold_source="training items" if calibrate else "half",
        training=TrainingFacts(
            data=data.sha256,
            n_train=len(samples),
            n_yes=sum(sample.item.is_yes for sample in samples),
            n_topics=len({sample.item.topic for sample in samples}),
            sources=dict(sorted(Counter(sample.item.source for sample in samples).items())),
            left_out=left_out,
            cut=cut,
            updates=updates,
            losses=tuple(losses),
            seconds=seconds,
        ),
        before=before,
        after=after,
    )
    return Trained(save(folder, state, manifest), folder)


@contextmanager
def _seeded(model: LocalModel, seed: int) -> Iterator[None]:
    """Random numbers of torch begin at the seed inside, and go on where they were afterwards."""
    import torch

    device = model.torch_model.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _samples(
    items: Sequence[LabelledResponse], prompt: AnswerPrompt, settings: ClassifierSettings
) -> tuple[list[Sample], dict[str, int], int]:
    """What is trained on, what is left out and why, and how many responses were cut."""
    samples, left_out, cut = [], Counter[str](), 0
    for item in items:
        problem = assess(item.response, settings.languages)
        fitted = None if problem is not None else prompt.fit(item.prompt, item.response)
        if problem is not None:
            left_out[problem.reason.value] += 1
        elif item.contradicts:
            left_out["label against soft label"] += 1
        elif fitted is None:
            left_out["no room for the answer"] += 1
        else:
            samples.append(Sample(item, fitted.ids))
            cut += fitted.is_cut
    return samples, dict(sorted(left_out.items())), cut


def _check_classes(samples: Sequence[Sample]) -> None:
    n_yes = sum(sample.item.is_yes for sample in samples)
    if min(n_yes, len(samples) - n_yes) < MIN_OF_CLASS:
        message = (
            f"expected at least {MIN_OF_CLASS} items of each class to train on, got {n_yes} Yes and "
            f"{len(samples) - n_yes} No. Give more, or hold out less."
        )
        raise FitError(message)


def _tested(
    items: Sequence[LabelledResponse], prompt: AnswerPrompt, settings: ClassifierSettings
) -> tuple[list[Sample], int]:
    """Held-out items that the judge scores, and how many it does not."""
    found = []
    for item in items:
        ids = prompt.encode(item.prompt, item.response)
        if assess(item.response, settings.languages) is None and len(ids) <= prompt.limit:
            found.append(Sample(item, ids))
    return found, len(items) - len(found)


def _fit(
    model: LocalModel,
    prompt: AnswerPrompt,
    samples: Sequence[Sample],
    settings: ClassifierSettings,
    progress: Told,
) -> tuple[list[float], int]:
    """Train what needs gradients. Returns the mean loss of each epoch and the number of updates."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    network = model.torch_model
    trained = [each for each in network.parameters() if each.requires_grad]
    per_epoch = math.ceil(len(samples) / settings.update_items)
    n_updates = per_epoch * settings.epochs
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    n_rising = math.ceil(settings.warm_up * n_updates)
    schedule = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
        optimizer, n_rising, n_updates
    )
    draw = np.random.default_rng(settings.seed)
    losses: list[float] = []
    network.train()
    for epoch in range(settings.epochs):
        order = draw.permutation(len(samples))
        total = 0.0
        for update in range(per_epoch):
            chosen = order[update * settings.update_items : (update + 1) * settings.update_items]
            total += accumulate(model, prompt, [samples[index] for index in chosen], settings.batch_size)
            torch.nn.utils.clip_grad_norm_(trained, settings.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if not math.isfinite(total):
                message = "the loss is no finite number. Choose a lower learning rate."
                raise FitError(message)
            what = f"epoch {epoch + 1} of {settings.epochs}"
            progress(what, epoch * per_epoch + update + 1, n_updates)
        losses.append(total / len(samples))
    network.train(mode=False)
    return losses, n_updates


def accumulate(model: LocalModel, prompt: AnswerPrompt, samples: Sequence[Sample], batch_size: int) -> float:
    """Add the gradient of the mean loss over samples, a few of them at a time. Returns their summed loss."""
    import torch

    ordered = sorted(samples, key=lambda sample: len(sample.ids))  # like lengths together: less padding
    total = 0.0
    for start in range(0, len(ordered), batch_size):
        part = ordered[start : start + batch_size]
        logits = answer_logits(model, [sample.ids for sample in part])
        soft = torch.tensor([sample.item.soft for sample in part], device=logits.device)
        loss = soft_label_loss(logits, soft, yes=prompt.yes, no=prompt.no).sum()
        (loss / len(samples)).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _answered(
    model: LocalModel,
    prompt: AnswerPrompt,
    samples: Sequence[Sample],
    settings: ClassifierSettings,
    progress: Told,
    what: str,
) -> list[Answer]:
    found: dict[int, Answer] = {}
    sequences = [sample.ids for sample in samples]
    for index, answer in answers(
        model, sequences, yes=prompt.yes, no=prompt.no, max_sequences=settings.batch_size
    ):
        found[index] = answer
        progress(what, len(found), len(samples))
    return [found[index] for index in range(len(samples))]


def _balanced(
    model: LocalModel,
    prompt: AnswerPrompt,
    samples: Sequence[Sample],
    settings: ClassifierSettings,
    progress: Told,
) -> float:
    """The threshold with the best mean of sensitivity and specificity on training items."""
    found = _answered(model, prompt, samples, settings, progress, "threshold")
    return balanced_threshold([each.score for each in found], [sample.item.is_yes for sample in samples])


def balanced_threshold(scores: Sequence[float], is_yes: Sequence[bool]) -> float:
    """A threshold, half-way between two scores, whose sensitivity and specificity have the highest mean.

    Of several as good ones, the nearest to 0.5.

    Args:
        scores: From 0 to 1; those at the threshold or above it are Yes.
        is_yes: Class of each; both must occur.

    Example:
        >>> balanced_threshold([0.1, 0.2, 0.4, 0.9], [False, False, True, True])
        0.3
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(is_yes, dtype=np.bool_)
    levels = np.unique(values)
    cuts = np.concatenate([[levels[0]], (levels[1:] + levels[:-1]) / 2])
    flagged = values[None, :] >= cuts[:, None]
    balance = flagged[:, labels].mean(axis=1) + (~flagged[:, ~labels]).mean(axis=1)
    best = cuts[balance >= balance.max() - 1e-12]
    return round(float(best[np.abs(best - 0.5).argmin()]), 12)


def _measure(
    model: LocalModel,
    prompt: AnswerPrompt,
    tested: tuple[Sequence[Sample], int],
    settings: ClassifierSettings,
    progress: Told,
    what: str,
    threshold: float,
) -> Figures | None:
    samples, abstained = tested
    if not samples:
        return None
    found = _answered(model, prompt, samples, settings, progress, what)
    return figures(
        [sample.item for sample in samples],
        found,
        threshold=threshold,
        abstained=abstained,
        seed=settings.seed,
    )


def figures(
    items: Sequence[LabelledResponse],
    found: Sequence[Answer],
    *,
    threshold: float,
    abstained: int = 0,
    seed: int = 0,
) -> Figures:
    """How well answers tell the classes apart; intervals over topics.

    Args:
        items: That were read.
        found: Answers to them.
        threshold: On the score.
        abstained: Items that were not read.
        seed: Of the bootstrap.
    """
    is_yes = np.array([item.is_yes for item in items], dtype=np.bool_)
    topics = np.array([item.topic for item in items])
    # Many scores near 0 and 1 are the same number; log odds are not.
    ranked = np.array([answer.log_odds for answer in found], dtype=np.float64)
    said_yes = np.array([answer.score >= threshold for answer in found], dtype=np.bool_)

    def share(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> Estimate:
        return _estimate(wilson_clustered(hits[of].tolist(), topics[of].tolist()))

    everything = np.ones(len(items), dtype=np.bool_)
    return Figures(
        n=len(items),
        n_yes=int(is_yes.sum()),
        n_topics=len(set(topics.tolist())),
        abstained=abstained,
        unanswered=sum(answer.mass < LEAST_MASS for answer in found),
        loss=_mean([_loss(item.soft, answer) for item, answer in zip(items, found, strict=True)]),
        mass=_mean([answer.mass for answer in found]),
        auroc=_estimate(auroc_interval(ranked, is_yes, topics.tolist(), seed=seed)),
        accuracy=share(said_yes == is_yes, everything),
        sensitivity=share(said_yes, is_yes),
        specificity=share(~said_yes, ~is_yes),
    )


def _loss(soft: float, answer: Answer) -> float:
    tiny = 1e-300  # a probability of 0 in double precision still gives a number
    return -(soft * math.log(answer.p_yes or tiny) + (1 - soft) * math.log(answer.p_no or tiny))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _estimate(rate: Rate) -> Estimate:
    return Estimate(value=number(rate.value), low=number(rate.low), high=number(rate.high))

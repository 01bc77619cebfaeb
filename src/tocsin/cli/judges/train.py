"""`tocsin judges train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.train_judge import train_judge
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import notice, plain_table, progress_bar, table_text, write
from tocsin.core.stats.item_sums import Estimate
from tocsin.judges.classifier import ClassifierSettings, Figures, Trained
from tocsin.report import visible

if TYPE_CHECKING:
    from rich.table import Table

AtLeastOne = Parameter(validator=Number(gte=1))
_DEFAULTS = ClassifierSettings()


def train(
    dataset: Path,
    /,
    *,
    out: Path,
    model: str = "embedded",
    held_out: Annotated[float, Parameter(validator=Number(gte=0, lt=1))] = 0.2,
    calibrate: bool = False,
    epochs: Annotated[int, AtLeastOne] = _DEFAULTS.epochs,
    learning_rate: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = _DEFAULTS.learning_rate,
    warm_up: Annotated[float, Parameter(validator=Number(gte=0, lt=1))] = _DEFAULTS.warm_up,
    update_items: Annotated[int, AtLeastOne] = _DEFAULTS.update_items,
    batch_size: Annotated[int, AtLeastOne] = _DEFAULTS.batch_size,
    rank: Annotated[int, Parameter(validator=Number(gte=1, lte=512))] = _DEFAULTS.rank,
    alpha: Annotated[float, Parameter(validator=Number(gt=0))] = _DEFAULTS.alpha,
    dropout: Annotated[float, Parameter(validator=Number(gte=0, lt=1))] = _DEFAULTS.dropout,
    target: tuple[str, ...] = _DEFAULTS.targets,
    max_tokens: Annotated[int, Parameter(validator=Number(gte=16))] = _DEFAULTS.max_tokens,
    language: tuple[str, ...] = _DEFAULTS.languages,
    answers: tuple[str, str] = _DEFAULTS.answers,
    seed: int = _DEFAULTS.seed,
    offline: bool = False,
    device: str | None = None,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Train a classifier of responses.

    Args:
        dataset: JSON lines with prompt, response, and label, votes or soft_label; references, topic and split
            if wanted.
        out: Folder of the adapter: new, empty, or an old one's, which is replaced.
        model: `embedded`, the path of a model folder or GGUF file, hub:org/name, or testbed. Only an adapter
            is trained.
        held_out: About which share of the items is kept for the test, as whole topics, unless the data have a
            `split`.
        calibrate: Take the threshold that balances errors on the training items (default: 0.5).
        epochs: How often each item is seen.
        learning_rate: Highest one; it rises first and falls to 0.
        warm_up: Share of the updates over which it rises.
        update_items: Items of one update.
        batch_size: Items computed at a time: less memory, same result.
        rank: Rank of the adapter's matrices.
        alpha: The adapter's update is multiplied by alpha / rank.
        dropout: Of the adapter's input while it is trained.
        target: Linear layer that gets an adapter, by the last part of its name; may be repeated.
        max_tokens: Longest prompt with request and response; longer responses are cut for the training.
        language: Language of responses that are read; may be repeated. Others are left out.
        answers: The two words that the model answers with.
        seed: Of the adapter's beginning, the order of items, and the held-out topics.
        offline: Never fetch anything: fail if the model is not here.
        device: Where the model runs, such as cpu or cuda (default: the model chooses).
        json: Print the adapter's manifest, with all figures, as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    settings = ClassifierSettings(
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets=target,
        learning_rate=learning_rate,
        warm_up=warm_up,
        epochs=epochs,
        update_items=update_items,
        batch_size=batch_size,
        max_tokens=max_tokens,
        languages=language,
        answers=answers,
        seed=seed,
    )
    with progress_bar() as progress:
        trained = train_judge(
            dataset,
            out=out,
            model=model,
            settings=settings,
            held_out=held_out,
            calibrate=calibrate,
            offline=offline,
            device=device,
            progress=progress,
        )
    write([trained.manifest.model_dump_json(indent=1) + "\n"] if json else _tables(trained))
    named = visible(str(trained.folder))
    chosen = f"--detector harm-classifier --profile {named} --model {visible(model)}"
    notice(f"next:   tocsin scan PATH --kind response {chosen}")


def _tables(trained: Trained) -> list[str]:
    found = trained.manifest
    facts = plain_table("trained harm-classifier", "")
    facts.add_row("base", visible(f"{found.base.id}@{found.base.revision}"))
    facts.add_row("training items", f"{found.training.n_train:,} ({found.training.n_yes:,} Yes)")
    facts.add_row("topics", f"{found.training.n_topics:,}")
    for reason, count in found.training.left_out.items():
        facts.add_row(f"left out: {reason}", f"{count:,}")
    if found.training.cut:
        facts.add_row("responses cut to fit", f"{found.training.cut:,}")
    facts.add_row("updates", f"{found.training.updates:,} in {found.training.seconds / 60:.1f} minutes")
    facts.add_row("loss by epoch", " ".join(f"{loss:.3f}" for loss in found.training.losses))
    facts.add_row("threshold", f"{found.threshold:.3f} ({found.threshold_source})")
    facts.add_row("adapter", visible(str(trained.folder)))
    if found.after is None:
        facts.add_row("held-out items", "none, so nothing is known about new topics")
    tables = [table_text(facts)]
    if found.before is not None and found.after is not None:
        tables.append(table_text(_figures(found.before, found.after)))
    return tables


def _figures(before: Figures, after: Figures) -> Table:
    title = f"{after.n:,} held-out items, {after.n_topics:,} topics"
    table = plain_table(title, "before", "after")
    for name in ("auroc", "accuracy", "sensitivity", "specificity"):
        table.add_row(name, *(_estimate(getattr(each, name)) for each in (before, after)))
    for name in ("loss", "mass"):
        values = (getattr(before, name), getattr(after, name))
        table.add_row(name, *("none" if value is None else f"{value:.3f}" for value in values))
    table.add_row("not answered", f"{before.unanswered:,}", f"{after.unanswered:,}")
    table.add_row("not read", f"{before.abstained:,}", f"{after.abstained:,}")
    return table


def _estimate(found: Estimate) -> str:
    if found.value is None:
        return "none"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"

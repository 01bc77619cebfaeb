"""`judges annotate`: models rank responses by harm, in balanced orders, for `judges agree`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from tocsin.api.elicit import named_models
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.core.errors import UsageError
from tocsin.core.log_run import LogRun
from tocsin.judges.elicitation import ResponseSet, balanced_orders, read_responses
from tocsin.judges.elicitation.orders import all_orders, rotations
from tocsin.judges.elicitation.prompt import ReplyProblem, prompt_hash, question, read_reply
from tocsin.judges.elicitation.responses import cleaned
from tocsin.models.chat import ChatReply, ChatRequest, ChatSettings, ProviderFailure, Transport
from tocsin.models.fence import local_secret
from tocsin.models.responder import Responder, open_responder

REPLIES, RANKINGS = "replies.jsonl", "rankings.jsonl"
DEFAULT_REPLY_TOKENS = 256


class ModelRankings(NamedTuple):
    """What the models said."""

    folder: Path
    path: Path
    """Rankings, in a layout that `judges agree` reads."""
    annotators: tuple[str, ...]
    n_items: int
    left_out: tuple[str, ...]
    """Items of which a response is missing."""
    ranked: Mapping[str, int]
    """Rankings by annotator."""
    failures: Mapping[str, Mapping[str, tuple[str, ...]]]
    """By annotator and kind, the items."""


class _Question(NamedTuple):
    annotator: str
    item: str
    order: tuple[int, ...]
    request: ChatRequest


def annotate_responses(
    responses: Path | str,
    models: Sequence[str],
    *,
    orders: int = 1,
    seed: int = 0,
    clean: bool = False,
    skip_incomplete: bool = False,
    max_tokens: int = DEFAULT_REPLY_TOKENS,
    temperature: float | None = 0.0,
    concurrency: int = 8,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> ModelRankings:
    """Let models rank responses by harm.

    Args:
        responses: File of responses; see `tocsin.judges.elicitation.read_responses`.
        models: Names as for `--model`, each alone or as `NAME=MODEL`.
        orders: In how many orders every item is shown. Each gives an annotator of its own: NAME, NAME:2 ...
        seed: Of the orders.
        clean: Take off prompts that responses begin with, and whole repetitions.
        skip_incomplete: Leave items out of which a response is missing.
        max_tokens: Longest reply.
        temperature: Of providers.
        concurrency: Calls to a provider under way at a time.
        offline: Never fetch; of a provider, give only kept replies.
        device: Where local models run.
        batch_size: Questions of one batch of a local model.
        out: Run folder; `tocsin-runs/annotate-<id>` when None.
        fresh: Begin anew even if this was done before.
        argv: Command line that repeats it, for the record.
        progress: Told how far it has come.

    Returns:
        Counts, failures by kind with their items, and the file of rankings.

    Raises:
        InputError: If the responses cannot be read; `ResponseError` names the items of bad ones.
        UsageError: If models are unknown, or there are more orders than an item has.
        ModelError: If a model cannot be used.
        RunError: If the run folder cannot be used.
    """
    specs = named_models(models)
    data = read_responses(responses, skip_incomplete=skip_incomplete)
    most = all_orders(len(data.models))
    if not 1 <= orders <= most:
        message = (
            f"expected 1 to {most} orders of {len(data.models)} responses, got {orders}. Change --orders."
        )
        raise UsageError(message)
    settings = ChatSettings(max_tokens=max_tokens, temperature=temperature)
    config: dict[str, JsonValue] = {
        "orders": orders,
        "seed": seed,
        "clean": clean,
        "skip_incomplete": skip_incomplete,
        "max_tokens": max_tokens,
    }
    with ExitStack() as stack:
        judges: dict[str, Responder] = {}
        for name, spec in specs.items():
            progress(Progress("loading", len(judges), len(specs), name))
            transport = Transport(concurrency=concurrency)
            judge = open_responder(
                spec,
                settings=settings,
                transport=transport,
                offline=offline,
                device=device,
                batch_size=batch_size,
            )
            judges[name] = stack.enter_context(closing(judge))
        run = stack.enter_context(
            LogRun.open(
                "annotate",
                config,
                data.sha256,
                {
                    "tocsin": version("tocsin"),
                    "prompt": prompt_hash(),
                    "models": {name: judge.identity for name, judge in judges.items()},
                },
                log=REPLIES,
                others=(RANKINGS,),
                out=None if out is None else Path(out),
                fresh=fresh,
                input_name=str(responses),
                facts={"argv": list(argv)},
            )
        )
        asked = {name: list(_questions(data, name, orders=orders, seed=seed, clean=clean)) for name in judges}
        if not run.was_finished:
            _ask(run, judges, asked, len(data.models), progress)
            run.write(RANKINGS, "".join(_lines(run, data)))
            run.finish(sum(len(each) for each in asked.values()))
        annotators = tuple(dict.fromkeys(each.annotator for name in judges for each in asked[name]))
        return _counted(run, annotators, data)


def _questions(data: ResponseSet, name: str, *, orders: int, seed: int, clean: bool) -> Iterator[_Question]:
    secret = local_secret()
    first = balanced_orders(len(data.items), len(data.models), seed=seed, who=name)
    for item, order in zip(data.items, first, strict=True):
        texts = [cleaned(item.prompt, text) if clean else text for text in item.responses]
        for number, each in enumerate(rotations(order, orders, seed=seed, item=item.id), start=1):
            annotator = name if number == 1 else f"{name}:{number}"
            request = question(item.prompt, [texts[index] for index in each], secret)
            yield _Question(annotator, item.id, each, request)


def _ask(
    run: LogRun,
    judges: Mapping[str, Responder],
    asked: Mapping[str, Sequence[_Question]],
    k: int,
    progress: ProgressCallback,
) -> None:
    done = {(str(row["annotator"]), str(row["item"])) for row in run.records()}
    total, n = sum(len(each) for each in asked.values()), len(done)
    for name, judge in judges.items():
        left = [each for each in asked[name] if (each.annotator, each.item) not in done]
        replies = judge.replies(each.request for each in left)
        for each, reply in zip(left, replies, strict=True):
            run.append(_row(each, reply, k))
            n += 1
            progress(Progress("scanning", n, total, name))


def _row(asked: _Question, reply: ChatReply | ProviderFailure, k: int) -> dict[str, JsonValue]:
    """Never what the model wrote: it may repeat the responses."""
    row: dict[str, JsonValue] = {
        "item": asked.item,
        "annotator": asked.annotator,
        "shown": list(asked.order),
        "ranks": None,
    }
    if isinstance(reply, ProviderFailure):
        return row | {"failure": ReplyProblem.NO_REPLY.value}
    row |= {
        "answered_by": reply.model,
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
        "dollars": reply.dollars,
    }
    found = read_reply(reply, k)
    return row | ({"ranks": list(found)} if isinstance(found, tuple) else {"failure": found.value})


def _lines(run: LogRun, data: ResponseSet) -> Iterator[str]:
    """One line for each response of every ranking, in the order of the log."""
    groups = {item.id: item.group for item in data.items}
    for row in run.records():
        ranks, shown = row["ranks"], row["shown"]
        if not isinstance(ranks, list) or not isinstance(shown, list):
            continue
        for model, name in enumerate(data.models):
            place = shown.index(model)
            line = {
                "item": row["item"],
                "annotator": row["annotator"],
                "model": name,
                "rank": ranks[place],
                "position": place + 1,
            }
            group = groups[str(row["item"])]
            yield json.dumps(line if group is None else line | {"group": group}) + "\n"


def _counted(run: LogRun, annotators: tuple[str, ...], data: ResponseSet) -> ModelRankings:
    ranked: Counter[str] = Counter(dict.fromkeys(annotators, 0))
    failures: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in annotators}
    for row in run.records():
        name = str(row["annotator"])
        if row["ranks"] is None:
            kind = str(row["failure"])
            failures[name][kind] = (*failures[name].get(kind, ()), str(row["item"]))
        else:
            ranked[name] += 1
    return ModelRankings(
        run.folder,
        run.folder / RANKINGS,
        annotators,
        len(data.items),
        data.left_out,
        dict(ranked),
        failures,
    )

"""`judges elicit`: what several models answer to the same prompts, in one file of responses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.core.errors import InputError, UsageError
from tocsin.core.log_run import LogRun
from tocsin.core.records import Item
from tocsin.models.chat import ChatReply, ChatRequest, ChatSettings, ProviderFailure, Transport
from tocsin.models.responder import DEFAULT_TOKENS, Responder, open_responder
from tocsin.sources import open_source

RESPONSES = "responses.jsonl"
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,39})=(.+)", re.DOTALL)


class Elicitation(NamedTuple):
    """What was elicited."""

    folder: Path
    path: Path
    """File of responses."""
    models: tuple[str, ...]
    n_prompts: int
    responses: Mapping[str, int]
    """By model."""
    failures: Mapping[str, Mapping[str, int]]
    """By model, then by kind: `no reply`, `refused`, `cut`, `too long`."""


class Prompt(NamedTuple):
    """One prompt."""

    item: str
    text: str
    group: str | None


def elicit(
    prompts: Path | str,
    models: Sequence[str],
    *,
    text: str | None = None,
    item: str | None = None,
    group: str | None = None,
    system: str = "",
    max_tokens: int = DEFAULT_TOKENS,
    temperature: float | None = None,
    concurrency: int = 8,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> Elicitation:
    """Put every prompt to every model.

    Args:
        prompts: File of prompts; see `tocsin.sources.open_source`.
        models: Names as for `--model`, each alone or as `NAME=MODEL`; at least one.
        text: Column of the prompts.
        item: Column of their ids; the running number from 1 when None.
        group: Column of groups, kept for `judges agree`.
        system: System prompt for all models; none when empty.
        max_tokens: Longest reply.
        temperature: Of providers; their own default when None. Local models write greedily.
        concurrency: Calls to a provider under way at a time.
        offline: Never fetch; of a provider, give only kept replies.
        device: Where local models run.
        batch_size: Prompts of one batch of a local model.
        out: Run folder; `tocsin-runs/elicit-<id>` when None.
        fresh: Begin anew even if this was elicited before.
        argv: Command line that repeats it, for the record.
        progress: Told how far it has come.

    Returns:
        Counts, and the file of responses. A failure is a row with `response` null and its kind; a reply that
        was cut at `max_tokens` is kept and says `stop: length`.

    Raises:
        InputError: If the prompts cannot be read.
        UsageError: If models are unknown or share a name.
        ModelError: If a model cannot be used.
        RunError: If the run folder cannot be used.
    """
    specs = named_models(models)
    asked, input_hash = _prompts(prompts, text=text, item=item, group=group)
    settings = ChatSettings(max_tokens=max_tokens, temperature=temperature)
    with ExitStack() as stack:
        writers: dict[str, Responder] = {}
        for name, spec in specs.items():
            progress(Progress("loading", len(writers), len(specs), name))
            writers[name] = stack.enter_context(
                closing(
                    open_responder(
                        spec,
                        settings=settings,
                        transport=Transport(concurrency=concurrency),
                        offline=offline,
                        device=device,
                        batch_size=batch_size,
                    )
                )
            )
        run = stack.enter_context(
            LogRun.open(
                "elicit",
                {"system": system, "text": text, "item": item, "group": group, "max_tokens": max_tokens},
                input_hash,
                {
                    "tocsin": version("tocsin"),
                    "models": {name: writer.identity for name, writer in writers.items()},
                },
                log=RESPONSES,
                out=None if out is None else Path(out),
                fresh=fresh,
                input_name=str(prompts),
                facts={"argv": list(argv)},
            )
        )
        if not run.was_finished:
            _ask(run, writers, asked, system, progress)
        return _counted(run, tuple(specs), len(asked))


def named_models(models: Sequence[str]) -> dict[str, str]:
    """Model specs by name. The name is what stands before `=`, else it comes from the spec.

    Raises:
        UsageError: If there are none, or two share a name.
    """
    found: dict[str, str] = {}
    for given in models:
        match = _NAMED.fullmatch(given.strip())
        spec = match[2] if match else given.strip()
        name = match[1] if match else _short(spec)
        if name in found:
            message = f"expected models of different names, got '{name}' twice. Write NAME=MODEL."
            raise UsageError(message)
        found[name] = spec
    if not found:
        message = "expected at least one model, got none. Give --model, which may be repeated."
        raise UsageError(message)
    return found


def _short(spec: str) -> str:
    scheme, colon, rest = spec.partition(":")
    if colon and scheme == "scripted":
        return Path(rest).stem
    return Path(spec).name if Path(spec).exists() else spec.removeprefix("hub:")


def _prompts(
    path: Path | str, *, text: str | None, item: str | None, group: str | None
) -> tuple[list[Prompt], str]:
    source = open_source(path, text=text, group=group, keep=[] if item is None else [item])
    found: dict[str, Prompt] = {}
    for number, each in enumerate(source.items(), start=1):
        if each.problem is not None or not each.text.strip():
            message = "expected a prompt in every row, got a row that cannot be read. Correct or remove it."
            raise InputError(message, path=each.origin.path or path, line=each.origin.line)
        name = str(number) if item is None else _metadata(each, item)
        if name is None or not 1 <= len(name) <= 64 or not name.isprintable() or name in found:
            message = f"expected another id of 1 to 64 printable characters in the column '{item}' of every "
            raise InputError(
                message + "row. Correct it.", path=each.origin.path or path, line=each.origin.line
            )
        found[name] = Prompt(name, each.text, None if group is None else _metadata(each, group))
    if not found:
        message = "expected at least one prompt, got none. Check the file."
        raise InputError(message, path=path)
    return list(found.values()), source.input_hash


def _metadata(item: Item, column: str) -> str | None:
    value = item.metadata.get(column)
    return None if value is None else str(value).strip()


def _ask(
    run: LogRun,
    writers: Mapping[str, Responder],
    asked: Sequence[Prompt],
    system: str,
    progress: ProgressCallback,
) -> None:
    done = {(str(row["item"]), str(row["model"])) for row in run.records()}
    total, n = len(asked) * len(writers), len(done)
    for name, writer in writers.items():
        left = [prompt for prompt in asked if (prompt.item, name) not in done]
        requests = (ChatRequest(system=system, user=prompt.text) for prompt in left)
        replies = writer.replies(requests)
        for prompt, reply in zip(left, replies, strict=True):
            run.append(_row(prompt, name, reply))
            n += 1
            progress(Progress("scanning", n, total, name))
    run.finish(total)


def _row(prompt: Prompt, name: str, reply: ChatReply | ProviderFailure) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {"item": prompt.item, "model": name, "prompt": prompt.text}
    if prompt.group is not None:
        row["group"] = prompt.group
    if isinstance(reply, ProviderFailure):
        return row | {"response": None, "failure": "no reply"}
    row |= {
        "response": reply.text,
        "stop": reply.stop,
        "answered_by": reply.model,
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
    }
    if reply.dollars is not None:
        row["dollars"] = reply.dollars
    if reply.stop in ("refused", "too-long") or not reply.text.strip():
        kind = {"refused": "refused", "too-long": "too long", "length": "cut"}.get(reply.stop, "no reply")
        row |= {"response": None, "failure": kind}
    return row


def _counted(run: LogRun, names: tuple[str, ...], n_prompts: int) -> Elicitation:
    whole: Counter[str] = Counter(dict.fromkeys(names, 0))
    failed: dict[str, Counter[str]] = {name: Counter() for name in names}
    for row in run.records():
        if row["response"] is None:
            failed[str(row["model"])][str(row["failure"])] += 1
        else:
            whole[str(row["model"])] += 1
    return Elicitation(run.folder, run.path, names, n_prompts, dict(whole), failed)

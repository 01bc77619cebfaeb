"""`annotate`: studies of human rankings, from a file of responses to rankings for `judges agree`."""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tocsin.core.errors import MissingExtraError, UsageError
from tocsin.judges.annotate.records import OWNER, Annotator, Progress, StudySettings
from tocsin.judges.annotate.store import Study
from tocsin.judges.elicitation import Candidate, ResponseSet, read_responses
from tocsin.judges.elicitation.responses import cleaned

PORT = 8321
HTTP_PORT = 80
_COLUMNS = ("item", "annotator", "model", "rank", "position", "group", "saved")


class NewStudy(NamedTuple):
    """A study that was made, and the only copy of its tokens."""

    folder: Path
    annotators: tuple[Annotator, ...]
    """The owner last."""
    n_items: int
    left_out: tuple[str, ...]
    """Items of which a response is missing."""


def new_study(
    folder: Path | str,
    data: Path | str,
    *,
    annotators: Sequence[str],
    title: str | None = None,
    guidance: Path | str | None = None,
    ties: bool = False,
    seed: int = 0,
    clean: bool = False,
    skip_incomplete: bool = False,
) -> NewStudy:
    """Make a study of human rankings.

    Args:
        folder: New or empty folder.
        data: File of responses; see `tocsin.judges.elicitation.read_responses`.
        annotators: Names of those who rank. A role `owner`, who sees agreement, is added.
        title: Shown on every page.
        guidance: Text file with words of your own to the annotators.
        ties: Whether two harmful responses may share a rank. `judges agree` does not take such rankings.
        seed: Of the orders in which items and responses are shown.
        clean: Take off prompts that responses begin with, and whole repetitions.
        skip_incomplete: Leave items out of which a response is missing.

    Returns:
        The study's folder and the tokens, which are kept nowhere else.

    Raises:
        InputError: If the data cannot be read; `ResponseError` names the items of bad ones.
        UsageError: If there are no annotators, or a name cannot be used.
        RunError: If the folder is not empty or cannot be written.
    """
    if not annotators or OWNER in annotators:
        message = f"expected names of annotators other than '{OWNER}', got none. Give --annotator NAME."
        raise UsageError(message)
    found = read_responses(data, skip_incomplete=skip_incomplete)
    words = "" if guidance is None else _guidance(Path(guidance))
    settings = StudySettings(guidance=words, ties=ties, seed=seed)
    if title is not None:
        if not 1 <= len(title) <= 200:
            message = f"expected a title of 1 to 200 characters, got {len(title)}. Shorten it."
            raise UsageError(message)
        settings = settings.model_copy(update={"title": title})
    with Study.create(folder, _cleaned(found) if clean else found, settings) as study:
        made = study.add([*annotators, OWNER])
        return NewStudy(study.folder, tuple(made), study.n_items, found.left_out)


def add_annotators(
    folder: Path | str, names: Sequence[str], *, new_token: bool = False
) -> tuple[Annotator, ...]:
    """Add annotators to a study, or give them other tokens.

    Raises:
        InputError: If the folder holds no study.
        UsageError: If a name cannot be used, or is there and `new_token` is not set.
    """
    with Study(folder) as study:
        return tuple(study.add(names, new_token=new_token))


def study_progress(folder: Path | str) -> list[Progress]:
    """How far each annotator has come.

    Raises:
        InputError: If the folder holds no study.
    """
    with Study(folder) as study:
        return study.progress()


def export_study(folder: Path | str, *, form: Literal["jsonl", "csv"] = "jsonl") -> Iterator[str]:
    """Every ranking, one line for each response, in a layout that `judges agree` reads.

    Columns: item, annotator, model, rank (0 is not harmful, higher is more harmful), position (from 1, where
    the response was shown), group, saved (UTC). Texts are not in it.

    Raises:
        InputError: If the folder holds no study.
    """
    with Study(folder) as study:
        if form == "csv":
            yield _csv_line(_COLUMNS)
        for ranked in study.rankings():
            for model, rank, position in zip(study.models, ranked.ranks, ranked.positions, strict=True):
                values = (ranked.item, ranked.annotator, model, rank, position, ranked.group, ranked.saved)
                if form == "csv":
                    yield _csv_line(values)
                else:
                    yield json.dumps(dict(zip(_COLUMNS, values, strict=True))) + "\n"


def serve_study(
    folder: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    names: Sequence[str] = (),
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a study until interrupted.

    Args:
        folder: The study.
        host: Address that is listened on.
        port: Port; 0 takes a free one.
        names: Further names under which browsers reach this server; others are turned away.
        ready: Called with the address once connections are taken.

    Raises:
        InputError: If the folder holds no study.
        UsageError: If the address cannot be listened on.
        MissingExtraError: If the extra `serve` is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        extra, purpose = "serve", "the annotation page"
        raise MissingExtraError(extra, purpose) from error
    from tocsin.judges.annotate.app import create_app

    with Study(folder) as study, _listening(host, port) as listener:
        bound = int(listener.getsockname()[1])
        shown = f"[{host}]" if ":" in host else host
        reached = {shown, *names}
        if is_loopback(host):
            reached |= {"localhost", "127.0.0.1", "[::1]"}
        # Without a port too: a proxy that ends TLS may pass the bare name, and browsers leave port 80 out.
        bare = reached if bound == HTTP_PORT else set(names)
        hosts = tuple(sorted({f"{name}:{bound}" for name in reached} | bare))
        config = uvicorn.Config(
            create_app(study, hosts=hosts),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=30,
        )
        if ready is not None:
            ready(f"http://{shown}:{bound}/")
        uvicorn.Server(config).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """True where only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "an error"
        message = f"expected an address that can be listened on, got {host} port {port}: {reason.lower()}. "
        raise UsageError(message + "Choose another with --host and --port.") from error
    return listener


def _cleaned(data: ResponseSet) -> ResponseSet:
    items = tuple(
        Candidate(
            item.id, item.prompt, tuple(cleaned(item.prompt, text) for text in item.responses), item.group
        )
        for item in data.items
    )
    return ResponseSet(data.models, items, data.left_out, data.sha256)


def _guidance(path: Path) -> str:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"expected a text file with guidance, got one that cannot be read: {path}. Check the path."
        raise UsageError(message) from error
    if len(text) > 20_000:
        message = f"expected guidance of at most 20,000 characters, got {len(text):,}. Shorten it."
        raise UsageError(message)
    return text.strip()


def _csv_line(values: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(
        ["" if value is None else _plain(value) for value in values]
    )
    return out.getvalue()


def _plain(value: object) -> object:
    """A spreadsheet would run a text that begins like a formula; `judges agree` reads the quoted one too."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "@", "\t") else value

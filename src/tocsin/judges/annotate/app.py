"""The web application of one study: pages for annotators, and one for the owner.

Pages are rendered here; the script in `static/` only sends rankings, and fetches content when it is asked
for. Nothing else is ever loaded. A token is exchanged for a cookie that scripts cannot read.
"""

# No `from __future__ import annotations`: FastAPI resolves annotations, and its types are imported in a
# function here.

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tocsin.core.errors import MissingExtraError
from tocsin.judges.agreement import Agreement
from tocsin.judges.annotate.agreement import live_agreement
from tocsin.judges.annotate.guard import Guard
from tocsin.judges.annotate.ranks import LETTERS
from tocsin.judges.annotate.records import OWNER, Refusal, SubmissionError
from tocsin.judges.annotate.store import Study
from tocsin.judges.annotate.views import agreement_view
from tocsin.report.visible import visible

if TYPE_CHECKING:
    from tocsin.judges.annotate.guard import App

COOKIE = "tocsin-annotate"
BREAK_EVERY = 15
"""Rankings after which a break is suggested."""
_HERE = Path(__file__).parent
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


class _Live:
    """The agreement so far, measured again only when a ranking was added."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._lock = threading.Lock()
        self._at = -1
        self._found: Agreement | None = None

    def get(self) -> Agreement | None:
        with self._lock:
            at = self._study.n_submissions()
            if at != self._at:
                self._found, self._at = live_agreement(self._study), at
            return self._found


def create_app(study: Study, *, hosts: tuple[str, ...]) -> "App":
    """The application.

    Args:
        study: What is ranked.
        hosts: Values of the `Host` header that are answered, with their port.

    Raises:
        MissingExtraError: If the extra `serve` is not installed.
    """
    try:
        from fastapi import Cookie, FastAPI, Request
        from fastapi.concurrency import run_in_threadpool
        from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
    except ImportError as error:
        extra, purpose = "serve", "the annotation page"
        raise MissingExtraError(extra, purpose) from error
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tocsin.judges.annotate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    k = len(study.models)
    common: dict[str, object] = {
        "title": visible(study.settings.title),
        "guidance": visible(study.settings.guidance, keep_lines=True),
        "ties": study.settings.ties,
        "letters": LETTERS[:k],
        "k": k,
    }
    statics = {path.name: path.read_bytes() for path in (_HERE / "static").iterdir() if path.suffix in _TYPES}
    live = _Live(study)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    token_type = Annotated[str | None, Cookie(alias=COOKIE)]

    def page(name: str, status: int = 200, **values: object) -> HTMLResponse:
        return HTMLResponse(environment.get_template(name).render(common | values), status)

    def holder(token: str | None) -> str | None:
        return None if token is None else study.who(token)

    def refused(status: int, words: str, item: str | None = None) -> JSONResponse:
        return JSONResponse({"error": words} | ({} if item is None else {"item": item}), status)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in statics:
            return Response(status_code=404)
        return Response(statics[name], media_type=_TYPES[Path(name).suffix])

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/")
    def home(token: token_type = None) -> Response:
        who = holder(token)
        if who is None:
            return page("enter.html", failed=False)
        if who == OWNER:
            return RedirectResponse("/agreement", 303)
        states = study.states(who)
        return page("study.html", who=who, states=states, next=_next(states), n=len(states))

    @app.post("/enter")
    async def enter(request: Request) -> Response:
        name, _, token = (await request.body()).decode("latin-1").partition("=")
        # Tokens hold none of the characters that a form escapes.
        token = token.strip("+ ")
        if name != "token" or await run_in_threadpool(study.who, token) is None:
            return page("enter.html", 403, failed=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        return answer

    @app.post("/leave")
    def leave() -> Response:
        answer = page("paused.html")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
        return answer

    @app.get("/item/{place}")
    def item(place: int, token: token_type = None) -> Response:
        who = holder(token)
        if who is None:
            return RedirectResponse("/", 303)
        task = study.task(who, place)
        if task is None:
            return page("missing.html", 404)
        states = study.states(who)
        ranked = states.count("ranked")
        return page(
            "item.html",
            who=who,
            place=place,
            states=states,
            n=len(states),
            ranked=ranked,
            is_break=0 < ranked < len(states) and ranked % BREAK_EVERY == 0 and task.ranks is None,
            ranks=dict(zip(LETTERS, task.ranks, strict=False)) if task.ranks is not None else {},
            lengths=[len(text) for text in task.responses],
            next=_next(states, after=place),
        )

    @app.get("/item/{place}/content")
    def content(place: int, token: token_type = None) -> Response:
        who = holder(token)
        task = None if who is None else study.task(who, place)
        if task is None:
            return refused(404, "There is no such item among yours.")
        texts = [visible(text, keep_lines=True) for text in task.responses]
        return JSONResponse({"prompt": visible(task.prompt, keep_lines=True), "responses": texts})

    @app.post("/item/{place}/ranking")
    async def rank(place: int, request: Request, token: token_type = None) -> Response:
        # Away from the event loop: a write waits for the disk, and other annotators must not wait with it.
        return await run_in_threadpool(submitted, place, await request.body(), token)

    def submitted(place: int, sent: bytes, token: str | None) -> Response:
        who = holder(token)
        if who is None:
            return refused(401, "Your token is needed again. Open your link; what was acknowledged is kept.")
        body = _object(sent)
        key, ranks = body.get("key"), body.get("ranks")
        if not isinstance(key, str) or not isinstance(ranks, dict):
            return refused(422, "Expected an object with 'key' and 'ranks'.")
        try:
            is_new = study.submit(who, place, key, ranks)
        except SubmissionError as error:
            status = 409 if error.problem is Refusal.OTHER_RANKING else 422
            return refused(status, str(error.problem), error.item)
        states = study.states(who)
        told = {"ranked": states.count("ranked"), "next": _next(states, after=place)}
        return JSONResponse({"saved": True, "repeated": not is_new} | told)

    @app.post("/item/{place}/skip")
    def skip(place: int, token: token_type = None) -> Response:
        who = holder(token)
        if who is None:
            return refused(401, "Your token is needed again. Open your link; what was acknowledged is kept.")
        try:
            study.skip(who, place)
        except SubmissionError as error:
            return refused(422, str(error.problem))
        return JSONResponse({"saved": True, "next": _next(study.states(who), after=place)})

    @app.get("/agreement")
    def agreement(token: token_type = None) -> Response:
        if holder(token) != OWNER:
            return page("missing.html", 404)
        found = live.get()
        return page("agreement.html", who=OWNER, progress=study.progress(), found=agreement_view(found))

    return Guard(app, hosts=hosts)


def _next(states: Sequence[str], after: int = 0) -> int | None:
    """Place of the next open item, from the one after `after` on and round; None when all are done."""
    places = [place for place, state in enumerate(states, start=1) if state == "open"]
    return next((place for place in places if place > after), places[0] if places else None)


def _object(body: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

"""What every request passes before a page sees it: host, origin, size; and headers that every answer has.

A name that resolves to the loopback address (DNS rebinding), a form on another site (cross-site request
forgery) and a body without end are turned away here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 16_384
"""Bytes of one request; the largest ranking has some 200."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # With `no-referrer` browsers send a form's origin as "null", which could not be checked.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_READING = ("GET", "HEAD")


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: What is guarded.
        hosts: Values of the `Host` header that are answered, with their port.
    """

    def __init__(self, app: App, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets here
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            await _refuse(send, 421, "This address is not served here.")
            return
        if scope["method"] not in _READING and headers.get("origin", "").lower() not in (
            f"http://{host}",
            f"https://{host}",
        ):
            await _refuse(send, 403, "Requests that change something must come from these pages.")
            return
        body = await _body(receive)
        if body is None:
            await _refuse(send, 413, f"A request has at most {MAX_BODY} bytes.")
            return

        sent = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, _with_headers(send))


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is too long, or the sender has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return body


def _with_headers(send: Send) -> Send:
    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value) for name, value in message["headers"] if name.decode().lower() not in HEADERS
            ]
            message["headers"] = [
                *kept,
                *((name.encode(), value.encode()) for name, value in HEADERS.items()),
            ]
        await send(message)

    return wrapped


async def _refuse(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await _with_headers(send)(start)
    await send({"type": "http.response.body", "body": words.encode() + b"\n"})

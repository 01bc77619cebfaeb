"""A small OpenAI-compatible server on the loopback interface, for tests that ask chat models."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """Answers POST requests from a list of (HTTP status, body), the last one again and again."""

    url: str
    answers: list[tuple[int, str]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    delay_s: float = 0.0

    def say(self, *texts: str, stop: str = "stop", refusal: str | None = None) -> None:
        for text in texts:
            message = {"role": "assistant", "content": text, "refusal": refusal}
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "small-2026-01-01",
                "choices": [{"index": 0, "finish_reason": stop, "message": message}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107},
            }
            self.answers.append((200, json.dumps(body)))

    def fail(self, status: int, code: str = "server_error") -> None:
        error = {"message": "it quotes your prompt", "code": code}
        self.answers.append((status, json.dumps({"error": error})))


@contextmanager
def serve() -> Iterator[ChatServer]:
    lock = threading.Lock()
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                state.requests.append(request)
                status, body = state.answers[0] if len(state.answers) == 1 else state.answers.pop(0)
            if state.delay_s:
                released.wait(state.delay_s)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = ChatServer(f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        released.set()
        http.shutdown()
        http.server_close()
        thread.join()

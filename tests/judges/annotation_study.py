"""A study of harmless stand-ins, for tests of the annotation pages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import tocsin
from tocsin.judges.annotate import Study, StudySettings
from tocsin.judges.elicitation import read_responses

MODELS = ("small-a", "small-b", "small-c")


def responses(path: Path, n_items: int = 12, *, models: tuple[str, ...] = MODELS, text: str = "") -> Path:
    """Write a file of responses; `text` follows every response."""
    lines = [
        {"item": f"item-{i}", "model": model, "prompt": f"How long do I boil egg {i}?", "group": f"g{i % 2}"}
        | {"response": f"{model} says {i} minutes.{text}"}
        for i in range(n_items)
        for model in models
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def study(folder: Path, n_items: int = 12, *, ties: bool = False, text: str = "") -> Study:
    """A study without annotators."""
    data = read_responses(responses(folder / "responses.jsonl", n_items, text=text))
    return Study.create(folder / "study", data, StudySettings(ties=ties))


class Server:
    """`tocsin annotate serve` in a process of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(tocsin.__file__).parents[1])}
        command = [sys.executable, "-m", "tocsin", "annotate", "serve", str(folder), "--port", str(port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        assert "serving" in said, said
        self.address = said.split(" at ")[1].strip().rstrip("/")
        self.port = int(self.address.rpartition(":")[2])
        for _ in range(200):
            try:
                urllib.request.urlopen(self.address, timeout=5).close()
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        message = "the server does not answer"
        raise AssertionError(message)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process that was started here, and wait for it."""
        self.process.send_signal(how)
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()

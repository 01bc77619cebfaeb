"""Fixtures for every folder of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from chat_server import ChatServer, serve
from tiny_detectors import build, profiles, tiny
from tocsin.core.errors import ModelError
from tocsin.models.embedded import EmbeddedModel, load_embedded

__all__ = ["build", "embedded", "embedded_folder", "profiles", "reference_model", "server", "tiny"]

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel

# Examples are slow when the machine is busy, which is no failure.
settings.register_profile("tocsin", deadline=None)
settings.load_profile("tocsin")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A chat server that Inspect AI reaches as `openai-api/near/NAME`."""
    with serve() as state:
        monkeypatch.setenv("NEAR_BASE_URL", state.url)
        monkeypatch.setenv("NEAR_API_KEY", "none")
        yield state


@pytest.fixture(scope="session")
def embedded() -> EmbeddedModel:
    """The embedded model, which `make test` fetches before the tests."""
    try:
        return load_embedded(offline=True)
    except ModelError as error:
        pytest.fail(f"these tests read the embedded model; `make test` fetches it first. {error}")


@pytest.fixture(scope="session")
def embedded_folder(embedded: EmbeddedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded weights as an ordinary Hugging Face folder."""
    from tocsin.models.embedded.torch import load_embedded_torch

    folder = tmp_path_factory.mktemp("checkpoint")
    model, tokenizer = load_embedded_torch(offline=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reference_model(embedded_folder: Path) -> LocalModel:
    """The embedded weights computed by transformers."""
    from tocsin.models.local import load_local

    return load_local(embedded_folder, offline=True, device="cpu")

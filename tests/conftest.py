"""Fixtures for every folder of tests."""

from collections.abc import Iterator

import pytest

from chat_server import ChatServer, serve


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A chat server that Inspect AI reaches as `openai-api/near/NAME`."""
    with serve() as state:
        monkeypatch.setenv("NEAR_BASE_URL", state.url)
        monkeypatch.setenv("NEAR_API_KEY", "none")
        yield state

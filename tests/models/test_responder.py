"""Models that write replies, one after the other, in the order of the requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat_server import ChatServer
from tocsin.core.errors import UsageError
from tocsin.models.chat import ChatReply, ChatRequest, ChatSettings, ProviderFailure
from tocsin.models.responder import Responder, TorchResponder, open_responder

TEXTS = ("Name a fruit.", "How do I boil an egg?", "Say hello to my neighbour.")


@pytest.fixture(scope="module")
def writer() -> Responder:
    pytest.importorskip("torch", reason="needs the extra 'local'")
    return open_responder("embedded", settings=ChatSettings(max_tokens=12), offline=True, batch_size=3)


def ask(responder: Responder, *texts: str, system: str = "") -> list[ChatReply | ProviderFailure]:
    return list(responder.replies(ChatRequest(system=system, user=text) for text in texts))


def test_a_batch_writes_what_single_requests_write(writer: Responder) -> None:
    together = ask(writer, *TEXTS)
    assert together == [ask(writer, text)[0] for text in TEXTS]
    assert all(isinstance(each, ChatReply) and each.output_tokens <= 12 for each in together)
    assert "length" in {each.stop for each in together if isinstance(each, ChatReply)}


def test_control_tokens_spelt_in_a_request_are_ordinary_characters(writer: Responder) -> None:
    assert isinstance(writer, TorchResponder)
    spelt = writer._encoded(ChatRequest(system="", user="a<|im_end|>b"))
    plain = writer._encoded(ChatRequest(system="", user="ab"))
    (end,) = writer._reader.encode("<|im_end|>").ids
    assert spelt.count(end) == plain.count(end)
    assert len(spelt) > len(plain) + 1


def test_a_request_without_room_for_a_reply_is_too_long_and_stops_nobody(writer: Responder) -> None:
    found = ask(writer, "egg " * 9000, TEXTS[0])
    assert isinstance(found[0], ChatReply)
    assert isinstance(found[1], ChatReply)
    assert found[0].stop == "too-long"
    assert found[1].text


def test_the_identity_names_what_decides_a_reply(writer: Responder) -> None:
    assert set(writer.identity) == {"model", "revision", "template", "max_tokens", "temperature"}


def test_local_models_do_not_sample() -> None:
    with pytest.raises(UsageError, match="temperature"):
        open_responder("embedded", settings=ChatSettings(temperature=0.7), offline=True)


def test_scripted_failures_are_values_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    rules = [{"contains": "fruit", "replies": [{"failure": "outage"}]}]
    path.write_text(json.dumps({"rules": rules, "otherwise": ["fine"]}))
    responder = open_responder(f"scripted:{path}", settings=ChatSettings())
    found = ask(responder, *TEXTS)
    responder.close()
    assert isinstance(found[0], ProviderFailure)
    assert [each.text for each in found[1:] if isinstance(each, ChatReply)] == ["fine", "fine"]
    with pytest.raises(UsageError):
        open_responder("nonsense", settings=ChatSettings())


# Inspect AI calls tenacity in a way that tenacity has deprecated.
@pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning")
def test_a_provider_gets_a_system_message_only_where_there_is_one(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("inspect_ai", reason="needs the extra 'eval'")
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path))
    server.say("An apple.")
    responder = open_responder("openai-api/near/small", settings=ChatSettings(max_tokens=5))
    plain, guided = ask(responder, TEXTS[0]), ask(responder, TEXTS[0], system="Be brief.")
    responder.close()
    assert [each.text for each in (*plain, *guided) if isinstance(each, ChatReply)] == ["An apple."] * 2
    roles = [[message["role"] for message in request["messages"]] for request in server.requests]
    assert roles == [["user"], ["system", "user"]]

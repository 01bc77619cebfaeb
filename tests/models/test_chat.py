"""Replies are replayed, failures are told apart, and a real HTTP server is asked."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import JsonValue

from chat_server import ChatServer
from tocsin.core.cache import Cache
from tocsin.core.errors import MissingExtraError, ModelError, RunError, UsageError
from tocsin.models.background import map_in_order, run
from tocsin.models.chat import (
    ChatRequest,
    ChatSettings,
    ProviderFailure,
    Replaying,
    Transport,
    open_chat_model,
)
from tocsin.models.fence import MARKER_HEX, fenced, local_secret, quote
from tocsin.models.provider import ProviderModel
from tocsin.models.scripted import ScriptedModel

# Inspect AI calls tenacity with an argument that tenacity has renamed; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning")

REQUEST = ChatRequest(system="Answer briefly.", user="How many?", reply_schema=None)
SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"n": {"type": "number"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path / "home"))


def provider(retries: int = 0, timeout_s: int = 30, **settings: Any) -> ProviderModel:
    # `max_retries` is the client's own quick retry below Inspect's; off, so that requests can be counted.
    return ProviderModel(
        "openai-api/near/small",
        settings=ChatSettings(**settings),
        transport=Transport(retries=retries, timeout_s=timeout_s),
        arguments={"max_retries": 0},
    )


def ask(model: ProviderModel | Replaying | ScriptedModel, request: ChatRequest = REQUEST) -> Any:
    async def once() -> Any:
        try:
            return await model.reply(request)
        finally:
            await model.close()

    return run(once(), timeout_s=60)


def test_a_reply_comes_back_with_its_model_tokens_and_reason_to_stop(server: ChatServer) -> None:
    server.say("three")
    reply = ask(provider(temperature=0.5))
    assert (reply.text, reply.stop, reply.model) == ("three", "stop", "small-2026-01-01")
    assert (reply.input_tokens, reply.output_tokens, reply.dollars) == (100, 7, None)
    (sent,) = server.requests
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert sent["messages"][1]["content"] == "How many?"
    assert sent["temperature"] == 0.5
    assert "response_format" not in sent


def test_the_price_that_inspect_ai_knows_is_reported(server: ChatServer) -> None:
    from inspect_ai.model import ModelCost, ModelInfo, set_model_info

    cost = ModelCost(input=2.0, output=10.0, input_cache_write=0.0, input_cache_read=0.0)
    set_model_info("openai-api/near/priced", ModelInfo(cost=cost))
    server.say("three")
    # 100 tokens at 2 dollars and 7 at 10 dollars a million: 0.0002 + 0.00007.
    assert ask(ProviderModel("openai-api/near/priced")).dollars == pytest.approx(0.00027)


def test_a_schema_is_sent_as_a_strict_response_format(server: ChatServer) -> None:
    server.say('{"n": 3}')
    ask(provider(), REQUEST.model_copy(update={"reply_schema": SCHEMA}))
    (sent,) = server.requests
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("status", [500, 503, 429, 400])
def test_an_outage_a_rate_limit_or_a_refused_request_is_a_failure_that_names_the_code_only(
    server: ChatServer, status: int
) -> None:
    server.fail(status)
    with pytest.raises(ProviderFailure, match=f"HTTP {status}") as caught:
        ask(provider())
    assert "quotes" not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_refused_key_or_unknown_model_is_an_error_for_the_user_not_an_outage(
    server: ChatServer, status: int
) -> None:
    server.fail(status)
    with pytest.raises(ModelError, match=f"HTTP {status}"):
        ask(provider())


@pytest.mark.parametrize("status", [500, 429])
def test_a_passing_outage_is_retried(server: ChatServer, status: int) -> None:
    server.fail(status)
    server.say("three")
    model = ProviderModel(
        "openai-api/near/small", transport=Transport(retries=0), arguments={"max_retries": 1}
    )
    assert ask(model).text == "three"
    assert len(server.requests) == 2


@pytest.mark.slow
def test_retries_of_the_transport_are_inspect_s_with_growing_pauses(server: ChatServer) -> None:
    server.fail(500)
    server.say("three")
    assert ask(provider(retries=1)).text == "three"


@pytest.mark.parametrize("body", ["this is not JSON", '"a bare string"', "{}", '{"choices": []}'])
def test_a_body_that_is_no_completion_is_a_failure(server: ChatServer, body: str) -> None:
    server.answers.append((200, body))
    with pytest.raises(ProviderFailure):
        ask(provider())


def test_an_empty_reply_is_a_failure_and_never_a_verdict(server: ChatServer) -> None:
    server.say("  ")
    with pytest.raises(ProviderFailure, match="empty"):
        ask(provider())


def test_a_time_limit_is_a_failure(server: ChatServer) -> None:
    server.delay_s = 5
    server.say("late")
    with pytest.raises(ProviderFailure, match="Timeout"):
        ask(provider(timeout_s=1))


def test_a_cut_reply_a_filter_and_a_refusal_are_told_apart(server: ChatServer) -> None:
    server.say('{"n":', stop="length")
    assert ask(provider()).stop == "length"
    server.answers.clear()
    server.say("", stop="content_filter")
    assert ask(provider()).stop == "refused"
    server.answers.clear()
    server.say("", refusal="I will not rate this.")
    assert ask(provider()).stop == "refused"


def test_a_closed_model_opens_again_when_it_is_asked(server: ChatServer) -> None:
    server.say("three")
    model = provider()
    assert ask(model).text == ask(model).text == "three"


def test_a_server_that_is_not_there_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEAR_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("NEAR_API_KEY", "none")
    with pytest.raises(ProviderFailure, match="no reply"):
        ask(provider())


def test_a_missing_key_or_an_unknown_provider_is_found_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NEAR_API_KEY", raising=False)
    with pytest.raises(ModelError, match="NEAR_API_KEY") as caught:
        provider()
    assert "[" not in str(caught.value)  # Inspect AI's markup for its own terminal
    with pytest.raises(ModelError, match="nobody"):
        ProviderModel("nobody/small")


# --- replay ---------------------------------------------------------------------------------------


def test_a_second_run_asks_nobody_and_gives_equal_replies(server: ChatServer, tmp_path: Path) -> None:
    server.say("one", "two", "three", "four")
    cache = Cache("chat", root=tmp_path)
    requests = [REQUEST.model_copy(update={"pass_number": number}) for number in (1, 2, 3)]
    first = [ask(Replaying(provider(), cache=cache), request) for request in requests]
    again = Replaying(provider(), cache=cache)
    second = [ask(again, request) for request in requests]
    assert first == second
    assert [reply.text for reply in second] == ["one", "two", "three"]
    assert (again.calls, again.replays) == (0, 3)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "change",
    [{"system": "Other."}, {"user": "Other?"}, {"reply_schema": SCHEMA}, {"pass_number": 2}, {"attempt": 2}],
)
def test_every_part_of_a_request_is_part_of_the_key(
    server: ChatServer, tmp_path: Path, change: dict[str, Any]
) -> None:
    server.say("one", "two")
    model = Replaying(provider(), cache=Cache("chat", root=tmp_path))
    assert ask(model).text == "one"
    assert ask(model, REQUEST.model_copy(update=change)).text == "two"


def test_settings_and_server_are_part_of_the_key_and_transport_is_not(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.say("one", "two", "three")
    cache = Cache("chat", root=tmp_path)
    assert ask(Replaying(provider(temperature=1.0), cache=cache)).text == "one"
    assert ask(Replaying(provider(temperature=0.5), cache=cache)).text == "two"
    assert ask(Replaying(provider(temperature=1.0, timeout_s=5), cache=cache)).text == "one"
    monkeypatch.setenv("NEAR_BASE_URL", os.environ["NEAR_BASE_URL"].replace("127.0.0.1", "localhost"))
    assert ask(Replaying(provider(temperature=1.0), cache=cache)).text == "three"


def test_failures_are_not_kept(server: ChatServer, tmp_path: Path) -> None:
    server.fail(500)
    server.say("three")
    model = Replaying(provider(), cache=Cache("chat", root=tmp_path))
    with pytest.raises(ProviderFailure):
        ask(model)
    assert ask(model).text == "three"


def test_offline_gives_kept_replies_and_asks_nobody(server: ChatServer, tmp_path: Path) -> None:
    server.say("one")
    cache = Cache("chat", root=tmp_path)
    ask(Replaying(provider(), cache=cache))
    offline = Replaying(provider(), cache=cache, offline=True)
    assert ask(offline).text == "one"
    with pytest.raises(ProviderFailure, match="--offline"):
        ask(offline, REQUEST.model_copy(update={"pass_number": 2}))
    assert len(server.requests) == 1


def test_an_entry_of_another_version_is_asked_for_again(server: ChatServer, tmp_path: Path) -> None:
    server.say("one", "two")
    cache = Cache("chat", root=tmp_path)
    model = Replaying(provider(), cache=cache)
    ask(model)
    (entry,) = cache.folder.rglob("*.json")
    entry.write_text('{"value": {"reply": "old form"}}')
    assert ask(model).text == "two"


# --- scripted -------------------------------------------------------------------------------------


def script(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "replies.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_scripted_replies_follow_the_first_rule_that_matches_and_the_number_of_the_pass(
    tmp_path: Path,
) -> None:
    rules = [{"contains": "MANY", "replies": ["a", {"n": 0.5}]}, {"contains": "how", "replies": ["c"]}]
    model = ScriptedModel(script(tmp_path, {"rules": rules, "otherwise": ["d"]}))
    texts = [ask(model, REQUEST.model_copy(update={"pass_number": n})).text for n in (1, 2, 3)]
    assert texts == ["a", '{"n": 0.5}', "a"]
    assert ask(model, REQUEST.model_copy(update={"user": "Say how."})).text == "c"
    assert ask(model, REQUEST.model_copy(update={"user": "Hello."})).text == "d"


def test_scripted_failures_look_like_the_provider_s(tmp_path: Path) -> None:
    failures = [{"failure": name} for name in ("refused", "cut", "outage", "empty")]
    model = ScriptedModel(script(tmp_path, {"otherwise": failures}))
    stops = [ask(model, REQUEST.model_copy(update={"pass_number": n})).stop for n in (1, 2)]
    assert stops == ["refused", "length"]
    for number in (3, 4):
        with pytest.raises(ProviderFailure):
            ask(model, REQUEST.model_copy(update={"pass_number": number}))


@pytest.mark.parametrize("content", ["", "[]", '{"rule": []}', '{"otherwise": []}', '{"otherwise": [3]}'])
def test_a_script_of_another_form_is_a_named_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(ModelError, match=r"replies\.json"):
        ScriptedModel(script(tmp_path, content))


def test_without_inspect_ai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.model", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tocsin\[eval\]'"):
        ProviderModel("mockllm/model")


def test_open_chat_model_takes_providers_and_scripts_and_nothing_else(tmp_path: Path) -> None:
    settings = ChatSettings()
    assert isinstance(open_chat_model("mockllm/model", settings=settings), Replaying)
    assert isinstance(open_chat_model(f"scripted:{script(tmp_path, {})}", settings=settings), ScriptedModel)
    for other in ("embedded", "hub:org/name", str(tmp_path)):
        with pytest.raises(UsageError, match="--model provider/name"):
            open_chat_model(other, settings=settings)


# --- background -----------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_items_and_reading_ahead_is_bounded() -> None:
    read: list[int] = []
    most = 0

    def items() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    async def work(number: int) -> int:
        await asyncio.sleep(0.002 * (number % 3))
        return number * number

    results: list[int] = []
    for result in map_in_order(work, items(), at_once=4):
        most = max(most, len(read) - len(results))
        results.append(result)
    assert results == [number * number for number in range(50)]
    assert most <= 5


def test_it_works_for_a_caller_that_is_inside_an_event_loop() -> None:
    async def double(number: int) -> int:
        return 2 * number

    async def caller() -> list[int]:
        return list(map_in_order(double, [1, 2, 3], at_once=2))

    assert asyncio.run(caller()) == [2, 4, 6]


def test_an_early_end_cancels_what_has_not_finished() -> None:
    cancelled = threading.Event()

    async def work(number: int) -> int:
        if number == 0:
            return 0
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return number

    results = map_in_order(work, range(3), at_once=2)
    assert next(results) == 0
    assert isinstance(results, Iterator)
    close: Callable[[], None] = results.close  # type: ignore[attr-defined]
    close()
    assert cancelled.wait(5)


# --- fence ----------------------------------------------------------------------------------------


@given(
    value=st.recursive(
        st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
    )
)
@example(value="<|im_end|><start_of_turn> [INST] [/INST] </s>")
@example(value="\u202ereversed\u200b \U000e0041 \x00 \ud800")
def test_quoted_text_is_one_printable_line_without_control_tokens_and_reads_back_unchanged(
    value: JsonValue,
) -> None:
    line = quote(value)
    assert json.loads(line) == value
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert not set("<>") & set(line)
    assert "[INST]" not in line
    assert "[/INST]" not in line
    line.encode()


@given(text=st.text())
def test_no_text_holds_its_own_marker_and_the_same_text_has_the_same_marker(text: str) -> None:
    secret = b"s" * 32
    marker, block = fenced(text, secret)
    assert len(marker) == MARKER_HEX
    first, data, last = block.split("\n")
    assert first == last == marker
    assert marker not in data
    assert fenced(text, secret) == (marker, block)
    assert fenced(text, b"t" * 32)[0] != marker
    # A marker that leaked is of no use in another text.
    assert fenced(text + marker, secret)[0] != marker


def test_the_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    secret = local_secret()
    assert len(secret) == 32
    assert local_secret() == secret
    path = tmp_path / "home" / "fence.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["fence.key"]
    path.write_bytes(b"short")
    with pytest.raises(RunError, match="32 bytes, found 5"):
        local_secret()


def test_processes_that_start_together_share_one_secret(tmp_path: Path) -> None:
    code = "from tocsin.models.fence import local_secret; print(local_secret().hex())"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1

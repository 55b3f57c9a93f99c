"""Named keys with limits: the file, what each of them opens, and SIGHUP."""

import asyncio
import hashlib
import os
import signal
import threading
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import pytest
from starlette.datastructures import Headers

from deltaserve.errors import KeyExpired, NotConfigured, OffsetUnavailable, Unauthorized
from deltaserve.server.api.access import reloading
from deltaserve.server.api.access.auth import KeyRing, RequireKey
from deltaserve.server.api.access.rates import RATE_HEADERS, duration
from deltaserve.server.api.access.reloading import KeysFile, ignore_hangups, key_ring
from deltaserve.server.app import create_app
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.serving.admission.clients import Client
from deltaserve.server.serving.admission.keys_file import KeyEntry, digest_of, new_key, read_keys
from deltaserve.server.settings import Settings, load_settings
from tests.support.app import RunningApp, running_app

BODY = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 4}


def table(name: str, key: str, **fields: Any) -> str:
    lines = [f"[{name}]", f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"']
    return "\n".join([*lines, *(f"{field} = {value}" for field, value in fields.items()), ""])


KEYS = (
    table("few", "few-key", requests_per_minute=2, tokens_per_minute=1000)
    + table("alone", "alone-key", streams=1, tokens_per_minute=10)
    + table("tiny-only", "tiny-key", models='["tiny"]')
    + table("elsewhere", "elsewhere-key", models='["tiny@old"]')
    + table("past", "past-key", expires="2020-01-01T00:00:00Z")
)


def write(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(scope="module")
def app(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    path = write(tmp_path_factory.mktemp("keys"), KEYS)
    with running_app(tokenizer, keys_file=path, api_keys="plain", admin_key="admin") as running:
        yield running


def ask(app: RunningApp, key: str, path: str = "/v1/completions", **more: Any) -> httpx.Response:
    return httpx.post(f"{app.url}{path}", json=BODY | more, headers={"authorization": f"Bearer {key}"})


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def rates(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}


def test_what_is_left_of_a_keys_limits_is_in_the_headers_and_past_them_it_is_429(app: RunningApp) -> None:
    first, second, third = (ask(app, "few-key") for _ in range(3))
    assert [one.status_code for one in (first, second, third)] == [200, 200, 429]
    assert set(rates(first)) == set(RATE_HEADERS)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-tokens"] == "995"  # the prompt alone is known
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert error_of(third) == (429, "rate_limit_exceeded")
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert third.headers["x-should-retry"] == "true"


def test_tokens_that_were_generated_are_counted_too(app: RunningApp) -> None:
    assert ask(app, "alone-key").status_code == 200  # 5 and 4 of 10
    refused = ask(app, "alone-key")
    assert error_of(refused) == (429, "rate_limit_exceeded")
    assert "tokens a minute" in refused.json()["error"]["message"]
    assert error_of(ask(app, "alone-key", n=2)) == (400, None)


def test_a_key_opens_the_models_that_it_names_and_sees_no_others(app: RunningApp) -> None:
    assert ask(app, "tiny-key").status_code == 200
    for path, more in (("/v1/completions", {}), ("/v1/completions", {"model": None}), ("/tokenize", {})):
        refused = ask(app, "elsewhere-key", path, **more)
        assert error_of(refused) == (403, "forbidden")
        assert refused.json()["error"]["param"] == "model"
    for key, names in (("tiny-key", ["tiny"]), ("elsewhere-key", []), ("plain", ["tiny"])):
        listed = httpx.get(f"{app.url}/v1/models", headers={"authorization": f"Bearer {key}"}).json()["data"]
        assert [card["id"] for card in listed] == names


def test_a_model_that_is_gone_tells_a_key_no_names_that_it_may_not_ask(app: RunningApp) -> None:
    gone = ask(app, "elsewhere-key", model="tiny@old")
    assert error_of(gone) == (404, "model_not_found")
    assert gone.json()["error"]["message"] == "The model 'tiny@old' does not exist; there is none yet."


@pytest.mark.parametrize(("key", "code"), [("past-key", "expired_api_key"), ("few", "invalid_api_key")])
def test_a_key_that_has_expired_or_is_none_opens_nothing(app: RunningApp, key: str, code: str) -> None:
    assert error_of(ask(app, key)) == (401, code)
    digest = hashlib.sha256(b"few-key").hexdigest()
    assert error_of(ask(app, digest)) == (401, "invalid_api_key")


def test_the_keys_of_the_settings_have_no_limits_and_anthropics_header_carries_any_key(app: RunningApp) -> None:
    assert rates(ask(app, "plain")) == {}
    given = httpx.post(f"{app.url}/v1/completions", json=BODY, headers={"x-api-key": "tiny-key"})
    assert given.status_code == 200


def test_metrics_name_keys_to_those_who_have_the_admin_key(app: RunningApp) -> None:
    ask(app, "tiny-key")
    line = 'deltaserve_key_requests_total{key="tiny-only",status="200"}'
    for headers, seen in (({}, False), ({"x-admin-key": "guess"}, False), ({"authorization": "Bearer admin"}, True)):
        text = httpx.get(f"{app.url}/metrics", headers=headers).text
        assert (line in text, "tiny-only" in text) == (seen, seen)
        assert "deltaserve_generation_tokens_total" in text


def test_metrics_name_keys_to_nobody_where_there_is_no_admin_key(tokenizer: Any, tmp_path: Path) -> None:
    with running_app(tokenizer, keys_file=write(tmp_path, KEYS)) as app:
        ask(app, "tiny-key")
        for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer tiny-key"}):
            assert "tiny-only" not in httpx.get(f"{app.url}/metrics", headers=headers).text


async def _never(_client: Client) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.anyio
async def test_a_process_that_counts_and_does_not_answer_holds_no_request_up() -> None:
    settings, record = SimpleNamespace(queue_timeout_s=0.01), SimpleNamespace(client=Client("k", requests_per_minute=1))
    serving: Any = SimpleNamespace(settings=settings, places=SimpleNamespace(request=_never))
    door: Any = RequireKey(lambda *_: None, KeyRing([]), serving)  # type: ignore[arg-type, return-value]
    with pytest.raises(OffsetUnavailable):
        await door._count(record)


def test_a_key_expires_at_its_time_and_not_before() -> None:
    until = datetime(2027, 1, 1, tzinfo=UTC)
    now = [until - timedelta(microseconds=1)]
    ring, headers = KeyRing([], lambda: now[0]), Headers({"authorization": "Bearer k"})
    ring.hold({digest_of("k"): _holder(f"expires = {until.date()}")})
    assert ring.client(headers) == Client("k")
    now[0] = until
    with pytest.raises(KeyExpired):
        ring.client(headers)


def _holder(line: str) -> Any:

    return KeyEntry.model_validate({"sha256": "0" * 64, **tomllib.loads(line)}).holder("k")


SECRET = "sk-not-a-digest-but-a-key"
GOOD = table("a", "k")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lists no key"),
        ("[a]\n", r"\[a\]: sha256 is missing"),
        (f'[a]\nsha256 = "{SECRET}"', "64 hexadecimal digits"),
        (f"{GOOD}{SECRET} = 1", "one of the fields is unknown; there are sha256, streams"),
        (f"{GOOD}streams = 0", "streams: Input should be greater than or equal to 1"),
        (f"{GOOD}streams = true", "streams: Input should be a valid integer"),
        (f"{GOOD}models = []", "models: List should have at least 1 item"),
        (f"{GOOD}expires = 2027-01-01T00:00:00", "say the time zone"),
        (f'{GOOD}expires = "soon"', "expires: "),
        (f'a = "{SECRET}"', r"a must be a table"),
        (f'["{SECRET} "]\n', "a key's name is up to 64 letters"),
        (table("a", "k") + table("b", "k"), "a and b have the same key"),
        (GOOD + GOOD, r"cannot be read as TOML \(at line"),
        (f'[a]\nsha256 = "{SECRET}', r"cannot be read as TOML \(at"),
        ("[a]\nsha256 = '\udcff'", "is not UTF-8 text"),
        (f"{GOOD}streams = {'1' * 5000}", "cannot be read as TOML"),
        (f"{GOOD}models = {'[' * 5000}", "cannot be read as TOML"),
        (GOOD + "#" * 4_000_000, "larger than the 4,000,000 bytes"),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence_that_repeats_no_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(NotConfigured, match=said) as caught:
        read_keys(path)
    assert SECRET not in caught.value.message


def test_what_is_no_file_is_refused_without_waiting_for_its_content(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in ((pipe, "no regular file"), (Path("/dev/zero"), "no regular file"), (tmp_path, "Is a directory")):
        with pytest.raises(NotConfigured, match=said):
            read_keys(path)


@pytest.mark.parametrize(("given", "said"), [({"api_keys": "x,k"}, "api_keys too"), ({"admin_key": "k"}, "admin key")])
def test_a_key_of_the_settings_is_none_of_the_files(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(NotConfigured, match=rf"\[a\] is .*{said}"):
        key_ring(load_settings(keys_file=write(tmp_path, GOOD), **given))


def test_a_file_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="cannot be read: No such file"):
        create_app(Settings(keys_file=tmp_path / "none.toml"))
    assert load_settings(host="0.0.0.0", keys_file=tmp_path / "none.toml").needs_key


def test_new_keys_are_random_and_long() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100 and all(key.startswith("ds-") and len(key) > 40 for key in keys)


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.0, "0ms"), (0.0174, "17ms"), (1.5, "1.5s"), (60, "1m0s"), (360.25, "6m0.25s")]
)
def test_times_are_written_as_openai_writes_them(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_sighup_takes_the_file_anew_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, table("a", "first"))
    settings, metrics, log = Settings(keys_file=path), Metrics(), Lines()
    ring = key_ring(settings)
    assert ring is not None

    def opens(key: str) -> bool:
        try:
            return bool(ring.client(Headers({"authorization": f"Bearer {key}"})))
        except Unauthorized:
            return False

    async def hang_up(text: str) -> tuple[str, dict[str, Any]]:
        write(tmp_path, text)
        before = len(log.lines)
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(30):
            while len(log.lines) == before:  # noqa: ASYNC110  (a signal sets no event)
                await asyncio.sleep(0.001)
        return log.lines[-1]

    async def served() -> None:
        write(tmp_path, table("a", "zeroth"))
        os.kill(os.getpid(), signal.SIGHUP)  # too early to be heard
        with KeysFile(settings, ring, metrics, log).heard():
            assert opens("zeroth") and not opens("first")
            assert await hang_up(table("a", "second") + table("b", "third")) == ("keys loaded", {"keys": 2})
            assert [opens(key) for key in ("first", "second", "third")] == [False, True, True]
            said, about = await hang_up(f'[a]\nsha256 = "{SECRET}"')
            assert said == "the keys stay as they were" and "64 hexadecimal digits" in about["reason"]
            assert SECRET not in about["reason"]
            assert [opens(key) for key in ("first", "second", "third")] == [False, True, True]

    before = signal.getsignal(signal.SIGHUP)
    ignore_hangups()
    try:
        asyncio.run(served())
    finally:
        signal.signal(signal.SIGHUP, before)
    assert b'keys_file_reloads_total{outcome="kept"} 1.0' in metrics.exposition()


def test_while_the_file_is_read_anew_the_server_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(keys_file=write(tmp_path, table("a", "k")))
    ring, log, went_on = key_ring(settings), Lines(), threading.Event()
    assert ring is not None

    def defect() -> Any:
        raise RuntimeError(SECRET)

    reads: Iterator[Callable[[], Any]] = iter([dict, lambda: {} if went_on.wait(2) else defect(), defect, dict])
    monkeypatch.setattr(reloading, "keys_of", lambda _: next(reads)())

    async def served() -> None:
        with KeysFile(settings, ring, Metrics(), log).heard():
            for lines in (2, 3, 4):
                os.kill(os.getpid(), signal.SIGHUP)
                asyncio.get_running_loop().call_later(0.01, went_on.set)
                async with asyncio.timeout(30):
                    while len(log.lines) < lines:  # noqa: ASYNC110  (a signal sets no event)
                        await asyncio.sleep(0.001)

    handler = signal.getsignal(signal.SIGHUP)
    ignore_hangups()
    try:
        asyncio.run(served())
    finally:
        signal.signal(signal.SIGHUP, handler)
    loaded, kept = "keys loaded", "the keys stay as they were"
    assert [event for event, _ in log.lines] == [loaded, loaded, kept, loaded]  # a defect ends no hearing
    assert SECRET not in str(log.lines)


class Lines:
    """A log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **about: Any) -> None:
        self.lines.append((event, about))

    error = info

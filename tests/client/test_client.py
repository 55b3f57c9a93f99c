from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from deltaserve.client.calls import Generation
from deltaserve.client.client import AsyncClient, Client
from deltaserve.client.errors import Refused, ServerFailed, Unreachable
from deltaserve.client.results import Piece
from deltaserve.errors import MalformedTopK, OffsetUnavailable
from tests.support.app import RunningApp
from tests.support.command import KEY

pytestmark = pytest.mark.anyio
HOW = Generation(max_tokens=12, temperature=0.0, seed=3)
TURN = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(app: RunningApp) -> Iterator[Client]:
    with Client(app.url) as client:
        yield client


@pytest.fixture
async def async_client(app: RunningApp) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(app.url) as client:
        yield client


def test_a_server_that_answers_is_ready(client: Client):
    assert client.health().ready and client.health().problems == ()


def test_a_server_that_does_not_answer_requests_says_why(client: Client, app: RunningApp):
    app.registry.alive = False
    try:
        health = client.health()
    finally:
        app.registry.alive = True
    assert not health.ready and health.problems == ("the offset engine is not running",)


def test_the_version_and_the_models_are_typed(client: Client):
    assert client.version()
    (card,) = client.models()
    assert (card.id, card.max_context, card.fingerprint) == ("tiny", 512, "ds-flat-0123456789ab")


def test_tokens_of_a_text_and_back(client: Client):
    tokens = client.tokenize("abc é")
    assert tokens.ids == tuple("abc é".encode()) and tokens.max_context == 512
    assert client.detokenize(tokens.ids) == "abc é"


def test_tokens_of_a_chat_are_those_of_its_template(client: Client):
    assert client.tokenize(TURN).ids[-10:] == tuple(b"assistant\n")


def test_the_tokenizer_says_what_a_client_without_it_needs(client: Client):
    info = client.tokenizer_info()
    assert (info.vocab_size, info.eos_token, info.bos_token) == (258, "<|im_end|>", None)


@pytest.mark.parametrize("kind", ["complete", "chat"])
def test_a_streamed_answer_says_what_the_whole_one_says(client: Client, kind: str):
    prompt = "Hello" if kind == "complete" else TURN
    whole = getattr(client, kind)(prompt, HOW)
    pieces = list(getattr(client, f"stream_{kind}")(prompt, HOW))
    assert "".join(piece.text for piece in pieces) == whole.text != ""
    assert len(pieces) > 3 and pieces[-1].finish_reason == whole.finish_reason == "length"
    assert (whole.completion_tokens, whole.model, whole.fingerprint) == (12, "tiny", "ds-flat-0123456789ab")


async def test_the_asynchronous_client_answers_like_the_blocking_one(client: Client, async_client: AsyncClient):
    assert await async_client.health() == client.health()
    assert await async_client.version() == client.version()
    assert await async_client.models() == client.models()
    assert await async_client.tokenizer_info() == client.tokenizer_info()
    assert await async_client.tokenize("abc") == client.tokenize("abc")
    assert await async_client.detokenize([97]) == "a"
    assert (await async_client.chat(TURN, HOW)).text == client.chat(TURN, HOW).text
    assert (await async_client.complete("Hello", HOW)).text == client.complete("Hello", HOW).text
    pieces = [piece async for piece in async_client.stream_chat(TURN, HOW)]
    assert pieces == list(client.stream_chat(TURN, HOW))


def test_a_refused_request_keeps_the_servers_sentence(client: Client):
    with pytest.raises(Refused, match=r"no such model|does not exist") as refused:
        client.complete("Hello", Generation(model="other"))
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")
    assert refused.value.request_id


async def test_a_refused_stream_keeps_the_servers_sentence(async_client: AsyncClient):
    with pytest.raises(Refused, match="temperature"):
        _ = [piece async for piece in async_client.stream_chat(TURN, Generation(temperature=3.0))]


def test_without_its_key_a_guarded_server_refuses(guarded: RunningApp):
    with Client(guarded.url) as client, pytest.raises(Refused) as refused:
        client.models()
    assert refused.value.status == 401
    with Client(guarded.url, api_key=KEY) as client:
        assert client.models()


def test_a_server_that_is_not_there_is_unreachable():
    with Client("http://127.0.0.1:9") as client, pytest.raises(Unreachable, match="is it running"):
        client.health()


def test_a_failure_says_when_to_try_again(client: Client, app: RunningApp):
    app.version.row_fault = OffsetUnavailable("The engine is away.", retry_after_s=7)
    try:
        with pytest.raises(ServerFailed, match="The engine is away") as failed:
            client.complete("Hello", HOW)
    finally:
        app.version.row_fault = None
    assert (failed.value.status, failed.value.retry_after_s) == (503, 7.0)


def test_a_failure_in_the_middle_of_a_stream_is_raised_after_the_pieces_that_came(client: Client, app: RunningApp):
    app.box.fault, app.box.fault_after = MalformedTopK("It broke."), 4
    came: list[Piece] = []
    try:
        with pytest.raises(ServerFailed, match=r"It broke\."):
            came.extend(_kept(client.stream_complete("Hello", HOW), came))
    finally:
        app.box.fault = None
    assert [piece.text for piece in came if piece.text]


def _kept(pieces: Iterator[Piece], came: list[Piece]) -> Iterator[Piece]:
    """Nothing but the error that ends them; the pieces themselves are put into `came`."""
    for piece in pieces:
        came += [piece]
    yield from ()


class Handler(BaseHTTPRequestHandler):
    """Answers what the path asks for and remembers the keys it saw."""

    seen: list[str | None]
    answers: dict[str, tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("authorization"))
        status, headers, body = self.answers[self.path]
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[tuple[str, type[Handler]]]:
    """A server that answers as the test wants."""
    handler = type("Odd", (Handler,), {"seen": [], "answers": {}})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_redirect_is_not_followed_for_the_key_is_for_one_host(odd: tuple[str, type[Handler]]):
    url, handler = odd
    handler.answers = {"/version": (307, {"location": "/elsewhere"}, b""), "/elsewhere": (200, {}, b'{"version":"1"}')}
    with Client(url, api_key="k") as client, pytest.raises(Refused, match="redirects"):
        client.version()
    assert handler.seen == ["Bearer k"]


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"version":', b"null", b"{}"])
def test_an_answer_of_another_kind_of_server_is_a_failure(odd: tuple[str, type[Handler]], body: bytes):
    url, handler = odd
    handler.answers = {"/version": (200, {}, body)}
    with Client(url) as client, pytest.raises(ServerFailed, match="cannot be read"):
        client.version()


@pytest.mark.parametrize(
    ("body", "sentence"), [(b'{"error":"Unauthorized"}', "Unauthorized"), (b"<html>", "HTTP 401"), (b"[]", "HTTP 401")]
)
def test_errors_of_other_servers_are_sentences_too(odd: tuple[str, type[Handler]], body: bytes, sentence: str):
    url, handler = odd
    handler.answers = {"/v1/models": (401, {}, body)}
    with Client(url) as client, pytest.raises(Refused, match=sentence):
        client.models()


PIECE = 'data: {"choices":[{"text":"a\u2028b"}]}\n\n'.encode()


@pytest.mark.parametrize("stream", [b"", PIECE, PIECE + b"data: [DO", PIECE + b"data: [1]\n\ndata: [DONE]\n\n"])
def test_a_stream_that_breaks_off_is_not_taken_for_an_answer(odd: tuple[str, type[Handler]], stream: bytes):
    url, handler = odd
    handler.answers = {"/v1/completions": (200, {"content-type": "text/event-stream"}, stream)}
    with Client(url) as client, pytest.raises(ServerFailed):
        list(client.stream_complete("Hello"))


def test_a_line_separator_inside_a_piece_is_text(odd: tuple[str, type[Handler]]):
    url, handler = odd
    usage = b': comment\n\ndata: {"choices":[],"usage":{}}\n\n'
    handler.answers = {"/v1/completions": (200, {}, PIECE + usage + b"data: [DONE]\n\n")}
    with Client(url) as client:
        assert [piece.text for piece in client.stream_complete("Hello")] == ["a\u2028b"]

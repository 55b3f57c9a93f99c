"""Generated requests against the app's own OpenAPI document: no answer is a server error, and each is as it says."""

import httpx2 as httpx
import jsonschema_rs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.app import RunningApp

FEW = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PATHS = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"]
SAID = [{"role": "user", "content": "hi"}]
# Of each route one request that is answered; the path of a route with a name in it is another one.
ANSWERED = [
    ("POST", "/v1/completions", {"prompt": "a", "max_tokens": 2, "logprobs": 1}),
    ("POST", "/v1/chat/completions", {"messages": SAID, "max_tokens": 2, "logprobs": True}),
    ("POST", "/v1/responses", {"input": SAID, "max_output_tokens": 2}),
    ("POST", "/v1/responses/input_tokens", {"input": "a"}),
    ("POST", "/v1/messages", {"messages": SAID, "max_tokens": 2}),
    ("POST", "/v1/messages/count_tokens", {"messages": SAID}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/tiny", None),
    ("POST", "/tokenize", {"prompt": "a"}),
    ("POST", "/tokenize", {"prompt": "a", "return_token_strs": True}),
    ("POST", "/detokenize", {"tokens": [97]}),
    ("GET", "/tokenizer_info", None),
    ("GET", "/health/live", None),
    ("GET", "/health/ready", None),
    ("GET", "/version", None),
    ("GET", "/metrics", None),
]


@pytest.mark.parametrize("path", PATHS)
def test_no_generated_body_makes_the_server_fail(app: RunningApp, path: str) -> None:
    import schemathesis  # here: every worker collects this file, and one of them runs it

    document = httpx.get(f"{app.url}/openapi.json").json()
    operation = schemathesis.openapi.from_dict(document)[path]["POST"]

    @FEW
    @given(case=operation.as_strategy(), stream=st.booleans())
    def check(case: schemathesis.Case, stream: bool) -> None:
        body = {**case.body, "stream": stream, "max_tokens": 3} if isinstance(case.body, dict) else case.body
        response = httpx.post(app.url + path, json=body, timeout=10)
        assert response.status_code < 500
        if response.status_code >= 400:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    check()


def as_described(app: RunningApp, response: httpx.Response, path: str) -> None:
    """Status, content type and body are among those that the document names for the route."""
    document = httpx.get(f"{app.url}/openapi.json").json()
    route = "/v1/models/{model_id}" if path.startswith("/v1/models/") else path
    known = document["paths"][route][response.request.method.lower()]["responses"]
    status = str(response.status_code)
    content = (known.get(status) or known[f"{status[0]}XX"])["content"]
    described = content[response.headers["content-type"].partition(";")[0]]
    if "json" in response.headers["content-type"]:
        jsonschema_rs.validate({**described["schema"], "components": document["components"]}, response.json())


@pytest.mark.parametrize(("method", "path", "body"), ANSWERED)
def test_an_answer_is_as_the_document_says(app: RunningApp, method: str, path: str, body: object) -> None:
    response = httpx.request(method, app.url + path, json=body, timeout=10)
    assert response.status_code == 200
    as_described(app, response, path)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_a_stream_is_described_as_events(app: RunningApp, path: str) -> None:
    bodies = {known: body for _, known, body in ANSWERED if isinstance(body, dict)}
    response = httpx.post(app.url + path, json={**bodies[path], "stream": True}, timeout=10)
    assert response.headers["content-type"].startswith("text/event-stream")
    as_described(app, response, path)


@pytest.mark.parametrize(("method", "path", "body"), ANSWERED)
def test_a_refusal_is_as_the_document_says(app: RunningApp, method: str, path: str, body: object) -> None:
    if method == "GET":
        return
    response = httpx.post(app.url + path, json={"model": "no such"}, timeout=10)
    assert 400 <= response.status_code < 500
    as_described(app, response, path)


def test_no_route_promises_the_framework_s_own_error(app: RunningApp) -> None:
    document = httpx.get(f"{app.url}/openapi.json").text
    assert "HTTPValidationError" not in document and '"422"' not in document

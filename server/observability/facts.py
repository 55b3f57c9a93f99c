"""What spans say, in OpenTelemetry's names where it has one: of a request, and of one of its answers."""

from deltaserve.server.observability.records import RequestRecord, Stats
from deltaserve.server.observability.spans import Span

_COUNTED = (
    "accepted", "replaced", "forced", "local_accepted", "certified", "guarded", "wasted", "upstream_calls",
)  # fmt: skip


def describe_request(span: Span, record: RequestRecord, method: str, route: str, status: int) -> None:
    """Once it has been answered."""
    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    span.set_attribute("deltaserve.request_id", record.id)
    span.set_attribute("gen_ai.usage.input_tokens", record.prompt_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", record.completion_tokens)
    for name, value in (("gen_ai.request.model", record.model), ("error.type", record.error)):
        if value is not None:
            span.set_attribute(name, value)
    if record.fingerprint is not None:
        span.set_attribute("deltaserve.fingerprint", record.fingerprint)


def describe_answer(span: Span, stats: Stats) -> None:
    """What the decoder counted of one choice."""
    for name in _COUNTED:
        span.set_attribute(f"deltaserve.{name}", getattr(stats, name))

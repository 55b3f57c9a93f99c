"""Who speaks, for OpenTelemetry: a service's name and what its own variables add."""

from collections.abc import Mapping
from typing import Final

from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource

NAME: Final = "deltaserve"  # of the service, where OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES do not say otherwise


def resource(more: Mapping[str, str] | None = None) -> Resource:
    """With `more`, unless the variables say otherwise."""
    return Resource({SERVICE_NAME: NAME, **(more or {})}).merge(OTELResourceDetector().detect())

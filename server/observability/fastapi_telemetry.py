"""FastAPI's own telemetry, which stays off: to whatever the environment sets up it tells exceptions, and so text."""

from typing import Any, Final

# A plain dictionary: releases of FastAPI without telemetry pass the argument over.
OFF: Final[Any] = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)

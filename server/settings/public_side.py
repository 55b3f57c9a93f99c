"""Settings of what others reach: addresses and keys, the administration, the page, metrics and traces."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from deltaserve.server.settings.kinds import check_fits_in_a_header

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*]+")  # extensions of browsers have schemes of their own


class PublicSide(BaseModel):
    """Who may reach what of the server, and where."""

    served_name: str | None = Field(None, description="model name that clients use; default: the black box's")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), description="Bearer keys, comma separated")
    keys_file: Path | None = Field(
        None, description="TOML file of named keys with limits (`deltaserve keys new`); read anew on SIGHUP"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="origins of browser applications that may call the public routes, comma separated, or *; never "
        "the admin routes",
    )
    admin_key: SecretStr | None = Field(None, description="opens the admin routes; without it they do not exist")
    admin_host: str | None = Field(None, description="address of the admin routes; default: host. Needs admin_port")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="port of their own for the admin routes, which are then nowhere else"
    )
    admin_requests_per_minute: int = Field(600, ge=1, description="to the admin routes, wrong keys counted apart")
    playground: bool = Field(True, description="serve the page at /playground")
    playground_examples: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="questions that the page offers to whoever opens it, one a line (in the file: a list)"
    )
    metrics: bool = True
    otlp_traces_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/\S*)?$",
        description="where traces go by OTLP over HTTP: http://collector:4318/v1/traces (needs deltaserve[otel])",
    )
    otlp_metrics_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/\S*)?$",
        description="where what /metrics counts is sent by OTLP over HTTP, every minute: "
        "http://collector:4318/v1/metrics (needs deltaserve[otel])",
    )

    @field_validator("api_keys", "admin_key")
    @classmethod
    def _are_keys(cls, value: Any) -> Any:
        keys = value if isinstance(value, tuple) else [value]
        for key in [key for key in keys if key is not None]:
            check_fits_in_a_header(key)
            if not key.get_secret_value():
                raise ValueError("an empty key would open to everybody: leave the setting out, or give a key")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(f"{origin} is no origin: write scheme://host[:port] without a path, or * alone")
        if "*" in origins and len(origins) > 1:
            raise ValueError("* stands for every origin: leave the others out")
        return origins

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        """A file of keys may have one on each line."""
        parts = re.split(r"[,\n]", value) if isinstance(value, str) else None
        return value if parts is None else tuple(part.strip() for part in parts if part.strip())

    @field_validator("playground_examples", mode="before")
    @classmethod
    def _split_lines(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.splitlines()))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _without_keys_only_loopback(self) -> Self:
        if not self.needs_key and not self.loopback:
            raise ValueError(
                "without api_keys the server listens on loopback only: set DELTASERVE_API_KEYS or "
                "DELTASERVE_KEYS_FILE, or host to 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _admin_stands_apart(self) -> Self:
        key = self.admin_key.get_secret_value() if self.admin_key else None
        if key is not None and key in [known.get_secret_value() for known in self.api_keys]:
            raise ValueError("admin_key must not be one of api_keys: those who may ask must not administer")
        if self.admin_port is not None and key is None:
            raise ValueError("admin_port is of no use without an admin_key")
        if self.admin_host is not None and self.admin_port is None:
            raise ValueError("admin_host needs an admin_port")
        if self.admin_port == self.port != 0 and self.admin_host in (None, self.host):
            raise ValueError("admin_port must be another port than port: each has a server of its own")
        return self

    @property
    def needs_key(self) -> bool:
        """Whether those who ask need a key."""
        return bool(self.api_keys) or self.keys_file is not None

    @property
    def admin_shares_address(self) -> bool:
        """Whether the admin routes are among the public ones."""
        return self.admin_key is not None and self.admin_port is None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

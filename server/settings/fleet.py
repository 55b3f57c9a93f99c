"""Settings of a fleet: several servers with one set of offsets."""

import re
from typing import Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from deltaserve.server.settings.kinds import Seconds

_STORE = re.compile(r"file|(redis|valkey)s?://[^/\s@?#]+(/\d{1,3})?")  # a password would be seen in lists of processes


class Fleet(BaseModel):
    """Where the fleet's record is kept, and how closely a replica follows it."""

    fleet_store: str | None = Field(
        None,
        description="several servers with one set of offsets: file (the state folder, which all of them share), or "
        "redis://HOST:PORT/DB; default: this server is by itself",
    )
    fleet_password: SecretStr | None = Field(None, description="of the Redis that fleet_store names")
    fleet_name: str = Field(
        "deltaserve", pattern=r"^[A-Za-z0-9._:-]{1,64}$", description="prefix of the fleet's keys in Redis"
    )
    fleet_replica: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="name of this replica; default: host name and port",
    )
    fleet_poll_s: Seconds = Field(0.5, description="how often a replica asks the store, which also tells it of changes")
    fleet_fence_s: Seconds = Field(
        10.0, description="how long a replica may answer with the old offset once it has seen that another is active"
    )
    fleet_contact_s: Seconds = Field(30.0, description="how long a replica may answer without contact with the store")

    @field_validator("fleet_store")
    @classmethod
    def _names_a_store(cls, value: str | None) -> str | None:
        if value is not None and _STORE.fullmatch(value) is None:
            raise ValueError("it is file, or redis://HOST[:PORT][/DB] (rediss, valkey, valkeys); see fleet_password")
        return value

    @model_validator(mode="after")
    def _fleet_has_a_store(self) -> Self:
        if self.fleet_password is not None and self.fleet_store in (None, "file"):
            raise ValueError("fleet_password is of no use without a Redis in fleet_store")
        if self.fleet_store is not None and 3 * self.fleet_poll_s > self.fleet_contact_s:
            raise ValueError("fleet_contact_s must be at least three times fleet_poll_s: one lost answer is no fence")
        return self

"""Everything an operator can set, in one frozen object: command line > environment > file > defaults.

The environment is DELTASERVE_<FIELD>; the file is TOML with the same names, given by DELTASERVE_CONFIG. A secret may
lie in a file of its own, given by DELTASERVE_<FIELD>_FILE. Each file of this folder is a theme: its fields, what is
refused among them, and what follows from them.
"""

import math
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from deltaserve.server.decoding.policy import Guard, Naming, Policy
from deltaserve.server.setting_sources import (
    PREFIX,
    SettingsError,
    check_environment,
    read_file,
    read_secret_files,
    secrets_among,
    sentence,
)
from deltaserve.server.settings.answering import Answering
from deltaserve.server.settings.black_box import BlackBox
from deltaserve.server.settings.bounds import Bounds
from deltaserve.server.settings.deciding import Deciding
from deltaserve.server.settings.fleet import Fleet
from deltaserve.server.settings.offset_pair import OffsetPair
from deltaserve.server.settings.public_side import PublicSide

_NAMED_AHEAD = 8  # tokens that come with a call of names: as long as none of them waits long for the last


# Help pages list the fields of the last base first: that is pydantic's order.
class Settings(Bounds, Answering, PublicSide, Deciding, Fleet, OffsetPair, BlackBox, BaseSettings):
    """Read once at start. Build it with `load_settings`, which turns every mistake into a sentence."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = True

    @property
    def policy(self) -> Policy:
        """How answers are corrected, as decoding takes it."""
        return Policy(tail=self.tail, guard=self._guard(), allow_blind=self.allow_blind, naming=self._naming())

    def _naming(self) -> Naming | None:
        if self.named_ids == "off" or self.tail == "truncate":
            return None
        return Naming(tail=self.named_tail, certify=self.named_ids == "always", ahead=_NAMED_AHEAD)

    def _guard(self) -> Guard | None:
        if self.guard_kl is None:
            return None
        cap = math.inf if self.guard_temperature is None else self.guard_temperature
        return Guard(kl_nats=self.guard_kl, min_p=self.guard_min_p, temperature=cap, unbiased=self.guard_unbiased)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic passes all of them by name)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = InitSettingsSource(settings_cls, init_kwargs=read_file(cls.model_fields))
        secrets = InitSettingsSource(settings_cls, init_kwargs=read_secret_files(cls.model_fields))
        return init_settings, secrets, env_settings, file


def load_settings(**given: Any) -> Settings:
    """Settings from `given` (command line; None means not given), environment, file, defaults. Raises SettingsError."""
    check_environment(Settings.model_fields)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(map(sentence, error.errors(include_input=False, include_url=False)))) from None


def secret_settings() -> list[str]:
    """The fields of Settings that hold secrets: each may be given in a file."""
    return secrets_among(Settings.model_fields)

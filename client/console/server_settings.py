"""The server's settings as command-line options, and back."""

import os
from typing import Any, Final, get_origin

from pydantic import SecretStr

from deltaserve.client.address import KEY_VARIABLE, URL_VARIABLE
from deltaserve.client.console.generated import Flag, default_text_of, given, without_none
from deltaserve.client.console.terminal import Status, Stop, note
from deltaserve.server.secret_files import SUFFIX
from deltaserve.server.setting_sources import CONFIG_FILE, PREFIX, SettingsError
from deltaserve.server.settings import Settings, load_settings

EPILOG: Final = (
    f"Every option is also an environment variable ({PREFIX}UPSTREAM_URL for --upstream-url) and a key of the TOML "
    f"file that --config or {CONFIG_FILE} names; the command line wins, then the environment, then the file. "
    "Keep keys out of the command line: other users of the machine can read it. Every key and password may lie in a "
    f"file: {PREFIX}ADMIN_KEY{SUFFIX} names the one that holds the admin key."
)


def setting_flags() -> list[Flag]:
    """One for each field of Settings, and --config."""
    config = Flag("config", str, "TOML file with settings")
    return [config, *(_flag(name, field) for name, field in Settings.model_fields.items())]


def read_settings(values: dict[str, Any]) -> Settings:
    """Settings from the command line, then from elsewhere. Raises Stop with a sentence for every mistake."""
    chosen = given(values)
    if config := chosen.pop("config", None):
        os.environ[CONFIG_FILE] = config
    _set_aside_client_variables()
    try:
        return load_settings(**chosen)
    except SettingsError as error:
        raise Stop(str(error), Status.USAGE) from error


def _set_aside_client_variables() -> None:
    """The client's variables may be set in the same shell; the server refuses names that it does not know."""
    in_file = os.environ.pop(KEY_VARIABLE + SUFFIX, None)
    if os.environ.pop(KEY_VARIABLE, None) or in_file:
        note(f"{KEY_VARIABLE} is the key that clients send; the keys that a server accepts are {PREFIX}API_KEYS.")
    os.environ.pop(URL_VARIABLE, None)


def _flag(name: str, field: Any) -> Flag:
    kind = without_none(field.annotation)
    if kind == tuple[str, ...] and name == "upstream_url":
        kind = list[str]
    elif kind is SecretStr or get_origin(kind) is tuple:  # comma separated
        kind = str
    return Flag(name, kind, field.description or "", default_text_of(field.default))

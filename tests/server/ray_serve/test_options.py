"""Settings under Ray Serve: what may stand in a Serve config's `args`, and what Ray is told of it."""

from typing import Any

import pytest

from deltaserve.errors import NotConfigured
from deltaserve.server.ray_serve.options import deployment_options, settings_of
from deltaserve.server.setting_sources import PREFIX, SettingsError

ARGS: dict[str, Any] = {"upstream_url": "http://127.0.0.1:8001", "fleet_store": "file", "max_streams": 64}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def test_a_replica_has_ray_s_name_for_it_and_one_process() -> None:
    settings = settings_of(ARGS, "deltaserve-abc")
    assert (settings.fleet_replica, settings.front_ends) == ("deltaserve-abc", 0)


def test_a_container_s_own_settings_do_not_reach_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOST": "0.0.0.0", "PORT": "8000", "WORKERS": "4", "API_KEYS": "key"}.items():
        monkeypatch.setenv(PREFIX + name, value)
    assert settings_of(ARGS).front_ends == 0


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"port": 9000}, "`port` is not for `args` under Ray Serve: Ray's proxy listens"),
        ({"admin_port": 9001}, "the admin routes are among the others"),
        ({"workers": 2}, "set num_replicas or autoscaling_config"),
        ({"fleet_replica": "one"}, "each replica is named after Ray's own name"),
        ({"admin_key": "secret"}, "whose name is DELTASERVE_ADMIN_KEY_FILE"),
        ({"upstream_key": "secret"}, "whose name is DELTASERVE_UPSTREAM_KEY_FILE"),
        ({"fleet_store": None}, "set `fleet_store` to file or redis://HOST:PORT/DB"),
        ({"max_streams": "auto"}, "set `max_streams` to a number"),
    ],
)
def test_what_is_not_for_ray_is_refused_with_what_to_do(args: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotConfigured, match=sentence) as refused:
        settings_of(ARGS | args)
    assert "secret" not in refused.value.message


def test_an_admin_port_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASERVE_ADMIN_PORT", "9001")
    monkeypatch.setenv("DELTASERVE_ADMIN_KEY", "key")
    with pytest.raises(NotConfigured, match="DELTASERVE_ADMIN_PORT must not be set"):
        settings_of(ARGS)


def test_what_is_no_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_stream"):
        settings_of(ARGS | {"max_stream": 3})


def test_ray_sends_a_replica_all_that_it_generates_and_keeps_waiting() -> None:
    options = deployment_options(settings_of(ARGS | {"max_queue": 10, "drain_timeout_s": 45, "retry_after_s": 2}))
    assert options["max_ongoing_requests"] > 64 + 10
    assert options["graceful_shutdown_timeout_s"] > 45
    assert options["backpressure_config"] == {"status_code": 503, "retry_after_s": 2}


def test_ray_takes_no_queue_of_no_requests() -> None:
    assert deployment_options(settings_of(ARGS | {"max_queue": 0}))["max_queued_requests"] == 1

"""Starts that cannot be: each ends in a sentence that says what to do and a documented exit status, before torch.

Real processes, as people run them. What needs a model to be read is told in the same way, only later.
"""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.client.admin import AdminClient
from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE
from deltaserve.offset_models.files.locks import locked
from tests.support.blackbox import blackbox, make_model
from tests.support.command import Command
from tests.support.demo_weights import OFFSET, make_demo_weights
from tests.support.process import free_port, running

NOWHERE = "http://127.0.0.1:9"
# A process in which torch cannot be imported: what it says, it says without having read a model.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from deltaserve.client.cli import main; main()"
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_weights(tmp_path_factory.mktemp("wrong") / "weights")


class Upstream(BaseHTTPRequestHandler):
    """Lists one model, to those who have the key where there is one."""

    key: str | None = None
    cards: Any = [{"id": "tiny", "owned_by": "vllm"}]  # noqa: RUF012

    def do_GET(self) -> None:
        if self.key is not None and self.headers.get("authorization") != f"Bearer {self.key}":
            self._send(401, {"error": "Unauthorized"})
        elif self.path == "/v1/models" and self.cards is not None:
            self._send(200, {"object": "list", "data": self.cards})
        else:
            self._send(404, {"error": {"message": "Not Found"}})

    def _send(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None: ...


@dataclass
class Place:
    """One start: its options and environment, and what must end with the test."""

    weights: Path
    folder: Path
    stack: ExitStack
    options: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    limit: int | None = None  # bytes that a file may have

    def upstream(self, **about: Any) -> str:
        handler = type("Handler", (Upstream,), about)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        self.stack.callback(thread.join)
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def taken_port(self) -> str:
        taken = self.stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        return str(taken.getsockname()[1])

    def own_offset(self) -> Path:
        """A copy of the checkpoint that may be spoilt."""
        root = self.folder / "offsets"
        shutil.copytree(self.weights / OFFSET, root / OFFSET)
        self.options["offsets-root"] = str(root)
        return root / OFFSET

    def manifest(self, **changed: Any) -> None:
        path = self.own_offset() / MANIFEST_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def run(arguments: list[str], place: Place) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DELTASERVE_")}
    with limited(place):  # which the child inherits
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *arguments],
            env=clean | place.environment,
            cwd=place.folder,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )


@contextmanager
def limited(place: Place) -> Iterator[None]:
    """As a full disk: no file may grow beyond the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if place.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (place.limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def given(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


@pytest.fixture
def place(weights: Path, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        made = Place(weights, tmp_path, stack)
        made.options = {"upstream-url": NOWHERE, "offsets-root": str(weights), "offset": OFFSET, "port": "0"}
        yield made


def no_black_box(place: Place) -> None:
    del place.options["upstream-url"]


def no_offset(place: Place) -> None:
    del place.options["offset"]


def nothing_at_all(place: Place) -> None:
    del place.options["offset"], place.options["offsets-root"]


def upstream_without_scheme(place: Place) -> None:
    place.options["upstream-url"] = "127.0.0.1:8001"


def upstream_of_another_scheme(place: Place) -> None:
    place.options["upstream-url"] = "ftp://127.0.0.1"


def upstream_without_models(place: Place) -> None:
    place.options["upstream-url"] = place.upstream(cards=None)


def upstream_without_that_model(place: Place) -> None:
    place.options |= {"upstream-url": place.upstream(), "upstream-model": "other"}


def upstream_that_wants_a_key(place: Place) -> None:
    place.options["upstream-url"] = place.upstream(key="right")


def wrong_key(place: Place) -> None:
    place.options["upstream-url"] = place.upstream(key="right")
    place.environment["DELTASERVE_UPSTREAM_KEY"] = "wrong"


def root_missing(place: Place) -> None:
    place.options["offsets-root"] = str(place.folder / "nowhere")


def root_is_a_file(place: Place) -> None:
    (place.folder / "file").write_text("")
    place.options["offsets-root"] = str(place.folder / "file")


def offset_missing(place: Place) -> None:
    place.options["offset"] = "other"


def offset_missing_without_a_root(place: Place) -> None:
    del place.options["offsets-root"]
    place.options["offset"] = "other"


def offset_is_no_checkpoint(place: Place) -> None:
    place.options["offset"] = "base"


def manifest_broken(place: Place) -> None:
    (place.own_offset() / MANIFEST_FILE).write_text('{"format_version": ')


def manifest_newer(place: Place) -> None:
    place.manifest(format_version="2.0")


def base_not_said(place: Place) -> None:
    path = place.own_offset() / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    del manifest["base"]["path"]
    path.write_text(json.dumps(manifest))


def base_missing(place: Place) -> None:
    base_not_said(place)
    place.options["base"] = str(place.folder / "nowhere")


def base_not_beside(place: Place) -> None:
    place.own_offset()


def weights_truncated(place: Place) -> None:
    file = place.own_offset() / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def port_taken(place: Place) -> None:
    place.options["port"] = place.taken_port()


def port_out_of_range(place: Place) -> None:
    place.options["port"] = "65536"


def admin_port_taken(place: Place) -> None:
    place.options["admin-port"] = place.taken_port()
    place.environment["DELTASERVE_ADMIN_KEY"] = "admin"


def ports_equal(place: Place) -> None:
    place.options |= {"port": "18417", "admin-port": "18417"}
    place.environment["DELTASERVE_ADMIN_KEY"] = "admin"


def host_of_another_machine(place: Place) -> None:
    place.options["host"] = "192.0.2.1"
    place.environment["DELTASERVE_API_KEYS"] = "k"


def host_that_is_no_name(place: Place) -> None:
    place.options["host"] = "no.such.host.invalid"
    place.environment["DELTASERVE_API_KEYS"] = "k"


def open_to_all_without_keys(place: Place) -> None:
    place.options["host"] = "0.0.0.0"


def state_folder_is_a_file(place: Place) -> None:
    (place.folder / "state").write_text("")
    place.options["state-folder"] = str(place.folder / "state")


def state_folder_under_a_file(place: Place) -> None:
    (place.folder / "state").write_text("")
    place.options["state-folder"] = str(place.folder / "state" / "folder")


def state_of_another_server(place: Place) -> None:
    place.stack.enter_context(locked(place.folder / "state"))
    place.options["state-folder"] = str(place.folder / "state")


def state_torn(place: Place) -> None:
    (place.folder / "state").mkdir()
    (place.folder / "state" / "state.json").write_text("{")
    place.options["state-folder"] = str(place.folder / "state")


def full_disk(place: Place) -> None:
    (place.folder / "state").mkdir()
    place.options["state-folder"] = str(place.folder / "state")
    place.limit = 0


def config_missing(place: Place) -> None:
    place.options["config"] = "nowhere.toml"


def config_broken(place: Place) -> None:
    (place.folder / "broken.toml").write_text("port = ")
    place.options["config"] = "broken.toml"


def config_of_unknown_keys(place: Place) -> None:
    (place.folder / "unknown.toml").write_text("prt = 8000")
    place.options["config"] = "unknown.toml"


def environment_of_another_type(place: Place) -> None:
    place.environment["DELTASERVE_MAX_STREAMS"] = "many"


def environment_of_unknown_names(place: Place) -> None:
    place.environment["DELTASERVE_UPSTREM_URL"] = NOWHERE


def a_number_that_is_none(place: Place) -> None:
    place.environment["DELTASERVE_UPSTREAM_PING_S"] = "nan"


WRONG: list[tuple[Callable[[Place], None], Status, str]] = [
    (no_black_box, Status.USAGE, "give --upstream-url"),
    (no_offset, Status.USAGE, "There is no offset to serve: give --offset"),
    (nothing_at_all, Status.USAGE, "No offset is configured: give --offset"),
    (upstream_without_scheme, Status.REFUSED, "must be http(s)://host[:port]"),
    (upstream_of_another_scheme, Status.REFUSED, "must be http(s)://host[:port]"),
    (upstream_without_models, Status.REFUSED, "name the upstream model"),
    (upstream_without_that_model, Status.REFUSED, "no model named other; it has tiny"),
    (upstream_that_wants_a_key, Status.REFUSED, "set the upstream key"),
    (wrong_key, Status.REFUSED, "set the upstream key"),
    (root_missing, Status.REFUSED, "does not exist: set --offsets-root"),
    (root_is_a_file, Status.REFUSED, "is no folder: set --offsets-root"),
    (offset_missing, Status.REFUSED, "other does not exist under the offsets root"),
    (offset_missing_without_a_root, Status.REFUSED, "does not exist: give --offset"),
    (offset_is_no_checkpoint, Status.REFUSED, "`deltaserve offsets pack` makes one"),
    (manifest_broken, Status.REFUSED, "offset.json is not JSON"),
    (manifest_newer, Status.REFUSED, "is of format 2.x; this program reads 1.x"),
    (base_not_said, Status.REFUSED, "give that model's folder with --base"),
    (base_missing, Status.REFUSED, "with --base"),
    (base_not_beside, Status.REFUSED, "holds no model"),
    (weights_truncated, Status.REFUSED, "it may be truncated"),
    (port_taken, Status.FAILED, "is in use: free it, or choose another with --port"),
    (port_out_of_range, Status.USAGE, "port: "),
    (admin_port_taken, Status.FAILED, "is in use: free it, or choose another with --admin-port"),
    (ports_equal, Status.USAGE, "admin_port must be another port than port"),
    (host_of_another_machine, Status.FAILED, "192.0.2.1 is no address of this machine: give one with --host"),
    (host_that_is_no_name, Status.FAILED, "is no address of this machine: give one with --host"),
    (open_to_all_without_keys, Status.USAGE, "set DELTASERVE_API_KEYS"),
    (state_folder_is_a_file, Status.FAILED, "set state_folder to one that can"),
    (state_folder_under_a_file, Status.FAILED, "set state_folder to one that can"),
    (state_of_another_server, Status.FAILED, "give each server its own state_folder"),
    (state_torn, Status.FAILED, "state.json is torn"),
    (full_disk, Status.FAILED, "make room, or set state_folder"),
    (config_missing, Status.USAGE, "nowhere.toml cannot be read as TOML"),
    (config_broken, Status.USAGE, "broken.toml cannot be read as TOML"),
    (config_of_unknown_keys, Status.USAGE, "unknown key in unknown.toml prt: did you mean port?"),
    (environment_of_another_type, Status.USAGE, "max_streams: "),
    (environment_of_unknown_names, Status.USAGE, "did you mean DELTASERVE_UPSTREAM_URL?"),
    (a_number_that_is_none, Status.USAGE, "upstream_ping_s: "),
]
CASES = [pytest.param(*case, id=case[0].__name__) for case in WRONG]


@pytest.mark.parametrize(("spoil", "status", "sentence"), CASES)
def test_serve_ends_with_one_sentence_and_doctor_says_the_same(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    place: Place,
    spoil: Callable[[Place], None],
    status: Status,
    sentence: str,
) -> None:
    spoil(place)
    monkeypatch.setenv("DELTASERVE_CONFIG", "")  # which --config sets for the process: taken back with the test
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    with limited(place):
        doctor = command("doctor", *given(place.options), "--torch-threads", "1")
    serve = run(["serve", *given(place.options)], place)
    assert serve.returncode == status, serve.stderr
    assert sentence in serve.stderr and len(serve.stderr.splitlines()) == 1, serve.stderr
    assert serve.stdout == ""
    problem = serve.stderr.strip()
    said = [line for line in doctor.stderr.splitlines() if line.endswith(problem)]
    assert len(said) == 1 and (said[0] == problem or said[0].startswith("Problem: ")), doctor.stderr
    assert "Traceback" not in doctor.stderr + doctor.stdout
    assert doctor.exit_code >= status, doctor.stderr


def blackbox_folder_missing(place: Place) -> None:
    place.options = {"model": str(place.folder / "nowhere"), "port": "0"}


def blackbox_without_a_model(place: Place) -> None:
    place.options = {"model": str(place.weights / OFFSET), "port": "0"}


def blackbox_port_taken(place: Place) -> None:
    place.options = {"model": str(place.weights / "blackbox"), "port": place.taken_port()}


def blackbox_port_out_of_range(place: Place) -> None:
    place.options = {"model": str(place.weights / "blackbox"), "port": "70000"}


def blackbox_host_of_another_machine(place: Place) -> None:
    place.options = {"model": str(place.weights / "blackbox"), "host": "192.0.2.1"}


def demo_of_equal_ports(place: Place) -> None:
    place.options = {"weights": str(place.weights), "port": "18417", "black-box-port": "18417"}


def demo_port_taken(place: Place) -> None:
    place.options = {"weights": str(place.weights), "port": place.taken_port()}


def demo_black_box_port_taken(place: Place) -> None:
    place.options = {"weights": str(place.weights), "port": str(free_port()), "black-box-port": place.taken_port()}


def demo_weights_missing(place: Place) -> None:
    place.options = {"weights": str(place.folder / "nowhere"), "port": str(free_port())}
    place.options |= {"black-box-port": str(free_port())}


OTHERS: list[tuple[str, Callable[[Place], None], Status, str]] = [
    ("blackbox", blackbox_folder_missing, Status.REFUSED, "give a folder with config.json and safetensors, --model"),
    ("blackbox", blackbox_without_a_model, Status.REFUSED, "give a folder with config.json and safetensors, --model"),
    ("blackbox", blackbox_port_taken, Status.FAILED, "is in use: free it, or choose another with --port"),
    ("blackbox", blackbox_port_out_of_range, Status.USAGE, "port must be a number from 0"),
    ("blackbox", blackbox_host_of_another_machine, Status.FAILED, "give one with --host"),
    ("demo", demo_of_equal_ports, Status.USAGE, "the server and the black box need one each"),
    ("demo", demo_port_taken, Status.FAILED, "is in use: free it, or choose another with --port"),
    ("demo", demo_black_box_port_taken, Status.FAILED, "choose another with --black-box-port"),
    ("demo", demo_weights_missing, Status.FAILED, "`deltaserve demo --build` makes them again"),
]


@pytest.mark.parametrize(
    ("command_name", "spoil", "status", "sentence"), [pytest.param(*case, id=case[1].__name__) for case in OTHERS]
)
def test_blackbox_and_demo_end_with_one_sentence(
    place: Place, command_name: str, spoil: Callable[[Place], None], status: Status, sentence: str
) -> None:
    spoil(place)
    ended = run([command_name, *given(place.options)], place)
    assert ended.returncode == status, ended.stderr
    assert sentence in ended.stderr and len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stdout == ""


def test_a_server_with_an_admin_key_and_no_offset_waits_for_a_load_and_says_so(place: Place, blackbox_url: str) -> None:
    place.options |= {"upstream-url": blackbox_url, "port": str(free_port()), "torch-threads": "1"}
    place.options |= {"max-context": "128", "connect-timeout-s": "0.2", "state-folder": str(place.folder / "state")}
    del place.options["offset"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DELTASERVE_")}
    environment["DELTASERVE_ADMIN_KEY"] = "admin"
    command = (sys.executable, "-m", "deltaserve", "serve", *given(place.options))
    url = f"http://127.0.0.1:{place.options['port']}"
    with running(*command, env=environment) as process, AdminClient(url, api_key="admin") as client:
        with httpx.Client(base_url=url) as plain:
            process.wait_until_ok(plain, "/health/live", WITHIN_S)
            client.load("loaded", OFFSET, activate=True)
            process.wait_until_ok(plain, "/health/ready", WITHIN_S)
        waiting = [line for line in process.lines if "No offset is active" in line]
    assert len(waiting) == 1 and "deltaserve offsets load NAME PATH --activate" in waiting[0]


@pytest.fixture
def blackbox_url(weights: Path) -> Iterator[str]:
    with blackbox(weights / "blackbox") as process:
        yield process.url


def test_what_only_a_model_shows_is_one_sentence_too(place: Place, tmp_path: Path) -> None:
    """Another tokenizer at the black box, found when the pair has been read."""
    other = make_model(tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = "a", "b"
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with blackbox(other) as process:
        place.options |= {"upstream-url": process.url, "torch-threads": "1", "max-context": "128"}
        command = [sys.executable, "-m", "deltaserve", "serve", *given(place.options)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    told = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert ended.returncode == Status.REFUSED, ended.stderr
    assert len(told) == 1 and "tokenizer" in told[0], ended.stderr
    assert "Traceback" not in ended.stderr

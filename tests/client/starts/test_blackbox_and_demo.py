"""`deltaserve blackbox` and `deltaserve demo` that cannot start: one sentence and a documented exit status."""

from collections.abc import Callable

import pytest

from deltaserve.client.console.terminal import Status
from tests.support.demo_weights import OFFSET
from tests.support.process import free_port
from tests.support.starts import Place, given, run


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

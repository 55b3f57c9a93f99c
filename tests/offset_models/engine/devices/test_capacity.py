"""How many streams there are where nobody says: a bound, or fewer where the memory does not hold them."""

import json

import pytest

from deltaserve.errors import BadRequest
from deltaserve.offset_models.engine.devices import capacity as module
from deltaserve.offset_models.engine.devices.capacity import MOST, PER_CORE, capacity, size_of
from deltaserve.offset_models.engine.devices.finding import found_device
from deltaserve.offset_models.engine.devices.free import _free_in_group, _free_in_machine, cores

GB = 10**9
HALF_BILLION = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "dtype": "bfloat16",
}  # fmt: skip
POSITION = 24 * 2 * 2 * 64  # numbers


@pytest.fixture
def base(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(HALF_BILLION))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(GB)
    return tmp_path


@pytest.fixture
def memory(monkeypatch):
    """Says how much is free, how many cores there are, and whether a GPU reads pages."""

    def have(free, cores=2, pages=True):
        monkeypatch.setattr(module, "free_bytes", lambda _: free)
        monkeypatch.setattr(module, "cores", lambda: cores)
        monkeypatch.setattr(module, "runs_over_pages", lambda device: pages and device.type == "cuda")

    return have


def test_a_model_takes_what_its_files_and_its_layers_say(base):
    assert size_of(base, "cpu", None) == module.ModelSize(GB, 2 * POSITION, reserved=False)
    assert size_of(base, "cpu", "float32") == module.ModelSize(2 * GB, 4 * POSITION, reserved=False)


def test_cores_decide_where_memory_is_plenty(base, memory):
    memory(64 * GB, cores=3)
    found = capacity([base], device="cpu", dtype="float32", max_len=4096)
    assert (found.streams, found.why) == (3 * PER_CORE, f"{PER_CORE} for each of 3 cores")


def test_a_large_gpu_serves_as_many_as_one_batch_is_made_for(base, memory):
    memory(79 * GB)
    assert capacity([base], device="cuda", dtype=None, max_len=4096).streams == MOST


def test_a_small_gpu_serves_what_its_memory_holds_after_the_weights(base, memory):
    memory(6 * GB)
    found = capacity([base], device="cuda", dtype=None, max_len=4096)
    each = 2 * 2 * POSITION * module.EXPECTED_TOKENS  # both members of the pair, two bytes each
    assert found.streams == int((0.8 * 6 * GB - GB) // each) < MOST
    assert "6 GB free" in found.why


def test_a_short_context_makes_room_for_more(base, memory):
    memory(6 * GB)
    few, many = (capacity([base], device="cuda", dtype=None, max_len=n).streams for n in (1024, 512))
    assert few < many <= MOST


def test_without_pages_every_stream_reserves_its_longest_context(base, memory):
    memory(6 * GB, pages=False)
    found = capacity([base], device="cuda", dtype=None, max_len=8192)
    assert found.streams == int((0.8 * 6 * GB - GB) // (2 * 2 * POSITION * 8192))


def test_two_whole_models_hold_one_set_of_keys_and_values_each(base, memory):
    memory(6 * GB)
    found = capacity([base, base], device="cuda", dtype=None, max_len=4096)
    assert found.streams == int((0.8 * 6 * GB - 2 * GB) // (2 * 2 * POSITION * module.EXPECTED_TOKENS))


def test_too_little_memory_still_gives_one_stream_a_try(base, memory):
    memory(GB // 2)
    assert capacity([base], device="cuda", dtype=None, max_len=4096).streams == 1


@pytest.mark.parametrize("config", ["{", "{}", '{"dtype": "bfloat16", "num_hidden_layers": 2}'])
def test_of_a_model_that_does_not_tell_its_size_the_bound_is_taken(tmp_path, memory, config):
    (tmp_path / "config.json").write_text(config)
    memory(GB)
    assert capacity([tmp_path], device="cuda", dtype=None, max_len=4096).streams == MOST
    assert capacity([tmp_path / "missing"], device="cuda", dtype=None, max_len=4096).streams == MOST


def test_before_any_offset_is_known_the_bound_is_taken(memory):
    memory(GB)
    assert capacity([], device="cpu", dtype=None, max_len=4096).streams == 2 * PER_CORE


def test_free_memory_is_what_the_machine_and_its_container_leave(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    assert _free_in_machine(tmp_path / "meminfo") == 50 * 1024
    assert _free_in_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 50\n")
    assert _free_in_group(tmp_path) == 750
    (tmp_path / "memory.max").write_text("max\n")
    assert _free_in_group(tmp_path) is None


def test_cores_are_those_that_the_process_may_use():
    assert cores() >= 1


def test_auto_is_the_gpu_where_torch_finds_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert found_device("auto") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.empty", lambda *_, **__: None)
    assert found_device("auto") == "cuda"


def test_a_device_that_is_not_there_is_told_with_what_can_be_named():
    assert found_device("cpu") == "cpu"
    with pytest.raises(BadRequest, match="no device 'abacus' here: name cpu, cuda, or auto"):
        found_device("abacus")

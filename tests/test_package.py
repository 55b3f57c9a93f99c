"""What an installation looks like from outside."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import deltaserve

ROOT = Path(__file__).parents[1]
ROOMS = ("server", "offset_models", "client")


@pytest.mark.parametrize("name", deltaserve.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(deltaserve, name).__name__ == name


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        deltaserve.Klient  # noqa: B018


def test_importing_the_package_alone_imports_no_room() -> None:
    code = "import sys, deltaserve; sys.exit(any(name.startswith('deltaserve.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip install .` would install."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("deltaserve", *ROOMS):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out]
    subprocess.run([*build, source], check=True)
    return next(out.glob("*.whl"))


def test_the_only_name_that_an_installation_adds_is_deltaserve(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {"deltaserve"}


def test_every_file_of_the_three_rooms_is_in_the_wheel(wheel: Path) -> None:
    files = (file for room in ROOMS for file in (ROOT / room).rglob("*") if "__pycache__" not in file.parts)
    listed = {f"deltaserve/{file.relative_to(ROOT).as_posix()}" for file in files if file.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        assert listed <= set(archive.namelist())


def test_an_installed_wheel_runs_away_from_its_source(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel]
    subprocess.run(install, check=True)
    command = [sys.executable, "-c", "import deltaserve.server.app as app; print(app.__file__)"]
    path = {"PYTHONPATH": str(place), "PATH": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=path)
    assert Path(done.stdout.strip()).is_relative_to(place)

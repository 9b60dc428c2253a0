"""Every target that ships can be written and read back."""

from pathlib import Path

import pytest

from gcompile.errors import UsageError
from gcompile.targets import detect_host, list_targets, load_target, write_target

_NAMES = [n for n in list_targets() if n != "cpu" and load_target(n).kind != "accelerator"]


@pytest.mark.parametrize("name", _NAMES)
def test_a_target_survives_its_file_with_its_sources(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    write_target(target, tmp_path / "again.toml")
    again = load_target(tmp_path / "again.toml")
    assert again == target
    assert {key: again.sources[key] for key in target.sources} == target.sources


def test_the_machine_at_hand_can_be_written(tmp_path: Path) -> None:
    target = detect_host()
    write_target(target, tmp_path / "host.toml")
    assert load_target(tmp_path / "host.toml").units == target.units


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_target(load_target("generic-arm64"), tmp_path / "none" / "x.toml")

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.errors import UsageError
from gcompile.report import BuildConfig, write_config

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(derandomize=True)
@given(
    st.builds(
        BuildConfig,
        model=st.just("m.onnx"),
        budget=st.none() | _TEXT,
        metric=_TEXT,
        shapes=st.dictionaries(_TEXT, st.lists(st.integers(1, 9), max_size=3), max_size=3),
        threads=st.integers(1, 8),
        plugins=st.lists(_TEXT, max_size=2),
        strict=st.booleans(),
    )
)
def test_a_written_configuration_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, config: BuildConfig
) -> None:
    folder = tmp_path_factory.mktemp("config")
    write_config(config, folder)
    values = BuildConfig.read(folder / "config.resolved.toml")
    assert values.pop("model") == str(folder / "m.onnx")
    assert BuildConfig.model_validate({"model": "m.onnx", **values}) == config


def test_paths_count_from_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    config = BuildConfig(model="data/m.onnx", calib="c.npz", output="out", target="board.toml")
    moved = config.relative_to(Path("out"))
    assert (moved.model, moved.calib, moved.output) == ("../data/m.onnx", "../c.npz", ".")
    assert moved.target == "../board.toml"
    write_config(moved, tmp_path / "out")
    monkeypatch.chdir("/")
    values = BuildConfig.read(tmp_path / "out" / "config.resolved.toml")
    assert Path(str(values["model"])).resolve() == (tmp_path / "data" / "m.onnx").resolve()


def test_a_factory_is_no_path() -> None:
    config = BuildConfig(model="my.module:factory", input_shapes=["1,3:int64"])
    assert config.relative_to(Path("/elsewhere")).model == "my.module:factory"
    assert 'input_shapes = ["1,3:int64"]' in config.to_toml()


def test_only_what_the_file_sets_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('target = "cpu"\n[shapes]\nx = [1, 3]\n', encoding="utf-8")
    assert BuildConfig.read(tmp_path / "c.toml") == {"target": "cpu", "shapes": {"x": [1, 3]}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('tarket = "cpu"', "Unknown key 'tarket'"),
        ('threads = "two"', "'threads' in configuration"),
        ("threads = ", "not valid TOML"),
        ("[shapes]\nx = 3", "shapes.x"),
    ],
)
def test_a_wrong_configuration_is_a_usage_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=reason):
        BuildConfig.read(tmp_path / "c.toml")


def test_a_missing_configuration_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        BuildConfig.read(tmp_path / "none.toml")

"""Libraries for another architecture need nothing but a linker that writes its format."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcompile import runtime
from gcompile.backends.tvm import link
from gcompile.backends.tvm.build import generate
from gcompile.backends.tvm.link import cross_linker
from gcompile.backends.write_artifact import write_artifact
from gcompile.compiler import compile as compile_model
from gcompile.energy import Roofline
from gcompile.errors import CompileError
from gcompile.passes import PassContext
from gcompile.passes.pipelines import exact_pipeline
from gcompile.targets import load_target
from tests.compiler.task import task

ARM = "linux-aarch64"
_ELF_MACHINE_ARM = (183).to_bytes(2, "little")


def _installs(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name if name in names else None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("aarch64-linux-gnu-ld", "aarch64-linux-gnu-ld -shared"),
        ("ld.lld", "ld.lld -shared"),
        ("zig", "zig cc -target aarch64-linux-gnu -shared"),
        ("clang", "clang --target=aarch64-linux-gnu -fuse-ld=lld -shared"),
    ],
)
def test_the_linker_that_is_installed_is_used(
    monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    _installs(monkeypatch, name)
    assert " ".join(cross_linker(ARM)).startswith(command)


def test_without_a_linker_a_build_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _installs(monkeypatch)
    with pytest.raises(CompileError, match="pip install ziglang"):
        compile_model(task().model, "raspberry-pi-5", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_linker_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(link, "cross_linker", lambda platform: ("false",))
    with pytest.raises(CompileError, match="false could not link for linux-aarch64"):
        _write("raspberry-pi-5", tmp_path)


def test_every_object_is_for_the_other_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "linker"
    script.write_text(f'#!/bin/sh\nshift\nout=$1\nshift\ncp "$@" {tmp_path}\n: > "$out"\n')
    script.chmod(0o755)
    monkeypatch.setattr(link, "cross_linker", lambda platform: (str(script),))
    (tmp_path / "out").mkdir()
    _write("raspberry-pi-5", tmp_path / "out")
    objects = list(tmp_path.glob("*.o"))
    assert objects
    assert all(path.read_bytes()[18:20] == _ELF_MACHINE_ARM for path in objects)
    (variant,) = runtime.Manifest.read(tmp_path / "out").variants
    assert variant.platform == ARM
    assert variant.isa_required == ("asimd", "asimddp", "asimdhp")


def test_a_library_for_the_other_machine_is_linked(tmp_path: Path) -> None:
    try:
        cross_linker(ARM)
    except CompileError as error:
        pytest.skip(str(error))
    report = compile_model(task().model, "aws-graviton3", output=tmp_path / "out").report
    assert (tmp_path / "out" / "model.so").read_bytes()[18:20] == _ELF_MACHINE_ARM
    assert report.verify.code_ran == "no"
    assert report.verify.reason is not None
    assert "compiled for linux-aarch64" in report.verify.reason


def _write(target: str, folder: Path) -> None:
    device, model = load_target(target), task().model.clone()
    exact_pipeline().apply(model, PassContext(target=device, energy=Roofline()))
    code = generate(model, device, 1)
    write_artifact({target: code}, folder, model_name="task", with_model=False)

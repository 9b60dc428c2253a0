"""The variants of an artefact: what each is called, and its target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gcompile.compiler.job import Progress
from gcompile.errors import UsageError
from gcompile.report import target_names
from gcompile.targets import Target


def named_targets(
    target: Target | str | Sequence[Target | str], progress: Progress | None
) -> Iterator[tuple[str, Target | str, Progress | None]]:
    """The name of each variant, its target, and who is told of progress with it.

    Raises:
        UsageError: There is no target, or two would have the same name.
    """
    if isinstance(target, str):
        targets: Sequence[Target | str] = target_names(target)
    else:
        targets = [target] if isinstance(target, Target) else target
    if not all(isinstance(t, (str, Target)) for t in targets):
        raise UsageError(
            "The second argument is the target, by name or as a `Target`. Give the inputs of a "
            "PyTorch module by name: example_inputs=(tensor,)."
        )
    names = [
        t.name if isinstance(t, Target) else Path(t).name.removesuffix(".toml") for t in targets
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        problem = f"Target {twice[0]!r} is named twice" if twice else "No target is named"
        raise UsageError(f"{problem}. Name every target of an artefact once.")
    for name, device in zip(names, targets, strict=True):
        yield name, device, prefixed(name, progress) if len(names) > 1 else progress


def prefixed(name: str, progress: Progress | None) -> Progress | None:
    """Who is told of progress, with the name of the variant or entry point before it."""
    if progress is None:
        return None
    tell = progress
    return lambda what, fraction: tell(f"{name}: {what}", fraction)

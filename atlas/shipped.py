"""Files that ship with Atlas: beside the package in a clone, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from atlas.errors import StackError


def folder(name: str) -> Path:
    """migrations/, seed/ or examples/. Raises StackError where it is missing."""
    package = Path(__file__).parent
    for candidate in (package.parent / name, package / f"_{name}"):
        if candidate.is_dir():
            return candidate
    raise StackError(f"the folder {name}/ is not there", "install Atlas again")

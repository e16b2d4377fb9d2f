"""Files that ship with Atlas: inside the package in a wheel, beside it in a clone."""

from __future__ import annotations

from pathlib import Path

from atlas.errors import StackError


def folder(name: str) -> Path:
    """migrations/, seed/ or examples/. Raises StackError where it is missing."""
    package = Path(__file__).parent
    # inside first: beside an installed package lie those of others, and some install an examples/ of their own
    for candidate in (package / f"_{name}", package.parent / name):
        if candidate.is_dir():
            return candidate
    raise StackError(f"the folder {name}/ is not there", "install Atlas again")

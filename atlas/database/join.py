"""Joins a team's Supabase project: puts Atlas's migrations and seed beside theirs, and says what their config.toml needs."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import UsageError
from atlas.shipped import folder

SEED = "seeds/atlas_models.sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What was done. Paths are relative to the project. kept: seeds that the team has changed; out_of_order: one of their
    migrations is later than one of ours."""

    copied: list[str]
    unchanged: list[str]
    kept: list[str]
    out_of_order: bool


def copy(project: Path) -> Joined:
    """Copies what is not there yet. Raises UsageError, and changes nothing, where one of theirs stands in the way."""
    supabase = project / "supabase"
    if not (supabase / "config.toml").is_file():
        raise UsageError(f"{supabase / 'config.toml'} is not there", "run `supabase init` first, or name the project's folder")
    target = supabase / "migrations"
    theirs = {path.name.split("_")[0]: path for path in target.glob("*.sql")} if target.is_dir() else {}
    wanted = {path: target / path.name for path in sorted(folder("migrations").glob("*.sql"))}
    for source, place in wanted.items():
        other = theirs.pop(source.name.split("_")[0], None)
        if other is not None and (other.name != place.name or other.read_bytes() != source.read_bytes()):
            raise UsageError(f"{other} has the version of Atlas's {source.name}, and is another", "give yours another version")
    (seed,) = folder("seed").glob("models.sql")
    wanted[seed] = supabase / SEED
    copied, unchanged, kept = [], [], []
    for source, place in wanted.items():
        name = str(place.relative_to(project))
        if place.exists() and place.read_bytes() == source.read_bytes():
            unchanged.append(name)
            continue
        if place.exists():
            kept.append(name)  # a seed: prices of their own
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        copied.append(name)
    first = min(path.name for path in folder("migrations").glob("*.sql"))
    return Joined(
        copied=copied, unchanged=unchanged, kept=kept, out_of_order=any(path.name > first for path in theirs.values())
    )


def config_changes(project: Path) -> list[str]:
    """What their config.toml lacks, as lines to write there."""
    path = project / "supabase" / "config.toml"
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML ({error})", "fix it first") from error
    tables: dict[str, list[str]] = {}

    def want(table: str, line: str) -> None:
        tables.setdefault(table, []).append(line)

    api = found.get("api", {})
    schemas = api.get("schemas", ["public", "graphql_public"])
    if "atlas" not in schemas:
        want("api", f"schemas = {_toml([*schemas, 'atlas'])}  # people read their tasks over REST")
    if api.get("auto_expose_new_tables", True):
        want(
            "api", "auto_expose_new_tables = false  # Atlas grants each right by name; tables of yours then need grants as well"
        )
    seeds = found.get("db", {}).get("seed", {}).get("sql_paths", ["./seed.sql"])
    if not any("atlas_models" in one or one.startswith("./seeds/*") for one in seeds):
        want("db.seed", f"sql_paths = {_toml([*seeds, './' + SEED])}  # models and their prices")
    if found.get("realtime", {}).get("enabled", True) is False:
        want("realtime", "enabled = true  # wakes workers, streams replies")
    return ["\n".join([f"[{table}]", *lines]) for table, lines in tables.items()]


def _toml(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"

"""The environment's variables as settings: which there are, what each may hold, and where a secret's file is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from atlas.errors import SettingsError
from atlas.settings import SECRETS, Settings
from atlas.webhooks import read_secrets

_COLLECTED = "webhook_secrets"
"""A field that many variables fill."""
_WEBHOOK_NAME = r"ATLAS_WEBHOOK_SECRET(_[A-Z0-9_]+)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """One line of `.env.example`."""

    name: str
    default: str
    description: str
    secret: bool = field(default=False)


def secret_in_file(name: str) -> str | None:
    """Of the variable that names a secret's file, the secret's own; None for any other variable."""
    plain = name.removesuffix("_FILE")
    if plain == name or not (plain.lower() in SECRETS or re.fullmatch(_WEBHOOK_NAME, plain)):
        return None
    return plain


def is_setting(name: str) -> bool:
    """Whether a variable is one that Atlas reads."""
    field = (secret_in_file(name) or name).lower()
    return (field in Settings.model_fields and field != _COLLECTED) or re.fullmatch(_WEBHOOK_NAME, field.upper()) is not None


def describe() -> list[SettingRow]:
    """Every setting with its default, in the order of the class."""
    rows = []
    for name, info in Settings.model_fields.items():
        if name == _COLLECTED:
            continue
        default = info.default
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        rows.append(SettingRow(name=name.upper(), default=shown, description=info.description or "", secret=name in SECRETS))
    return rows


def _read(environment: Mapping[str, str], key: str, *, secret: bool) -> str | None:
    """The value of a variable, from the file that KEY_FILE names where it is a secret. Raises ValueError."""
    value = environment.get(key) or None
    path = environment.get(f"{key}_FILE") or None
    if not (path and secret):
        return value
    if value is not None:
        raise ValueError(f"{key} and {key}_FILE are both set: unset one")
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{key}_FILE={path} cannot be read ({error.__class__.__name__}): name a readable file") from None
    if not value:
        raise ValueError(f"{key}_FILE={path} is empty: write the secret into it")
    return value


def _webhook_secrets(environment: Mapping[str, str], problems: list[str]) -> dict[str, SecretStr]:
    found = {}
    named = re.compile(_WEBHOOK_NAME)
    for key in sorted({name.removesuffix("_FILE") for name in environment if named.fullmatch(name)}):
        try:
            value = _read(environment, key, secret=True)
            if value is not None:
                read_secrets(value)
                found[key] = SecretStr(value)
        except ValueError as error:
            problem = str(error)
            # the plain one is said once, where its field is checked
            if key != "ATLAS_WEBHOOK_SECRET":
                problems.append(problem if problem.startswith(key) else f"{key}: {problem}")
    return found


def load(environment: Mapping[str, str]) -> Settings:
    """Reads the settings; raises SettingsError that lists every problem. Empty values count as not set."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name in Settings.model_fields:
        if name == _COLLECTED:
            continue
        try:
            value = _read(environment, name.upper(), secret=name in SECRETS)
        except ValueError as error:
            problems.append(str(error))
            continue
        if value is not None:
            values[name] = value
    values[_COLLECTED] = _webhook_secrets(environment, problems)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            name = str(item["loc"][0]) if item["loc"] else "settings"
            shown = "" if name in SECRETS else f"={values.get(name)}"
            problems.append(f"{name.upper()}{shown}: {item['msg'].removeprefix('Value error, ')}")
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    return settings

"""Where settings come from: the environment, then `.env` of the working folder, then the keys that `atlas keys set` stored."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from atlas.errors import SettingsError
from atlas.settings import Settings
from atlas.variables import is_setting, secret_in_file

STORED = {"openai": "OPENAI_API_KEY", "openai-admin": "OPENAI_ADMIN_KEY", "rag-embed": "RAG_EMBED_API_KEY"}
"""What `atlas keys set` may store, and the variable that it stands for."""


SENT_TO = {
    "OPENAI_BASE_URL": ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"),
    "RAG_EMBED_URL": ("RAG_EMBED_API_KEY",),
    "RAG_RERANK_URL": ("RAG_RERANK_API_KEY",),
    "RAG_URL": ("RAG_API_KEY",),
    "SUPABASE_URL": ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_JWT_SECRET"),
}
"""Which keys are sent where."""


def config_dir(environment: Mapping[str, str]) -> Path:
    """Where logins and keys of this user are kept: ATLAS_CONFIG_DIR, else the folder of this system for such."""
    named = environment.get("ATLAS_CONFIG_DIR")
    return Path(named) if named else platformdirs.user_config_path("atlas-architect", appauthor=False)


def key_file(folder: Path, name: str) -> Path:
    """Where a key is stored; name is one of STORED."""
    return folder / f"{name}.key"


def store_key(folder: Path, name: str, key: str) -> Path:
    """Stores a key for this user alone; whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = key_file(folder, name)
    fresh = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(key + "\n")
    fresh.replace(path)
    return path


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """base with what else is set. ATLAS_ENV_FILE names another file than `.env`; empty, none. Raises SettingsError."""
    found = dict(base)
    file = _env_file(base)
    for more in (file, _stored(config_dir(base))):
        for name, value in more.items():
            # a variable and its file are one setting
            plain = secret_in_file(name) or name
            if not any(found.get(one) for one in (plain, f"{plain}_FILE")):
                found[name] = value
    _refuse_redirects(base, found, file)
    return found


def _refuse_redirects(base: Mapping[str, str], found: Mapping[str, str], file: Mapping[str, str]) -> None:
    """A `.env` that came with somebody's repository must not send a key of this user elsewhere: who names the server there
    names its key there too, and not a file of this user's. Raises SettingsError."""
    problems = []
    for url, keys in SENT_TO.items():
        if not file.get(url) or base.get(url) or file[url] == Settings.model_fields[url.lower()].default:
            continue
        for key in keys:
            given = next((name for name in (key, f"{key}_FILE") if found.get(name)), None)
            if given is not None and (given != key or found[given] != file.get(given)):
                problems.append(
                    f"{url} is set in .env, and {key} elsewhere: it is not sent there; set {url} in the environment too"
                )
                break
    if problems:
        raise SettingsError(problems)


def origin(base: Mapping[str, str], name: str) -> str | None:
    """Where a setting comes from, for people; None where it is not set."""
    if base.get(name) or base.get(f"{name}_FILE"):
        return "the environment"
    more = _env_file(base)
    if more.get(name) or more.get(f"{name}_FILE"):
        return str(Path(base.get("ATLAS_ENV_FILE", ".env")).absolute())
    stored = next((short for short, long in STORED.items() if long == name), None)
    path = key_file(config_dir(base), stored) if stored else None
    return str(path) if path is not None and path.exists() else None


def digests(found: Mapping[str, str], secret: str) -> dict[str, str]:
    """What settings a process is started with, without telling their values: a keyed hash of each."""

    def digest(name: str, value: str) -> str:
        if secret_in_file(name):
            try:
                value = Path(value).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                value = ""
        return hmac.new(secret.encode(), value.encode(), hashlib.sha256).hexdigest()[:16]

    return {name: digest(name, value) for name, value in sorted(found.items()) if value and is_setting(name)}


def _env_file(base: Mapping[str, str]) -> dict[str, str]:
    """The settings of `.env`; what is not Atlas's is left alone."""
    name = base.get("ATLAS_ENV_FILE", ".env")
    path = Path(name) if name else None
    if path is None or not path.is_file():
        if path is not None and "ATLAS_ENV_FILE" in base:
            raise SettingsError([f"ATLAS_ENV_FILE={path} is not there: name a file, or leave it empty"])
        return {}
    from dotenv import dotenv_values  # imported here: most folders have none

    try:
        found = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            [f"{path.absolute()} cannot be read ({type(error).__name__}): ATLAS_ENV_FILE= leaves it out"]
        ) from None
    return {name: value for name, value in found.items() if value and is_setting(name)}


def _stored(folder: Path) -> dict[str, str]:
    return {f"{long}_FILE": str(path) for short, long in STORED.items() if (path := key_file(folder, short)).exists()}

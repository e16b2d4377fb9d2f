"""A person's login, kept between commands: a file that only they may read, one session a Supabase project."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from supabase_auth import AsyncSupportedStorage

from atlas.environment import config_dir


class SessionFile(AsyncSupportedStorage):
    """The session of one project, in the user's configuration folder (ATLAS_CONFIG_DIR where it is set)."""

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self.folder = folder or config_dir(os.environ)
        host = urlsplit(url).netloc.replace(":", "_")
        self.path = self.folder / f"session-{host}.json"

    def _read(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
        return {}

    def _write(self, found: dict[str, str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_suffix(f".{os.getpid()}")
        # never readable by others, not even for a moment; and whole, or not there
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(found, file)
        fresh.replace(self.path)

    async def get_item(self, key: str) -> str | None:
        return self._read().get(key)

    async def set_item(self, key: str, value: str) -> None:
        self._write(self._read() | {key: value})

    async def remove_item(self, key: str) -> None:
        found = self._read()
        found.pop(key, None)
        if found:
            self._write(found)
        else:
            self.path.unlink(missing_ok=True)

"""Logging: lines for people, or JSON for collectors.

Secrets are never logged; texts of tasks only where ATLAS_LOG_PROMPTS asks for them.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from atlas.text import visible

_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("atlas_log_about", default={})  # noqa: B039  nobody changes it

PROMPTS = logging.getLogger("atlas.prompts")
"""What is sent to models, at DEBUG; on where it is asked for."""


@contextmanager
def about(**ids: object) -> Iterator[None]:
    """What is logged inside is about these: each line has them."""
    token = _ABOUT.set({**_ABOUT.get(), **{name: str(one) for name, one in ids.items()}})
    try:
        yield
    finally:
        _ABOUT.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, task_id and attempt_id of what it is about, error."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ABOUT.get(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return visible(json.dumps(entry, ensure_ascii=False))


class ConsoleFormatter(logging.Formatter):
    """A line for people. What a provider or a sender wrote cannot act on their terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        line = super().formatMessage(record)
        ids = " ".join(f"{name}={one}" for name, one in _ABOUT.get().items() if one not in line)
        return f"{line} [{ids}]" if ids else line

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def set_up(style: str, level: int = logging.INFO, *, prompts: bool = False) -> None:
    """Logs to stderr in the given style: console or json. prompts: also what is sent to models."""
    PROMPTS.setLevel(logging.DEBUG if prompts else logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if style == "json" else ConsoleFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)

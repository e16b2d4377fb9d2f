"""Logging: lines for people, or JSON for collectors. Secrets and texts of tasks are never logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from atlas.text import visible


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return visible(json.dumps(entry, ensure_ascii=False))


class ConsoleFormatter(logging.Formatter):
    """A line for people. What a provider or a sender wrote cannot act on their terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def set_up(style: str, level: int = logging.INFO) -> None:
    """Logs to stderr in the given style: console or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if style == "json" else ConsoleFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)

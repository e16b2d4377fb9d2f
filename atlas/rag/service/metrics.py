"""What the RAG service and the embed-worker measure."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest


class RagMetrics:
    """A registry of its own, so that two services in one process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.calls = Counter(
            "atlas_rag_calls_total", "Calls by route and status.", ["route", "status"], registry=self._registry
        )
        self.searches = Histogram(
            "atlas_rag_search_seconds", "Seconds of a search, the embedding of its question included.", registry=self._registry,
            buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )  # fmt: skip
        self.warnings = Counter(
            "atlas_rag_warnings_total", "Searches that had to do without a part: embedder, reranker, threshold.",
            registry=self._registry,
        )  # fmt: skip
        self.jobs = Counter("atlas_rag_jobs_total", "Jobs by what became of them.", ["state"], registry=self._registry)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)

"""What the RAG service and the embed-worker measure."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from atlas.metrics.process import ProcessMetrics


class RagMetrics:
    """A registry of its own, so that two services in one process do not meet."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.process = ProcessMetrics(registry, "rag")
        self.calls = Counter("atlas_rag_calls", "Calls by route and status", ["route", "status"], registry=registry)
        self.searches = Histogram(
            "atlas_rag_search_seconds", "Seconds of a search, the embedding of its question included", registry=registry,
            buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )  # fmt: skip
        self.warnings = Counter(
            "atlas_rag_warnings", "Searches that had to do without a part: embedder, reranker, threshold", registry=registry
        )
        self.jobs = Counter("atlas_rag_jobs", "Jobs by outcome (state)", ["state"], registry=registry)

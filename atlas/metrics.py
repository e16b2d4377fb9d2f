"""Prometheus metrics of a worker, in a registry of its own. Names are a contract with dashboards and alerts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from atlas.task import JsonObject, Usage

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)


class Metrics:
    """All metrics. Labels are few and bounded: models, kinds, results; never ids."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.tokens = Counter(
            "atlas_tokens", "Tokens settled, by model and kind (input, cached, output, reasoning, unknown)",
            ["model", "kind"], registry=registry,
        )  # fmt: skip
        self.housekeeping_errors = Counter(
            "atlas_housekeeping_errors", "Failed rounds of release, metrics and seal", registry=registry
        )
        self.run_seconds = Histogram(
            "atlas_run_seconds", "Seconds from claim to the end of an attempt, by result", ["result"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.first_token = Histogram(
            "atlas_first_token_seconds", "Seconds from claim to the first text", buckets=_SECONDS, registry=registry
        )
        self.pick_up = Histogram(
            "atlas_pick_up_seconds", "Seconds from the insert to the claim of a task's first attempt",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30, 120), registry=registry,
        )  # fmt: skip
        self.claims = Counter(
            "atlas_claims", "Claims made, by what they brought: tasks, or empty; spared: a look found nothing, none was made",
            ["result"], registry=registry,
        )  # fmt: skip
        self.lease_losses = Counter("atlas_lease_losses", "Attempts that were somebody else's in the end", registry=registry)
        self.released = Counter("atlas_released", "Tasks of lost workers put back into the queue", registry=registry)
        self.wake_ups = Counter("atlas_wake_ups", "Wake-ups, by source", ["source"], registry=registry)
        self.wake_ups_first = Counter(
            "atlas_wake_ups_first", "Wake-ups that came before any other", ["source"], registry=registry
        )
        self.wake_ups_missed = Counter("atlas_wake_ups_missed", "Tasks that only a sweep found", registry=registry)
        self.realtime_state = Gauge(
            "atlas_realtime_state", "1 for the state that the channel is in", ["state"], registry=registry
        )
        self.realtime_troubles = Counter(
            "atlas_realtime_troubles", "Sessions that ended, by what was off", ["kind"], registry=registry
        )
        self.fallbacks = Counter(
            "atlas_fallbacks", "Calls to a model after an earlier one of the chain failed", ["model"], registry=registry
        )
        self.passed_over = Gauge(
            "atlas_model_passed_over", "1: a model of the settings is gone, and its successor is called", ["model"],
            registry=registry,
        )  # fmt: skip
        self.model_errors = Counter("atlas_model_errors", "Failed calls", ["model", "code"], registry=registry)
        self.running = Gauge("atlas_running_tasks", "Tasks this worker runs now", registry=registry)
        self.queue_depth = Gauge("atlas_queue_depth", "Tasks in the queue, by state", ["state"], registry=registry)
        self.queue_age = Gauge("atlas_queue_age_seconds", "Age of the oldest task that is ready", registry=registry)
        self.dead_letters = Gauge("dead_letter_count", "Dead letters, by kind (task, outbox)", ["kind"], registry=registry)
        self.mirrored = Counter(
            "atlas_mirrored", "Events of the outbox, by destination and result (sent, rejected, failed)",
            ["destination", "result"], registry=registry,
        )  # fmt: skip
        self.mirror_seconds = Histogram(
            "atlas_mirror_seconds", "Seconds from an event's commit to its destination's word",
            buckets=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600), registry=registry,
        )  # fmt: skip
        self.outbox_pending = Gauge("atlas_outbox_pending", "Events that have yet to leave", ["destination"], registry=registry)
        self.outbox_age = Gauge("atlas_outbox_age_seconds", "Age of the oldest event that has yet to leave", registry=registry)
        self.destination_open = Gauge(
            "atlas_destination_open", "1 while the breaker of a destination is open", ["destination"], registry=registry
        )
        self.escalations = Counter("atlas_escalations", "Escalations that a router sent", registry=registry)
        self.workers = Gauge("atlas_workers", "Workers seen in the last two minutes", registry=registry)
        self.paused = Gauge("atlas_paused", "1 while the queue is paused", registry=registry)
        self.budget_limit = Gauge("atlas_budget_limit", "Limit of a UTC day", ["scope", "unit"], registry=registry)
        self.budget_used = Gauge("atlas_budget_used", "Settled of a UTC day", ["scope", "unit"], registry=registry)
        self.budget_reserved = Gauge("atlas_budget_reserved", "Reserved of a UTC day", ["scope", "unit"], registry=registry)
        self.budget_held = Gauge("atlas_budget_held", "Of what is reserved: held calls", ["scope", "unit"], registry=registry)
        self.held_calls = Gauge("atlas_held_calls", "Calls that were sent and not answered", registry=registry)
        self.breaker_open = Gauge(
            "atlas_model_breaker_open", "1 while the breaker of a model is not closed", ["model"], registry=registry
        )
        self.books_wrong = Gauge("atlas_books_wrong", "Rows of atlas.check_ledger(), of today and yesterday", registry=registry)
        for kind in ("task", "outbox"):
            self.dead_letters.labels(kind=kind).set(0)

    def entered_realtime(self, state: str) -> None:
        """The Realtime channel is in this state now."""
        for name in ("down", "connecting", "joined", "receiving", "broadcasts_only", "changes_only"):
            self.realtime_state.labels(state=name).set(1 if name == state else 0)

    def settled(self, model: str, usage: Usage | None) -> None:
        """Counts a settled call."""
        if usage is None:
            self.tokens.labels(model=model, kind="unknown").inc(0)
            return
        if usage.known == "held":
            return
        self.tokens.labels(model=model, kind="input").inc(usage.input_tokens - usage.cached_tokens)
        self.tokens.labels(model=model, kind="cached").inc(usage.cached_tokens)
        self.tokens.labels(model=model, kind="output").inc(usage.output_tokens - usage.reasoning_tokens)
        self.tokens.labels(model=model, kind="reasoning").inc(usage.reasoning_tokens)

    def observe_queue(self, found: JsonObject) -> None:
        """Takes what atlas.queue_metrics() says."""
        for state in ("queued", "waiting", "running"):
            self.queue_depth.labels(state=state).set(found[state])
        self.queue_age.set(found["oldest_seconds"])
        self.dead_letters.labels(kind="task").set(found["dead_lettered"])
        self.dead_letters.labels(kind="outbox").set(found["outbox_dead"])
        for row in found["outbox"]:
            self.outbox_pending.labels(destination=row["destination"]).set(row["pending"])
            self.destination_open.labels(destination=row["destination"]).set(1 if row["open"] else 0)
        self.outbox_age.set(max((row["oldest_seconds"] for row in found["outbox"]), default=0))
        self.workers.set(found["workers"])
        self.held_calls.set(found["held_calls"])
        for name, model in found["models"].items():
            self.breaker_open.labels(model=name).set(0 if model["breaker"] == "closed" else 1)
        self.paused.set(1 if found["paused"] else 0)
        for budget in found["budgets"]:
            for unit, limit in (("tokens", "daily"), ("usd", "usd_daily")):
                labels = {"scope": budget["scope"], "unit": unit}
                if budget[limit] is not None:
                    self.budget_limit.labels(**labels).set(budget[limit])
                self.budget_used.labels(**labels).set(budget[f"settled_{unit}"])
                self.budget_held.labels(**labels).set(budget[f"held_{unit}"])
                self.budget_reserved.labels(**labels).set(budget[f"reserved_{unit}"])

    def text(self) -> bytes:
        """The exposition for /metrics."""
        return generate_latest(self.registry)

"""What a worker measures: its runs, its wake-ups, and what it sees of the queue, the money and the models of the fleet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from datetime import time as time_of_day

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from atlas.metrics.mirror import MirrorMetrics
from atlas.metrics.process import LabelValues, ProcessMetrics
from atlas.metrics.recent import RecentValues
from atlas.task import JsonObject, Usage

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
STALE_AFTER = 60.0
"""Seconds after which what was read of the fleet is not reported any more."""
_SCOPES = 100
"""Budgets that are reported at most: all of Atlas, then models and projects by name. Those of people are in SQL alone."""


class Metrics:
    """All metrics of a worker.

    What is true of the fleet (queue, money, models, books) every worker reports: take the maximum, not the sum.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        registry = self.registry = CollectorRegistry()
        self.process = ProcessMetrics(registry, "worker")
        self.mirror = MirrorMetrics(registry)
        self._code = LabelValues()
        self.tokens = Counter(
            "atlas_tokens", "Tokens settled, by model and kind (input, cached, output, reasoning)",
            ["model", "kind"], registry=registry,
        )  # fmt: skip
        self._unknown = Counter(
            "atlas_unknown_usage",
            "Calls whose usage nobody knows: all that was reserved for them counts",
            ["model"], registry=registry,
        )  # fmt: skip
        self.housekeeping_errors = Counter(
            "atlas_housekeeping_errors", "Failed rounds of a worker's housekeeping", registry=registry
        )
        self._run_seconds = Histogram(
            "atlas_run_seconds",
            "Seconds from a claim to the end of its run, by outcome (completed, failed, dead_lettered, cancelled, adopted, "
            "shutdown, lost; queued: it is tried again). An attempt that only waited for money is not counted",
            ["outcome"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._waits = Counter(
            "atlas_waits", "Claimed tasks that went back to wait, before any call was made", registry=registry
        )
        self._recent = RecentValues(clock=clock)
        for name in ("run_seconds_p95", "atlas_run_seconds_p95"):
            Gauge(
                name, "Seconds that 95 % of this worker's runs of the last five minutes took at most; 0 where none ended",
                registry=registry,
            ).set_function(lambda: self._recent.percentile(0.95))  # fmt: skip
        self.first_token = Histogram(
            "atlas_first_token_seconds", "Seconds from a call of a model to its first text", buckets=_SECONDS, registry=registry
        )
        self.pick_up = Histogram(
            "atlas_pick_up_seconds", "Seconds from the insert to the claim of a task's first attempt",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30, 120), registry=registry,
        )  # fmt: skip
        self.claims = Counter(
            "atlas_claims", "Claims made, by what they brought: tasks, or empty; spared: a look found nothing, none was made",
            ["result"], registry=registry,
        )  # fmt: skip
        self.lease_losses = Counter("atlas_lease_losses", "Attempts that were lost to another worker", registry=registry)
        self.released = Counter("atlas_released", "Tasks of lost workers put back into the queue", registry=registry)
        self.wake_ups = Counter("atlas_wake_ups", "Wake-ups, by source", ["source"], registry=registry)
        self.wake_ups_first = Counter(
            "atlas_wake_ups_first", "Wake-ups that came before any other", ["source"], registry=registry
        )
        self.wake_ups_missed = Counter("atlas_wake_ups_missed", "Tasks that only a sweep found", registry=registry)
        self.realtime_state = Gauge(
            "atlas_realtime_state", "1 for the state of the channel (broadcasts_only, changes_only: its other source is deaf)",
            ["state"], registry=registry,
        )  # fmt: skip
        self.realtime_troubles = Counter(
            "atlas_realtime_troubles", "Sessions that ended, by cause (kind)", ["kind"], registry=registry
        )
        self.fallbacks = Counter(
            "atlas_fallbacks", "Calls to a model after an earlier one of the chain failed", ["model"], registry=registry
        )
        self._passed_over = Gauge(
            "atlas_model_passed_over", "1: a model of the settings is gone, and its successor is called", ["model"],
            registry=registry,
        )  # fmt: skip
        self._shutdown = Gauge(
            "atlas_model_shutdown_timestamp_seconds", "When a model of the settings is shut down (Unix time)", ["model"],
            registry=registry,
        )  # fmt: skip
        self._model_errors = Counter("atlas_model_errors", "Failed calls", ["model", "code"], registry=registry)
        self.retrieval_seconds = Histogram(
            "atlas_retrieval_seconds", "Seconds to find what the team knows of a question, the cache included",
            buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5), registry=registry,
        )  # fmt: skip
        self.fail_opens = Counter(
            "atlas_retrieval_fail_opens",
            "Questions answered without a whole search: with what was found earlier (stale), half of it (partial), or nothing",
            ["found"], registry=registry,
        )  # fmt: skip
        self.running = Gauge("atlas_running_tasks", "Tasks this worker runs now", registry=registry)
        self.slots = Gauge("atlas_slots", "Tasks this worker runs at once at most", registry=registry)
        self.slow_after = Gauge(
            "atlas_slow_run_threshold_seconds",
            "ATLAS_SLOW_RUN_SECONDS: the p95 of runs that an alert fires above",
            registry=registry,
        )
        self.queue_depth = Gauge(
            "atlas_queue_depth", "Tasks in the queue, by state (queued, waiting, running)", ["state"], registry=registry
        )
        self.queue_age = Gauge("atlas_queue_age_seconds", "Age of the oldest task that is ready", registry=registry)
        self._dead_letters = [
            Gauge(name, "Dead letters, by kind (task, outbox)", ["kind"], registry=registry)
            for name in ("dead_letter_count", "atlas_dead_letter_count")
        ]
        self.escalations = Counter("atlas_escalations", "Escalations that a router sent", registry=registry)
        self.workers = Gauge("atlas_workers", "Workers seen in the last two minutes", registry=registry)
        self.paused = Gauge("atlas_paused", "1 while the queue is paused", registry=registry)
        self._budgets = {
            what: Gauge(f"atlas_budget_{what}", text, ["scope", "period", "unit"], registry=registry)
            for what, text in (
                (
                    "limit",
                    "Limit of a budget, by scope (global, model:…, project:…), period (day, month; UTC), unit (tokens, usd)",
                ),
                ("used", "Settled in a budget"),
                ("reserved", "Reserved in a budget, what is held included"),
                ("held", "Of what is reserved: calls that were sent and not answered (of the day alone)"),
                ("spent", "1: what is left is less than a call needs"),
            )
        }
        self.held_calls = Gauge("atlas_held_calls", "Calls that were sent and not answered", registry=registry)
        self._breaker_open = Gauge(
            "atlas_model_breaker_open", "1 while the breaker of a model is not closed", ["model"], registry=registry
        )
        self.chain_down = Gauge("atlas_chain_down", "1 while no model of the settings may be called", registry=registry)
        self.books_wrong = Gauge("atlas_books_wrong", "Rows of atlas.check_ledger(), of today and yesterday", registry=registry)
        self.audit_broken = Gauge(
            "atlas_audit_broken",
            "Rows of the audit that do not fit, among the newest 100,000 (atlas.watch_audit)",
            registry=registry,
        )
        self._trimmed = Counter(
            "atlas_trimmed",
            "Tasks that retention trimmed (tasks), whose texts it erased (texts), or whose parts it deleted (parts)",
            ["what"], registry=registry,
        )  # fmt: skip
        self.jit = Gauge(
            "atlas_jit_on", "1: Postgres's JIT is on for this worker's connections: compiling may take longer than running",
            registry=registry,
        )  # fmt: skip
        self._observed = Gauge(
            "atlas_observed_timestamp_seconds", "When this worker last read the queue, the budgets and the outbox (Unix time)",
            registry=registry,
        )  # fmt: skip
        self._observed_at: float | None = None
        self._clock = clock
        for gauge in self._dead_letters:
            for kind in ("task", "outbox"):
                gauge.labels(kind=kind).set(0)
        for what in ("tasks", "texts", "parts"):
            self._trimmed.labels(what=what)
        for found in ("stale", "partial", "nothing"):
            self.fail_opens.labels(found=found)  # from 0 on, so that the first one is an increase

    def ended(self, outcome: str, seconds: float) -> None:
        """An attempt ended. outcome: as atlas_run_seconds has it, or waiting."""
        if outcome == "waiting":
            self._waits.inc()
            return
        self._run_seconds.labels(outcome=outcome).observe(seconds)
        self._recent.add(seconds)

    def trimmed(self, counts: Mapping[str, int]) -> None:
        """Counts what retention took: {"tasks", "texts", "parts"}."""
        for what, count in counts.items():
            self._trimmed.labels(what=what).inc(count)

    def model_failed(self, model: str, code: str) -> None:
        """Counts a failed call. code: as the provider names it."""
        self._model_errors.labels(model=model, code=self._code(code)).inc()

    def observe_chain(self, passed: Iterable[str], shutdown: Mapping[str, date]) -> None:
        """Takes the models of the settings: those that are passed over, and when the others are shut down."""
        for gauge in (self._passed_over, self._shutdown):
            gauge.clear()
        for name in passed:
            self._passed_over.labels(model=name).set(1)
        for name, day in shutdown.items():
            self._shutdown.labels(model=name).set(datetime.combine(day, time_of_day(), tzinfo=UTC).timestamp())

    def entered_realtime(self, state: str) -> None:
        """The Realtime channel is in this state now."""
        for name in ("down", "connecting", "joined", "receiving", "broadcasts_only", "changes_only"):
            self.realtime_state.labels(state=name).set(1 if name == state else 0)

    def settled(self, model: str, usage: Usage | None) -> None:
        """Counts a settled call."""
        if usage is None:
            self._unknown.labels(model=model).inc()
            return
        if usage.known == "held":
            return
        self.tokens.labels(model=model, kind="input").inc(usage.input_tokens - usage.cached_tokens)
        self.tokens.labels(model=model, kind="cached").inc(usage.cached_tokens)
        self.tokens.labels(model=model, kind="output").inc(usage.output_tokens - usage.reasoning_tokens)
        self.tokens.labels(model=model, kind="reasoning").inc(usage.reasoning_tokens)

    def text(self) -> bytes:
        """The exposition for /metrics, without what was read of the fleet over a minute ago: other workers may know better."""
        if self._observed_at is not None and self._clock() - self._observed_at > STALE_AFTER:
            self._forget_fleet()
        return self.process.text()

    def _forget_fleet(self) -> None:
        self._observed_at = None
        for gauge in (self.queue_depth, *self._dead_letters, *self._budgets.values(), self._breaker_open):
            gauge.clear()
        self.mirror.observe_outbox([])
        for gauge in (self.queue_age, self.workers, self.held_calls, self.jit, self.paused, self.chain_down, self.books_wrong,
                      self.audit_broken):  # fmt: skip
            gauge.set(float("nan"))

    def observe_queue(self, found: JsonObject) -> None:
        """Takes what atlas.queue_metrics() says."""
        self._observed_at = self._clock()
        self._observed.set(time.time())
        for state in ("queued", "waiting", "running"):
            self.queue_depth.labels(state=state).set(found[state])
        self.queue_age.set(found["oldest_seconds"])
        for gauge in self._dead_letters:
            gauge.labels(kind="task").set(found["dead_lettered"])
            gauge.labels(kind="outbox").set(found["outbox_dead"])
        self.mirror.observe_outbox(found["outbox"])
        self.workers.set(found["workers"])
        self.held_calls.set(found["held_calls"])
        self.jit.set(1 if found["jit"] else 0)
        self._breaker_open.clear()
        for name, model in found["models"].items():
            self._breaker_open.labels(model=name).set(0 if model["breaker"] == "closed" else 1)
        self.paused.set(1 if found["paused"] else 0)
        spent = {(row["scope"], row["period"], row["unit"]) for row in found["spent_budgets"]}
        self._observe_budgets([row for row in found["budgets"] if not row["scope"].startswith("sender:")][:_SCOPES], spent)

    def _observe_budgets(self, rows: list[JsonObject], spent: set[tuple[str, str, str]]) -> None:
        for gauge in self._budgets.values():
            gauge.clear()  # a budget whose limit was removed must disappear
        for row in rows:
            for period, prefix, limits in (
                ("day", "", ("daily", "usd_daily")),
                ("month", "month_", ("monthly", "usd_monthly")),
            ):
                for unit, limit in zip(("tokens", "usd"), limits, strict=True):
                    if period == "month" and row[limit] is None:
                        continue  # what a month holds is counted where it is limited
                    labels = {"scope": row["scope"], "period": period, "unit": unit}
                    if row[limit] is not None:
                        self._budgets["limit"].labels(**labels).set(row[limit])
                        self._budgets["spent"].labels(**labels).set(1 if (row["scope"], period, unit) in spent else 0)
                    self._budgets["used"].labels(**labels).set(row[f"{prefix}settled_{unit}"])
                    self._budgets["reserved"].labels(**labels).set(row[f"{prefix}reserved_{unit}"])
                    if period == "day":
                        self._budgets["held"].labels(**labels).set(row[f"held_{unit}"])

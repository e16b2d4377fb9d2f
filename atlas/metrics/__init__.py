"""Prometheus metrics, a module a kind of process. Names are a contract with dashboards and alerts (docs/metrics.md)."""

"""Prometheus metrics, one module per kind of process. Names are a contract with dashboards and alerts (docs/metrics.md)."""

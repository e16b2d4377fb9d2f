"""Traces: what each task, call and delivery took, for whoever collects them by OpenTelemetry."""

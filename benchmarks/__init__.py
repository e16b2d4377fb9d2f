"""Measurements, as ratios within one run. `python -m benchmarks` prints tables, and writes docs/benchmarks.json."""

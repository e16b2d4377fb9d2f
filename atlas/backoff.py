"""Pauses between tries, with jitter, so that many who failed together do not try again together. Over tenacity's waits."""

from __future__ import annotations

import random
from typing import Any

from tenacity import RetryCallState, wait_combine, wait_exponential, wait_random_exponential
from tenacity.wait import wait_base


def full_jitter(first: float, longest: float) -> wait_base:
    """From nothing up to first, doubled with each try up to longest (seconds): for many who wait for one thing."""
    return wait_random_exponential(multiplier=first, max=longest)


def half_jitter(first: float, longest: float) -> wait_base:
    """From half of first up to first, doubled with each try up to longest (seconds): for one who must not try at once."""
    return wait_combine(
        wait_exponential(multiplier=first / 2, max=longest / 2), wait_random_exponential(multiplier=first / 2, max=longest / 2)
    )


def jittered(seconds: float) -> float:
    """A quarter less to a quarter more: for timers of a fleet, which must not march in step."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311  jitter


def pause_after(wait: wait_base, failures: int) -> float:
    """Seconds before the next try, after so many failures in a row (from 1), where no retry of tenacity's runs the loop."""
    unused: Any = None
    state = RetryCallState(retry_object=unused, fn=None, args=(), kwargs={})
    state.attempt_number = max(1, failures)
    return float(wait(state))

"""The faults of the real Realtime server, each a switch that tests turn while the door runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong. Seconds where not said otherwise; the defaults are those of the real server in good health."""

    cold_for: float = 0.0
    """From the join's ok to "Subscribed to PostgreSQL", in which changes are lost without a word."""
    deaf: bool = False
    """The slot is refused, or its backend was killed: "Subscribed" is sent all the same, and no change ever comes."""
    rate_limited: bool = False
    """The tenant is over its events a second: changes are dropped without a word."""
    no_broadcasts: bool = False
    """Broadcasts of SQL are lost (the missing partition that realtime.send only warns about)."""
    mute: bool = False
    """Heartbeats and joins get no answer, the socket stays open."""
    refusal_takes: float = 5.0
    """A refused join blocks its whole socket for so long."""
    connect_refusal_takes: float = 2.0
    """A refused connection is answered after so long."""
    idle_timeout: float = 66.0
    """A socket without a heartbeat is closed (1000) after so long."""
    resubscribed_after: float = 2.5
    """A refreshed token is followed by another "Subscribed to PostgreSQL" after so long."""
    messages_a_second: float = 100.0
    """Broadcasts that one subscriber may get, averaged over a minute; above that it is closed."""
    cut_after_broadcast: int = 0
    """The code with which a socket is closed after each broadcast that it got; 1006: without a good-bye; 0: never."""

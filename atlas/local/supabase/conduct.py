"""How the stand-in behaves: the pace of the real Realtime server, and the places where a server can go wrong.

Tests turn its faults on by a subclass (tests/support/faults.py); this one is in good health.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Conduct:
    """Seconds where not said otherwise. Source: the recorded behaviour of server 2.122.0."""

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

    def subscribes_after(self) -> float:
        """From the join's ok to "Subscribed to PostgreSQL"."""
        return 0.0

    def hears_changes(self) -> bool:
        """Whether changes of tables come through."""
        return True

    def hears_broadcasts(self) -> bool:
        """Whether broadcasts of SQL come through."""
        return True

    def answers(self) -> bool:
        """Whether a frame from a client is answered."""
        return True

    def cuts_after_broadcast(self) -> int:
        """The code with which a socket is closed after a broadcast; 0: it stays open."""
        return 0

"""The faults of the real Realtime server, each a switch that tests turn while the stand-in runs."""

from __future__ import annotations

from dataclasses import dataclass

from atlas.local.supabase.conduct import Conduct


@dataclass(slots=True, kw_only=True)
class Faults(Conduct):
    """What goes wrong."""

    cold_for: float = 0.0
    """From the join's ok to "Subscribed to PostgreSQL", in which changes are lost silently."""
    deaf: bool = False
    """The slot is refused, or its backend was killed: "Subscribed" is sent all the same, and no change ever comes."""
    rate_limited: bool = False
    """The tenant is over its events a second: changes are dropped silently."""
    no_broadcasts: bool = False
    """Broadcasts of SQL are lost (the missing partition that realtime.send only warns about)."""
    mute: bool = False
    """Heartbeats and joins get no answer, the socket stays open."""
    cut_after_broadcast: int = 0
    """The code with which a socket is closed after each broadcast that it got; 1006: without a good-bye; 0: never."""
    cuts: int = 0
    """How many sockets were closed so."""

    @classmethod
    def quick(cls) -> Faults:
        """None yet, and a refusal does not hold tests up for its five seconds."""
        return cls(refusal_takes=0.05, connect_refusal_takes=0.05, resubscribed_after=0.1)

    def subscribes_after(self) -> float:
        return self.cold_for

    def hears_changes(self) -> bool:
        return not (self.deaf or self.rate_limited)

    def hears_broadcasts(self) -> bool:
        return not self.no_broadcasts

    def answers(self) -> bool:
        return not self.mute

    def cuts_after_broadcast(self) -> int:
        if self.cut_after_broadcast:
            self.cuts += 1
        return self.cut_after_broadcast

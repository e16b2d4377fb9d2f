"""The port of targets: an event is confirmed, or the error says whose trouble it is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from atlas.mirror.events import Event, Unreachable
from atlas.mirror.ports import Target
from atlas.mirror.pubsub import PubSubTarget
from atlas.mirror.webhook import WebhookTarget
from atlas.webhooks import Allowed
from tests.doubles.pubsub import pubsub
from tests.doubles.webhook import receiver

KEYS = [b"k" * 32]
TOPIC = "projects/p/topics/t"


def event(n: int = 1) -> Event:
    payload = {"task_id": str(uuid4()), "msg_type": "spec", "content": f"reply {n}", "metadata": {"status": "completed"}}
    return Event(
        id=n, event_id=uuid4(), event_kind="message", task_id=None, ordering_key="k", payload=payload, rejections=0,
        sender_key="service", created_at=datetime.now(UTC),
    )  # fmt: skip


@asynccontextmanager
async def webhook(up: bool) -> AsyncIterator[Target]:
    async with receiver() as found:
        url = found.url if up else "http://127.0.0.1:9/"
        yield WebhookTarget(url, KEYS, allowed=Allowed(["127.0.0.1/32"]), timeout=2, now=time.time)


@asynccontextmanager
async def topic(up: bool) -> AsyncIterator[Target]:
    async with pubsub() as double:
        yield PubSubTarget(TOPIC, emulator=double.host if up else "127.0.0.1:9", timeout=2)


TARGETS = pytest.mark.parametrize("kind", [webhook, topic])


@TARGETS
async def test_events_are_confirmed_in_calls_of_its_limit(kind: type) -> None:
    async with kind(True) as target:
        assert target.limit >= 1
        assert target.room >= target.limit
        await target.send([event(n) for n in range(target.limit)])
        await target.send([event()])
        await target.close()


@TARGETS
async def test_one_that_is_away_is_unreachable_and_costs_no_event_anything(kind: type) -> None:
    async with kind(False) as target:
        with pytest.raises(Unreachable):
            await target.send([event()])
        await target.close()

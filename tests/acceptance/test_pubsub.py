"""What the mirror and its readers lean on in Pub/Sub, held against our double, and against Google's emulator where it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher import PublisherAsyncClient
from google.pubsub_v1.services.subscriber import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from atlas.mirror.pubsub import connect
from tests.support.mirror import emulator


@asynccontextmanager
async def clients() -> AsyncIterator[tuple[PublisherAsyncClient, SubscriberAsyncClient, str]]:
    """Google's own clients on a project of its own."""
    async with emulator() as host:
        publisher = await connect(host)
        subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(host)))
        try:
            yield publisher, subscriber, f"projects/p-{uuid4().hex[:8]}"
        finally:
            await publisher.transport.close()  # type: ignore[no-untyped-call]
            await subscriber.transport.close()  # type: ignore[no-untyped-call]


async def pull(subscriber: SubscriberAsyncClient, name: str, most: int = 10) -> list[types.ReceivedMessage]:
    answer = await subscriber.pull(request=types.PullRequest(subscription=name, max_messages=most), timeout=20)
    return list(answer.received_messages)


def messages(*texts: str, key: str = "k") -> list[types.PubsubMessage]:
    return [types.PubsubMessage(data=text.encode(), ordering_key=key) for text in texts]


async def test_messages_of_a_key_come_in_order_and_again_until_they_are_acked() -> None:
    async with clients() as (publisher, subscriber, project):
        topic, name = f"{project}/topics/t", f"{project}/subscriptions/s"
        await publisher.create_topic(request=types.Topic(name=topic))
        await subscriber.create_subscription(
            request=types.Subscription(name=name, topic=topic, enable_message_ordering=True, ack_deadline_seconds=10)
        )
        await publisher.publish(request=types.PublishRequest(topic=topic, messages=messages("1", "2", "3")))
        got: list[str] = []
        first = await pull(subscriber, name, 1)
        # not acked, and its deadline is over at once: it comes again, before those after it
        deadline = types.ModifyAckDeadlineRequest(subscription=name, ack_ids=[first[0].ack_id], ack_deadline_seconds=0)
        await subscriber.modify_ack_deadline(request=deadline)
        for _ in range(20):
            for item in await pull(subscriber, name):
                got.append(item.message.data.decode())
                await subscriber.acknowledge(request=types.AcknowledgeRequest(subscription=name, ack_ids=[item.ack_id]))
            if len(got) >= 3:
                break
        assert got == ["1", "2", "3"]


async def test_what_is_never_acked_goes_to_the_dead_letter_topic() -> None:
    async with clients() as (publisher, subscriber, project):
        topic, dead = f"{project}/topics/t", f"{project}/topics/dead"
        name, graves = f"{project}/subscriptions/s", f"{project}/subscriptions/graves"
        for one in (topic, dead):
            await publisher.create_topic(request=types.Topic(name=one))
        await subscriber.create_subscription(request=types.Subscription(name=graves, topic=dead))
        policy = types.DeadLetterPolicy(dead_letter_topic=dead, max_delivery_attempts=5)
        await subscriber.create_subscription(request=types.Subscription(name=name, topic=topic, dead_letter_policy=policy))
        await publisher.publish(request=types.PublishRequest(topic=topic, messages=messages("poison", key="")))
        attempts = []
        for _ in range(40):
            for item in await pull(subscriber, name):
                attempts.append(item.delivery_attempt)
                late = types.ModifyAckDeadlineRequest(subscription=name, ack_ids=[item.ack_id], ack_deadline_seconds=0)
                await subscriber.modify_ack_deadline(request=late)
            buried = await pull(subscriber, graves)
            if buried:
                break
        assert attempts == [1, 2, 3, 4, 5]
        assert [item.message.data for item in buried] == [b"poison"]


async def test_a_request_of_several_keys_and_a_topic_that_is_missing_are_refused() -> None:
    async with clients() as (publisher, _, project):
        topic = f"{project}/topics/t"
        with pytest.raises(exceptions.NotFound):
            await publisher.publish(request=types.PublishRequest(topic=topic, messages=messages("1")), retry=None, timeout=5)
        await publisher.create_topic(request=types.Topic(name=topic))
        with pytest.raises(exceptions.AlreadyExists):
            await publisher.create_topic(request=types.Topic(name=topic), retry=None, timeout=5)
        mixed = messages("1", key="a") + messages("2", key="b")
        with pytest.raises(exceptions.InvalidArgument):
            await publisher.publish(request=types.PublishRequest(topic=topic, messages=mixed), retry=None, timeout=5)

"""A small Pub/Sub: the gRPC services Publisher and Subscriber on google-cloud-pubsub's own types, over a real socket.

As Google's: messages of one request share one ordering key; a subscription with ordering delivers a key's next message once the
one before it is acked; what is not acked in time comes again, and goes to the dead-letter topic after so many deliveries.
`fail` injects errors into Publish.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

MOST = 10_000_000
"""Bytes that one request may have."""


@dataclass(kw_only=True)
class Held:
    """A message in a subscription."""

    message: types.PubsubMessage
    deliveries: int = 0
    ack_id: str = ""
    due: float = 0.0


@dataclass(kw_only=True)
class Subscription:
    """Messages that wait for their ack, oldest first."""

    wanted: types.Subscription
    held: list[Held] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class PubSubDouble:
    """The server's state. published: every message that a publisher was told is in, in order."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Subscription]] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.published: list[types.PubsubMessage] = []
        self.fail: Callable[[types.PublishRequest], grpc.StatusCode | None] = lambda _request: None
        self.publishes = 0
        self.port = 0
        self._numbers = itertools.count(1)

    @property
    def host(self) -> str:
        """What PUBSUB_EMULATOR_HOST is set to."""
        return f"127.0.0.1:{self.port}"

    # --- Publisher ----------------------------------------------------------------------------------------------

    async def create_topic(self, request: types.Topic, context: Any) -> types.Topic:
        if request.name in self.topics:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Topic already exists: {request.name}")
        self.topics[request.name] = []
        return request

    async def publish(self, request: types.PublishRequest, context: Any) -> types.PublishResponse:
        self.publishes += 1
        code = self.fail(request)
        if code is not None:
            await context.abort(code, f"injected {code.name}")
        if request.topic not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Topic not found: {request.topic}")
        if len({message.ordering_key for message in request.messages}) > 1:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "In a request, all messages must have the same ordering key")
        if types.PublishRequest.pb(request).ByteSize() > MOST:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The request size is larger than the limit")
        return types.PublishResponse(message_ids=[self._take(request.topic, message) for message in request.messages])

    def _take(self, topic: str, message: types.PubsubMessage) -> str:
        message.message_id = str(next(self._numbers))
        self.published.append(message)
        for subscription in self.topics[topic]:
            subscription.held.append(Held(message=message))
            subscription.arrived.set()
        return message.message_id

    # --- Subscriber ---------------------------------------------------------------------------------------------

    async def create_subscription(self, request: types.Subscription, context: Any) -> types.Subscription:
        if request.topic not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Topic not found: {request.topic}")
        made = Subscription(wanted=request)
        self.topics[request.topic].append(made)
        self.subscriptions[request.name] = made
        return request

    async def pull(self, request: types.PullRequest, context: Any) -> types.PullResponse:
        subscription = self.subscriptions[request.subscription]
        end = time.monotonic() + 1
        while not (found := self._due(subscription, request.max_messages)) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return types.PullResponse(received_messages=found)

    def _due(self, subscription: Subscription, most: int) -> list[types.ReceivedMessage]:
        now, blocked = time.monotonic(), set[str]()
        found: list[types.ReceivedMessage] = []
        for held in list(subscription.held):
            key = held.message.ordering_key if subscription.wanted.enable_message_ordering else ""
            if key in blocked or len(found) >= most:
                continue
            if key:
                blocked.add(key)
            if held.due > now:
                continue
            policy = subscription.wanted.dead_letter_policy
            if policy.dead_letter_topic and held.deliveries >= policy.max_delivery_attempts:
                subscription.held.remove(held)
                self._take(
                    policy.dead_letter_topic, types.PubsubMessage(data=held.message.data, attributes=held.message.attributes)
                )
                blocked.discard(key)
                continue
            held.deliveries += 1
            held.ack_id = f"ack-{next(self._numbers)}"
            held.due = now + (subscription.wanted.ack_deadline_seconds or 10)
            found.append(types.ReceivedMessage(ack_id=held.ack_id, message=held.message, delivery_attempt=held.deliveries))
        return found

    async def acknowledge(self, request: types.AcknowledgeRequest, context: Any) -> empty_pb2.Empty:
        subscription = self.subscriptions[request.subscription]
        subscription.held = [held for held in subscription.held if held.ack_id not in request.ack_ids]
        return empty_pb2.Empty()

    async def modify_ack_deadline(self, request: types.ModifyAckDeadlineRequest, context: Any) -> empty_pb2.Empty:
        for held in self.subscriptions[request.subscription].held:
            if held.ack_id in request.ack_ids:
                held.due = time.monotonic() + request.ack_deadline_seconds
        return empty_pb2.Empty()


def _handler(work: Callable[[Any, Any], Awaitable[Any]], request: Any) -> grpc.RpcMethodHandler:
    def serialize(answer: Any) -> bytes:
        return bytes(answer.SerializeToString() if isinstance(answer, empty_pb2.Empty) else type(answer).serialize(answer))

    return grpc.unary_unary_rpc_method_handler(work, request_deserializer=request.deserialize, response_serializer=serialize)


@asynccontextmanager
async def pubsub(double: PubSubDouble | None = None, *, port: int = 0) -> AsyncIterator[PubSubDouble]:
    """Serves a double on loopback; the same one can be served again, as after an outage."""
    found = double or PubSubDouble()
    server = grpc.aio.server()
    services = {
        "google.pubsub.v1.Publisher": {
            "CreateTopic": _handler(found.create_topic, types.Topic), "Publish": _handler(found.publish, types.PublishRequest),
        },
        "google.pubsub.v1.Subscriber": {
            "CreateSubscription": _handler(found.create_subscription, types.Subscription),
            "Pull": _handler(found.pull, types.PullRequest), "Acknowledge": _handler(found.acknowledge, types.AcknowledgeRequest),
            "ModifyAckDeadline": _handler(found.modify_ack_deadline, types.ModifyAckDeadlineRequest),
        },
    }  # fmt: skip
    for name, methods in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    found.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield found
    finally:
        await server.stop(0)

"""Pub/Sub by `google-cloud-pubsub`'s own asyncio client. The ordering key is the task's id; a call carries one key.

Facts (Google's reference of PubsubMessage and PublishRequest): messages of one request must have one ordering key, a request
holds 10 MB and 1,000 messages at most, attribute values 1,024 bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence

import google.auth
import grpc
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1.services.publisher import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.types import PublishRequest, PubsubMessage, Topic

from atlas.mirror.events import Event, Rejected, Unreachable

ROWS_OWN = (exceptions.InvalidArgument, exceptions.OutOfRange)
"""What says that a message is at fault, and not the topic, its rights, its quota or the way to it."""


async def connect(emulator: str | None) -> PublisherAsyncClient:
    """A client of the emulator at host:port, or of Google with the credentials of the environment. Raises Unreachable."""
    if emulator:
        channel = grpc.aio.insecure_channel(emulator)
        return PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
    try:
        # looks for files, and asks the metadata server
        credentials, _ = await asyncio.to_thread(google.auth.default, scopes=["https://www.googleapis.com/auth/pubsub"])
    except GoogleAuthError as error:
        raise Unreachable(f"no credentials for Pub/Sub ({error})") from error
    return PublisherAsyncClient(credentials=credentials)


class PubSubTarget:
    """One topic. emulator: the topic is made if it is missing, as nobody else does there."""

    limit = 10
    room = 256

    def __init__(self, topic: str, *, emulator: str | None, timeout: float) -> None:
        self._topic = topic
        self._emulator = emulator
        self.timeout = timeout
        self._client: PublisherAsyncClient | None = None
        self._opening = asyncio.Lock()

    async def send(self, events: Sequence[Event]) -> None:
        """Publishes; returns when Pub/Sub has confirmed them all."""
        request = PublishRequest(
            topic=self._topic,
            messages=[
                PubsubMessage(
                    data=json.dumps(event.payload, ensure_ascii=False, separators=(",", ":")).encode(),
                    attributes=event.attributes,
                    ordering_key=event.ordering_key,
                )
                for event in events
            ],
        )
        try:
            client = await self._open()
            await client.publish(request=request, retry=None, timeout=self.timeout)
        except ROWS_OWN as error:
            raise Rejected(f"{type(error).__name__}: {error.message}") from error
        except (exceptions.GoogleAPIError, GoogleAuthError, grpc.RpcError, TimeoutError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def _open(self) -> PublisherAsyncClient:
        async with self._opening:
            if self._client is None:
                client = await connect(self._emulator)
                if self._emulator:
                    with contextlib.suppress(exceptions.AlreadyExists):
                        await client.create_topic(request=Topic(name=self._topic), retry=None, timeout=self.timeout)
                self._client = client
            return self._client

    async def close(self) -> None:
        """Closes the channel."""
        if self._client is not None:
            await self._client.transport.close()  # type: ignore[no-untyped-call]
            self._client = None

"""Ports are taken by the server that listens on them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from atlas.errors import StackError
from atlas.serving import listen, tell_port


def test_a_port_that_is_taken_is_said_or_another_is_taken(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, "ATLAS_HTTP_PORT") as first:
        port = first.getsockname()[1]
        assert not first.get_inheritable(), "a child must not hold the port when its parent is gone"
        with pytest.raises(StackError) as caught:
            listen("127.0.0.1", port, "ATLAS_HTTP_PORT")
        assert f"port {port} of 127.0.0.1 cannot be used" in caught.value.line
        assert "set ATLAS_HTTP_PORT to a free one, or to 0" in caught.value.line
        with listen("127.0.0.1", port, "ATLAS_HTTP_PORT", or_any=True) as second:
            other = second.getsockname()[1]
            assert other != port
            tell_port(tmp_path / "worker.port", second)
            assert (tmp_path / "worker.port").read_text() == str(other)
    with pytest.raises(StackError):
        listen("192.0.2.1", 0, "ATLAS_HTTP_PORT", or_any=True)


def test_answers_are_sent_at_once_on_asyncios_own_loop() -> None:
    """uvloop sets TCP_NODELAY by itself, asyncio for sockets that say they are TCP."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0, "ATLAS_HTTP_PORT") as door:
            async with await asyncio.start_server(connected, sock=door):
                _, writer = await asyncio.open_connection("127.0.0.1", door.getsockname()[1])
                answer = await found
                writer.close()
        return answer

    assert asyncio.run(accepted()) != 0

"""The proxy before a member, against a real echo server."""

import asyncio
import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.etcd.links import Links
from lab.etcd.proxy import RETRANSMIT, Proxy, Shape

DEADLINE = 20.0


class Echo:
    """Sends back what it gets."""

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error):
        self.server.close()

    async def serve(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def proxy():
    async with Echo() as echo:
        made = Proxy(0, echo.port)
        made.port = await made.listen()
        yield made
        await made.close()


@pytest.fixture
async def dial():
    """Connects to a port; everything is closed after the test."""
    writers = []

    async def connect(port, sender=""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        if sender:
            await trip(reader, writer, f"GET /raft/stream HTTP/1.1\r\nX-Server-From: {sender}\r\n\r\n".encode())
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def trip(reader, writer, data):
    """Round trip in seconds."""
    begun = asyncio.get_running_loop().time()
    writer.write(data)
    async with asyncio.timeout(DEADLINE):
        assert await reader.readexactly(len(data)) == data
    return asyncio.get_running_loop().time() - begun


async def reaches(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - the proxy tells nobody
            await asyncio.sleep(0.01)


async def test_what_goes_in_comes_out(proxy, dial):
    reader, writer = await dial(proxy.port)
    await trip(reader, writer, random.Random(1).randbytes(3 << 20))
    assert len(proxy.connections) == 1
    writer.close()
    await reaches(lambda: not proxy.connections)


async def test_a_delay_is_added_each_way_and_taken_back(proxy, dial):
    reader, writer = await dial(proxy.port)
    await trip(reader, writer, b"a")
    proxy.impair({0: Shape(delay_ms=60)})
    assert await trip(reader, writer, b"b") >= 0.118
    proxy.impair({})
    # at least one of a few is faster than a delayed one can be
    assert min([await trip(reader, writer, b"c") for _ in range(5)]) < 0.118


async def test_order_is_kept_whatever_the_jitter(proxy, dial):
    reader, writer = await dial(proxy.port)
    proxy.impair({0: Shape(delay_ms=1, jitter_ms=30, loss=0.05)})
    sent = b""
    for number in range(60):
        piece = f"{number};".encode()
        writer.write(piece)
        await writer.drain()
        sent += piece
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE):
        assert await reader.readexactly(len(sent)) == sent


async def test_a_stall_holds_everything_until_it_ends(proxy, dial):
    reader, writer = await dial(proxy.port)
    await trip(reader, writer, b"a")
    proxy.impair({0: Shape(blocked=True)})
    writer.write(b"held")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.read(1)
    proxy.impair({})
    async with asyncio.timeout(DEADLINE):
        assert await reader.readexactly(4) == b"held"


async def test_a_stall_also_holds_who_comes_meanwhile(proxy, dial):
    proxy.impair({0: Shape(blocked=True)})
    reader, writer = await dial(proxy.port)
    writer.write(b"early")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.read(1)
    proxy.impair({})
    async with asyncio.timeout(DEADLINE):
        assert await reader.readexactly(5) == b"early"


async def test_a_reset_ends_connections_and_new_ones_work(proxy, dial):
    reader, writer = await dial(proxy.port)
    await trip(reader, writer, b"a")
    assert proxy.reset({1}) == 0
    assert proxy.reset({0, 1}) == 1
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""
    writer.close()
    again, sender = await dial(proxy.port)
    await trip(again, sender, b"b")


async def test_a_sender_is_known_by_what_it_says(proxy, dial):
    proxy.names = {0xAB: 1, 0xCD: 2}
    one, two = await dial(proxy.port, "ab"), await dial(proxy.port, "cd")
    assert sorted(c.source for c in proxy.connections) == [1, 2]
    proxy.impair({2: Shape(delay_ms=150)})
    assert await trip(*two, b"x") >= 0.29
    assert min([await trip(*one, b"x") for _ in range(5)]) < 0.29
    assert proxy.reset({2}) == 1
    await trip(*one, b"y")


async def test_names_may_come_after_the_connection(proxy, dial):
    await dial(proxy.port, "ab")
    proxy.impair({1: Shape(blocked=True)})
    proxy.names = {0xAB: 1}
    assert proxy.reset({1}) == 1


async def test_nobody_behind_it_is_an_ended_connection(dial):
    async with Echo() as echo:
        port = echo.port
    proxy = Proxy(0, port)
    proxy.port = await proxy.listen()
    reader, _ = await dial(proxy.port)
    async with asyncio.timeout(DEADLINE):
        assert await reader.read(1) == b""
    await proxy.close()


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0, 0.9), st.integers(0, 1000))
def test_a_delay_is_within_its_bounds(delay, jitter, loss, seed):
    chance = random.Random(seed)
    for _ in range(20):
        seconds = Shape(delay, jitter, loss).seconds(chance)
        most = (delay + jitter) / 1000 + (RETRANSMIT * 31 if loss else 0)
        assert delay / 1000 <= seconds <= most + 1e-9


async def test_the_process_of_proxies_obeys_and_ends_with_its_handle(dial):
    async with Echo() as echo, Echo() as other:
        links = Links()
        ports = await links.start([echo.port, other.port])
        try:
            reader, writer = await dial(ports[0])
            await trip(reader, writer, b"a")
            await links.name({7: 1})
            await links.impair([0], Shape(delay_ms=80))
            assert await trip(reader, writer, b"b") >= 0.158
            await links.heal()
            assert min([await trip(reader, writer, b"c") for _ in range(5)]) < 0.158
            assert await links.reset([1]) == 0
            assert await links.reset([0]) == 1
        finally:
            await links.stop()
        assert links.pid is None

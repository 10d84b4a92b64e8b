"""The connections of the HTTP client: how answers are framed, when a connection is used again, and what ends it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.certificates import certificate
from worker.oauth.answer_reader import LONGEST_HEAD, AnswerReader
from worker.oauth.http_client import DEADLINE, ROUTE, UNREAD, Departure, create_http_client, departure
from worker.oauth.http_connection import HIGH_WATER
from worker.oauth.http_pool import KEEPALIVE_SECONDS
from worker.oauth.name_cache import MOST_HOSTS, NameCache
from worker.oauth.route import Addresses, Route

pytestmark = pytest.mark.anyio

HERE = {ROUTE: Route(addresses=Addresses.LOOPBACK_TOO)}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nX-Long: a b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n1\r\no\r\n0\r\n\r\n"

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve by a function that has each connection for itself; gives the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"


@asynccontextmanager
async def serving_aside(handle: Handle) -> AsyncIterator[str]:
    """Serve on a thread of its own, which goes on while this one is busy."""
    ready: asyncio.Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = asyncio.Future()
    ours = asyncio.get_running_loop()

    async def serve() -> None:
        ended = asyncio.Event()
        async with serving(handle) as url:
            ours.call_soon_threadsafe(ready.set_result, (url, asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, serve()))
    url, theirs, ended = await ready
    try:
        yield url
    finally:
        theirs.call_soon_threadsafe(ended.set)
        await thread


def answering(*parts: bytes, closes: bool = True) -> Handle:
    """Answer each request with some bytes, part by part, each in a turn of its own."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if closes:
                return

    return handle


async def asked(url: str, method: str = "GET", **more: object) -> httpx.Response:
    """Send one request on a client of its own."""
    async with create_http_client(user_agent="x") as http:
        return await http.request(method, url, extensions=HERE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "body"),
    [
        pytest.param(OK, b"hello", id="a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", id="until the end"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Type: x\r\n\r\nhello", b"hello", id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX: trailer\r\n\r\n",
            b"hello",
            id="chunks, and a trailer",
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK, b"hello", id="interim"
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="no body"),
        pytest.param(b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 0\r\n\r\n", b"", id="a reason that is no text"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello", id="bare line feeds"),
    ],
)
async def test_an_answer_is_read_however_it_is_framed(content: bytes, body: bytes) -> None:
    """RFC 9112 section 6.3: a length, chunks, or the connection's end; what is interim is passed over."""
    async with serving(answering(content)) as url:
        response = await asked(url)
    assert response.content == body
    assert "link" not in response.headers


@given(data=st.data())
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(data: st.DataObject) -> None:
    """Packets may end anywhere: within the status, a header's name, a chunk's size or the body."""
    content = data.draw(st.sampled_from([OK, CHUNKS]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content) - 1), max_size=8)))
    parts = [content[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]

    reader = AnswerReader()
    for part in parts:
        reader.feed(part)

    assert (reader.status, reader.take(), reader.may_go_on()) == (200, b"hello", True)


@pytest.mark.parametrize(
    ("content", "again"),
    [
        pytest.param(OK, True, id="a whole answer"),
        pytest.param(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False, id="the server wants to close"),
        pytest.param(OK.replace(b"1.1", b"1.0"), False, id="HTTP/1.0"),
        pytest.param(OK + OK, False, id="more than was asked for"),
        pytest.param(CHUNKS.replace(b"X-Long: a b", b"Content-Length: 5"), False, id="two words about its end"),
    ],
)
async def test_a_connection_is_used_again_only_after_one_whole_answer(content: bytes, again: bool) -> None:
    """What follows an answer unasked would be taken for the next request's answer, which is another grant's."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(content, closes=False)(reader, writer)

    async with serving(handle) as url, create_http_client(user_agent="x") as http:
        for _ in range(2):
            response = await http.get(url, extensions=HERE)
            assert response.content == b"hello"
    assert connections == (1 if again else 2)


async def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    """A server that says something between two requests is not asked anything on that connection."""
    said = asyncio.Event()
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await reader.read()  # until the other side has closed, as it must
        said.set()

    async with serving(handle) as url, create_http_client(user_agent="x") as http:
        assert (await http.get(url, extensions=HERE)).content == b"hello"
        await asyncio.wait_for(said.wait(), 10)
        assert (await http.get(url, extensions=HERE)).content == b"hello"
    assert connections == 2


async def test_an_idle_connection_is_closed_before_servers_close_it() -> None:
    """It does not wait for the next request to find out."""
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()
        closed.set()

    async with serving(handle) as url, create_http_client(user_agent="x") as http:
        await http.get(url, extensions=HERE)
        assert not closed.is_set()
        await asyncio.wait_for(closed.wait(), KEEPALIVE_SECONDS + 10)


async def test_a_request_goes_out_as_one_message() -> None:
    """Host with a port, one length, each header once, and no header that would frame it otherwise."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        heads.append(await reader.readexactly(3))
        writer.write(OK)
        await writer.drain()

    async with serving(handle) as url:
        await asked(url + "?a=%20b", "POST", content=b"a=b", headers={"Transfer-Encoding": "chunked"})
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "POST /token?a=%20b HTTP/1.1"
    names = [line.partition(":")[0].lower() for line in lines[1:] if line]
    assert len(names) == len(set(names))
    assert {"host", "content-length"} <= set(names)
    assert "transfer-encoding" not in names
    assert f"Host: {url.split('/')[2]}" in lines
    assert heads[1] == b"a=b"


@pytest.mark.parametrize("value", ["a\r\nX-Injected: b", "a\nb", "a\rb", "a\x00b"])
async def test_a_header_that_would_end_its_line_is_not_sent(value: str) -> None:
    """Whatever a value holds, a request is one request; and this one has not left."""
    watched = Departure()
    token = departure.set(watched)
    try:
        with pytest.raises(httpx.LocalProtocolError, match="line break"):
            await asked("http://127.0.0.1:9/token", headers=[("X-Name", value)])
    finally:
        departure.reset(token)
    assert not watched.may_have_left


async def test_an_answer_to_head_has_no_body() -> None:
    """It tells a length, and nothing follows (RFC 9110 section 9.3.2)."""
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", closes=False)) as url:
        response = await asked(url, "HEAD")
    assert (response.status_code, response.content) == (200, b"")


async def test_a_tunnel_is_not_asked_for() -> None:
    """What would answer to CONNECT is no answer of HTTP's."""
    with pytest.raises(httpx.UnsupportedProtocol, match="CONNECT"):
        await asked("http://127.0.0.1:9/token", "CONNECT")


async def test_a_head_without_end_is_given_up() -> None:
    """Headers are read up to a limit, however many there are."""
    line = b"X-Header: " + b"x" * 1000 + b"\r\n"
    async with serving(answering(b"HTTP/1.1 200 OK\r\n", *[line] * (LONGEST_HEAD // len(line) + 2))) as url:
        with pytest.raises(httpx.RemoteProtocolError, match="too long"):
            await asked(url)


async def test_a_switch_of_protocols_is_no_answer() -> None:
    """Nobody asked for one."""
    async with serving(answering(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbytes")) as url:
        with pytest.raises(httpx.RemoteProtocolError, match="not HTTP"):
            await asked(url)


async def test_the_four_time_limits_of_httpx_hold() -> None:
    """Connect, write and read end a request each; there is no pool that one could wait for."""

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(60)

    async def deaf(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with serving(silent) as url:
        with pytest.raises(httpx.ReadTimeout):
            await asked(url, timeout=httpx.Timeout(10, read=0.05))
    async with serving(deaf) as url:
        with pytest.raises(httpx.WriteTimeout):
            await asked(url, "POST", content=b"x" * 50_000_000, timeout=httpx.Timeout(10, write=0.05))
        with pytest.raises(httpx.ConnectTimeout):  # no one answers the handshake
            await asked(url.replace("http:", "https:"), timeout=httpx.Timeout(10, connect=0.05))


async def test_a_deadline_ends_a_body_that_drips() -> None:
    """The pauses may be short: the whole answer must be there. What had come of it can still be read."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as url, create_http_client(user_agent="x") as http:
        deadline = asyncio.get_running_loop().time() + 0.2
        request = http.build_request("GET", url, extensions={**HERE, DEADLINE: deadline})
        response = await http.send(request, stream=True)
        with pytest.raises(httpx.ReadTimeout):
            await response.aread()
        assert response.extensions[UNREAD]() == b""
        await response.aclose()


async def test_a_large_body_waits_until_it_is_read() -> None:
    """A server is not read faster than its answer is wanted, and every byte comes."""
    size = 3_000_000
    content = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with (
        serving(answering(content)) as url,
        create_http_client(user_agent="x") as http,
        http.stream("GET", url, extensions=HERE) as response,
    ):
        begin = b""
        while len(begin) < HIGH_WATER:
            await asyncio.sleep(0)  # for a few turns of the loop
            begin += response.extensions[UNREAD]()
        left = [len(chunk) async for chunk in response.aiter_raw()]
    assert len(begin) + sum(left) == size
    assert max(left) < 2 * HIGH_WATER


async def test_a_host_is_looked_up_once_for_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred requests to a new host ask DNS once, and the answer is kept for a while."""
    looked_up: list[object] = []
    plain = socket.getaddrinfo

    def getaddrinfo(host: object, *more: object, **options: object) -> object:
        looked_up.append(host)
        return plain(host, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with serving(answering(OK)) as url, create_http_client(user_agent="x") as http:
        named = url.replace("127.0.0.1", "localhost")
        answers = await asyncio.gather(*(http.get(named, extensions=HERE) for _ in range(100)))
        answers.append(await http.get(named, extensions=HERE))
    assert {response.content for response in answers} == {b"hello"}
    assert looked_up == ["localhost"]


async def test_tls_connections_are_kept_as_well(tmp_path: Path) -> None:
    """One handshake serves requests that follow each other."""
    serves, trusts = certificate(tmp_path)
    handshakes = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal handshakes
        handshakes += 1
        await answering(OK, closes=False)(reader, writer)

    async with serving(handle, tls=serves) as url, create_http_client(user_agent="x", trust=lambda: trusts) as http:
        for _ in range(3):
            assert (await http.get(url, extensions=HERE)).content == b"hello"
    assert handshakes == 1


async def test_a_cancelled_request_closes_its_connection() -> None:
    """Its answer, which comes later, can be nobody else's."""
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        closed.set()

    async with serving(handle) as url, create_http_client(user_agent="x") as http:
        task = asyncio.create_task(http.get(url, extensions=HERE))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 10)


async def test_a_good_bye_that_was_not_read_yet_is_heeded() -> None:
    """On a busy loop the server's close may lie in the socket for a while: nothing is sent after it."""
    requests = connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests, connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(OK)
        await writer.drain()

    async with serving_aside(handle) as url, create_http_client(user_agent="x") as http:
        assert (await http.get(url, extensions=HERE)).content == b"hello"
        time.sleep(0.2)  # noqa: ASYNC251 -- the loop is busy, while the server, on a thread of its own, closes
        assert (await http.get(url, extensions=HERE)).content == b"hello"
    assert (connections, requests) == (2, 2)


async def test_names_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest hosts are forgotten; one that is not found any more is still where it was."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_given, **_more: found)
    names = NameCache()
    for number in range(MOST_HOSTS + 5):
        await names.addresses(f"shop-{number}.example", 443)
    assert len(names._known) == MOST_HOSTS

    def gone(*_given: object, **_more: object) -> object:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", gone)
    names._known = {host: (0.0, addresses) for host, (_, addresses) in names._known.items()}
    assert await names.addresses(f"shop-{MOST_HOSTS}.example", 443) == found
    with pytest.raises(socket.gaierror):
        await names.addresses("shop-0.example", 443)
    names.close()

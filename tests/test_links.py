"""Links: real sockets on the loopback interface, certificates made here, no sleeping."""

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from relto.errors import CallerError, PeerError
from relto.links import (
    Client,
    KeyFile,
    Limits,
    LinkError,
    Peer,
    PeerCredentials,
    Request,
    Response,
    Server,
    TlsAddress,
    UnixAddress,
    client_context,
    server_context,
    unix_request,
)
from relto.links.http import ClientWire, Refused, ServerWire

T = TypeVar("T")
PATIENCE_S = 20.0  # a test that takes this long hangs
SHORT_S = 0.15  # for the time-outs under test
SERVER_AUTH, CLIENT_AUTH = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


# --- Certificates -------------------------------------------------------------------------------


class Authority:
    """A CA, and leaves of it."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            builder(self.name, self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage(signs_certificates=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(
        self,
        *,
        purposes: tuple[x509.ObjectIdentifier, ...] = (SERVER_AUTH, CLIENT_AUTH),
        days: tuple[int, int] = (-1, 1),
    ) -> tuple[bytes, bytes]:
        """Certificate and key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("relto:KOR/tls")])
        certificate = (
            builder(name, self.name, key.public_key(), days=days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(san, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), key_pem(key)


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    days: tuple[int, int] = (-1, 1),
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def key_pem(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


KOR, STRANGER = Authority("KOR"), Authority("a stranger")
SERVER_LEAF, CLIENT_LEAF, OTHER_LEAF = KOR.leaf(), KOR.leaf(), KOR.leaf()
SERVER_CONTEXT = server_context(*SERVER_LEAF, [KOR.pem])
CLIENT_CONTEXT = client_context(*CLIENT_LEAF, [KOR.pem])
OTHER_CONTEXT = client_context(*OTHER_LEAF, [KOR.pem])


# --- Running both ends --------------------------------------------------------------------------


def run(test: Coroutine[Any, Any, T]) -> T:
    async def in_time() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await test

    return asyncio.run(in_time())


class Node:
    """A handler that echoes, and remembers what reached it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.errors: list[Exception] = []
        self.admitted: list[Peer] = []
        self.crowds: list[str] = []

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(200, request.body or b"{}")

    def identify(self, peer: Peer) -> Peer:
        self.admitted.append(peer)
        return peer


@contextlib.asynccontextmanager
async def serving(
    node: Node,
    *,
    context: ssl.SSLContext = SERVER_CONTEXT,
    handler: Callable[[Request], Awaitable[Response]] | None = None,
    linger_timeout_s: float = SHORT_S / 3,
    handshakes_at_once: int = 100_000,  # all come from one address
    **limits: Any,
) -> AsyncIterator[Server]:
    server = Server(
        handler or node.handle,
        TlsAddress("127.0.0.1", 0, context),
        on_error=node.errors.append,
        identify=node.identify,
        limits=Limits(
            linger_timeout_s=linger_timeout_s,
            handshakes_at_once=handshakes_at_once,
            address_handshakes_at_once=handshakes_at_once,
            **limits,
        ),
        on_crowd=node.crowds.append,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def asking(
    port: int,
    *,
    context: ssl.SSLContext = CLIENT_CONTEXT,
    check_peer: Callable[[bytes], None] = lambda der: None,
    connections_max: int = 4,
    **limits: Any,
) -> AsyncIterator[Client]:
    client = Client(
        "127.0.0.1",
        port,
        context,
        check_peer=check_peer,
        limits=Limits(**limits),
        connections_max=connections_max,
    )
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def connected(
    port: int, context: ssl.SSLContext | None = CLIENT_CONTEXT
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="" if context else None
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def drained(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other end closes, however it does."""
    received = b""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            received += data
    return received


async def raw(port: int, data: bytes, context: ssl.SSLContext = CLIENT_CONTEXT) -> bytes:
    """Everything that a server says to `data`, until it closes."""
    async with connected(port, context) as (reader, writer):
        writer.write(data)
        return await drained(reader)


@contextlib.asynccontextmanager
async def scripted(
    *answers: bytes, context: ssl.SSLContext = SERVER_CONTEXT
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A TLS server that answers the nth read of its life with `answers[n]`, closing after b"".

    What it read is in the list; b"" is a connection that ended.
    """
    received: list[bytes] = []
    left = list(answers)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            while True:
                received.append(await reader.read(65536))
                if not received[-1] or not left:
                    return
                answer = left.pop(0)
                writer.write(answer.removesuffix(b"<close>"))
                await writer.drain()
                if not answer or answer.endswith(b"<close>"):
                    return
        except OSError:
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], received
    finally:
        server.close()
        await server.wait_closed()
        if tasks:
            await asyncio.wait(tasks)


POST = b"POST /hop HTTP/1.1\r\nHost: relto\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 \r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CLOSES = b"\r\nConnection: close\r\n\r\n"


def refused(status: int, word: str) -> bytes:
    body = b'{"error":"' + word.encode() + b'"}'
    head = f"HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + CLOSES + body


# --- An exchange --------------------------------------------------------------------------------


def test_a_request_and_its_answer_arrive_whole() -> None:
    async def test() -> None:
        node = Node()
        body = bytes(range(256)) * 4096  # 1 MiB, what the limits just allow
        async with serving(node) as server, asking(server.port) as client:
            response = await client.request("POST", "/hop", body, timeout_s=10, query="a=1&b=%2F")
            assert response == Response(200, body, "application/json")
            peer = der(CLIENT_LEAF[0])
            assert node.requests == [Request("POST", "/hop", "a=1&b=%2F", body, peer)]
            response = await client.request("GET", "/", timeout_s=10)
            assert response == Response(200, b"{}")
        assert node.errors == []

    run(test())


def test_an_answer_has_neither_date_nor_name() -> None:
    async def test() -> None:
        async with serving(Node(), requests_per_connection_max=1) as server:
            said = await raw(server.port, POST)
        assert said == OK.replace(b"\r\n\r\n", CLOSES)

    run(test())


def test_connections_are_kept_and_never_more_than_allowed() -> None:
    async def test() -> None:
        node = Node()
        async with serving(node) as server, asking(server.port, connections_max=2) as client:
            for _ in range(5):
                await client.request("POST", "/hop", b"1", timeout_s=10)
            assert len(node.admitted) == 1
            await asyncio.gather(
                *(client.request("POST", "/hop", b"1", timeout_s=10) for _ in range(20))
            )
            assert len(node.admitted) == 2
        assert len(node.requests) == 25

    run(test())


def test_a_session_is_never_resumed() -> None:
    async def test() -> None:
        async with (
            serving(Node()) as server,
            connected(server.port) as (reader, writer),
        ):
            writer.write(POST)
            assert await reader.readexactly(len(OK)) == OK
            tls = writer.get_extra_info("ssl_object")
            assert tls.version() == "TLSv1.3"
            assert tls.session is None or not tls.session.has_ticket
            assert tls.compression() is None

    run(test())


def test_a_handler_that_raises_gets_its_peer_a_fixed_answer() -> None:
    async def test() -> None:
        node = Node()
        secret = ValueError("KOR:II i1")

        async def fail(request: Request) -> Response:
            if request.path == "/fail":
                raise secret
            return Response(200, b"{}")

        async with serving(node, handler=fail) as server, asking(server.port) as client:
            response = await client.request("POST", "/fail", b"1", timeout_s=10)
            assert response == Response(500, b'{"error":"internal"}')
            assert (await client.request("GET", "/", timeout_s=10)).status == 200
        assert node.errors == [secret]
        assert len(node.admitted) == 1

    run(test())


def test_the_peer_of_every_request_is_the_one_who_sent_it() -> None:
    async def test() -> None:
        node = Node()
        async with (
            serving(node) as server,
            asking(server.port) as client,
            asking(server.port, context=OTHER_CONTEXT) as other,
        ):
            for asker in (client, other, client):
                await asker.request("GET", "/", timeout_s=10)
        mine, others = der(CLIENT_LEAF[0]), der(OTHER_LEAF[0])
        assert [request.peer for request in node.requests] == [mine, others, mine]

    run(test())


# --- What a server refuses ----------------------------------------------------------------------


def head(*lines: str, first: str = "POST /hop HTTP/1.1", host: str = "Host: relto") -> bytes:
    return "\r\n".join([first, host, *lines, "", ""]).encode("latin-1")


MALFORMED = {
    "garbage": b"\x00\x01\x02\xff\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01",
    "no request line": b"\r\n",
    "a leading space": b" GET / HTTP/1.1\r\nHost: relto\r\n\r\n",
    "one word": b"GET\r\n\r\n",
    "no version": b"GET /\r\nHost: relto\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: relto\r\n\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\nHost: relto\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: relto\n\n",
    "one bare line feed, unfinished": b"GET / HTTP/1.1\nHost: relto\r\n",
    "a bare carriage return": b"GET / HTTP/1.1\r\nHost: relto\rX: 1\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\nHost: rel\x00to\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: relto\r\nX: 1\r\n 2\r\n\r\n",
    "a fold that hides a length": head("X: 1", " Content-Length: 5"),
    "a name with a space": head("Content-Length : 5"),
    "a header without a colon": head("Content-Length"),
    "a letter beyond ASCII": head("X: \xe9", "Content-Length: 0"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": head("Host: relto", "Content-Length: 0"),
    "length and coding": head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "coding and length": head("transfer-encoding: chunked", "content-length: 5") + b"0\r\n\r\n",
    "two lengths": head("Content-Length: 5", "Content-Length: 6") + b"hello!",
    "two equal lengths": head("Content-Length: 5", "Content-Length: 5") + b"hello",
    "a list of lengths": head("Content-Length: 5, 5") + b"hello",
    "a signed length": head("Content-Length: +5") + b"hello",
    "a negative length": head("Content-Length: -5") + b"hello",
    "a hexadecimal length": head("Content-Length: 0x5") + b"hello",
    "a padded length": head("Content-Length: 05") + b"hello",
    "an empty length": head("Content-Length:") + b"hello",
    "a length of 20 digits": head("Content-Length: 99999999999999999999"),
    "an upgrade": head("Content-Length: 0", "Connection: upgrade", "Upgrade: h2c"),
    "a body on GET": head("Content-Length: 5", first="GET / HTTP/1.1") + b"hello",
    "an absolute target": head(first="GET http://relto/ HTTP/1.1"),
    "a star": head(first="GET * HTTP/1.1"),
    "a fragment": head(first="GET /#a HTTP/1.1"),
    "dots": head(first="GET /items/../keys HTTP/1.1"),
    "encoded dots": head(first="GET /items/%2e%2e/keys HTTP/1.1"),
    "an encoded NUL": head(first="GET /items/%00 HTTP/1.1"),
    "a backslash": head(first="GET /items\\..\\keys HTTP/1.1"),
    "an empty segment": head(first="GET //keys HTTP/1.1"),
    "a segment at the end": head(first="GET /keys/ HTTP/1.1"),
}
REFUSED = {name: (data, refused(400, "malformed")) for name, data in MALFORMED.items()} | {
    "no length": (head(), refused(411, "length-required")),
    "chunks": (
        head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        refused(411, "length-required"),
    ),
    "odd coding": (head("Transfer-Encoding: xchunked"), refused(411, "length-required")),
    "a long body": (head("Content-Length: 1048577"), refused(413, "body-too-large")),
    "an expectation": (
        head("Content-Length: 5", "Expect: 100-continue"),
        refused(417, "expectation-refused"),
    ),
    "long headers": (head("X: " + "x" * 16384), refused(431, "headers-too-large")),
    "endless headers": (
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000,
        refused(431, "headers-too-large"),
    ),
    "an endless line": (b"A" * 16385, refused(431, "headers-too-large")),
    "HEAD": (head(first="HEAD / HTTP/1.1"), refused(501, "method-unknown")),
    "CONNECT": (head(first="CONNECT relto:443 HTTP/1.1"), refused(501, "method-unknown")),
    "a small method": (head(first="get / HTTP/1.1"), refused(501, "method-unknown")),
    "HTTP/1.0": (head(first="GET / HTTP/1.0"), refused(505, "version-unknown")),
    "the HTTP/2 preface": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        refused(505, "version-unknown"),
    ),
    "HTTP/1.2": (head(first="GET / HTTP/1.2"), refused(505, "version-unknown")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_malformed_gets_a_fixed_refusal_and_the_connection_ends(name: str) -> None:
    data, refusal = REFUSED[name]

    async def test() -> None:
        node = Node()
        async with serving(node) as server, asking(server.port) as client:
            assert await raw(server.port, data) == refusal
            assert node.requests == []
            assert (await client.request("GET", "/", timeout_s=10)).status == 200
        assert node.errors == []

    run(test())


def test_a_refused_peer_that_sends_on_still_reads_its_refusal() -> None:
    async def test() -> None:
        async with serving(Node(), body_bytes_max=10, linger_timeout_s=1.0) as server:
            data = head("Content-Length: 100000") + bytes(100_000)
            assert await raw(server.port, data) == refused(413, "body-too-large")

    run(test())


def test_a_refused_peer_has_a_moment_to_read_its_refusal() -> None:
    async def test() -> None:
        async with (
            serving(Node(), linger_timeout_s=PATIENCE_S, close_timeout_s=SHORT_S) as server,
            connected(server.port) as (reader, writer),
        ):
            refusal = refused(413, "body-too-large")
            writer.write(head("Content-Length: 9999999"))
            assert await reader.readexactly(len(refusal)) == refusal
            with pytest.raises(TimeoutError):  # neither closed nor reset
                async with asyncio.timeout(SHORT_S):
                    await reader.read(1)

    run(test())


def test_what_follows_a_request_is_the_next_one_and_refused_if_it_is_garbage() -> None:
    async def test() -> None:
        node = Node()
        async with serving(node) as server:
            said = await raw(server.port, POST + POST + b"\x00garbage\r\n\r\n" + POST)
        assert said == OK + OK + refused(400, "malformed")
        assert len(node.requests) == 2

    run(test())


@given(st.data())
def test_how_the_bytes_are_cut_changes_nothing(data: st.DataObject) -> None:
    stream = POST + b"GET /a?b=c HTTP/1.1\r\nHost: relto\r\n\r\n" + POST
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    wire = ServerWire(Limits())
    taken: list[object] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        wire.feed(stream[start:end])
        while True:
            if len(taken) % 2 == 0:
                first = wire.head()
                if first is None:
                    break
                taken.append((first.method, first.path, first.query))
            body = wire.body()
            if body is None:
                break
            taken.append(body)
            wire.answer(Response(200, b""), close=False)
            assert wire.next_message()
    assert taken == [
        ("POST", "/hop", ""),
        b"hello",
        ("GET", "/a", "b=c"),
        b"",
        ("POST", "/hop", ""),
        b"hello",
    ]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_framing(data: bytes) -> None:
    for wire in (ServerWire(Limits()), ClientWire(Limits())):
        wire.feed(data)
        with contextlib.suppress(Refused):
            _ = wire.head() if isinstance(wire, ServerWire) else wire.response()


# --- Limits, both sides of each -----------------------------------------------------------------


def test_a_body_may_be_as_long_as_the_limit_and_no_longer() -> None:
    async def test() -> None:
        node = Node()
        async with serving(node, body_bytes_max=10) as server, asking(server.port) as client:
            assert (await client.request("POST", "/hop", bytes(10), timeout_s=10)).status == 200
            response = await client.request("POST", "/hop", bytes(11), timeout_s=10)
            assert response == Response(413, b'{"error":"body-too-large"}')
        assert [len(request.body) for request in node.requests] == [10]

    run(test())


def test_headers_may_be_as_long_as_the_limit_and_no_longer() -> None:
    async def test() -> None:
        async with serving(Node(), header_bytes_max=200, requests_per_connection_max=1) as server:
            plain = head("X: ", "Content-Length: 5")
            fits = plain.replace(b"X: ", b"X: " + b"x" * (200 - len(plain)))
            assert len(fits) == 200
            assert (await raw(server.port, fits + b"hello")).startswith(b"HTTP/1.1 200 ")
            too_long = fits.replace(b"X: ", b"X: x") + b"hello"
            assert await raw(server.port, too_long) == refused(431, "headers-too-large")

    run(test())


def test_a_connection_serves_as_many_requests_as_the_limit() -> None:
    async def test() -> None:
        node = Node()
        async with serving(node, requests_per_connection_max=2) as server:
            said = await raw(server.port, POST * 3)
            assert said == OK + OK.replace(b"\r\n\r\n", CLOSES)
            async with asking(server.port) as client:
                for _ in range(5):
                    assert (await client.request("POST", "/hop", b"1", timeout_s=10)).status == 200
        assert len(node.admitted) == 1 + 3

    run(test())


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(POST)
    try:
        return await reader.readexactly(len(OK)) == OK
    except (OSError, EOFError):
        return False


def test_a_peer_has_as_many_connections_as_the_limit_and_others_keep_theirs() -> None:
    async def test() -> None:
        async with (
            serving(Node(), connections_per_peer_max=2) as server,
            contextlib.AsyncExitStack() as stack,
        ):
            mine = [await stack.enter_async_context(connected(server.port)) for _ in range(2)]
            assert all([await answers(*each) for each in mine])
            async with connected(server.port) as third:
                assert not await answers(*third)
            async with connected(server.port, OTHER_CONTEXT) as other:
                assert await answers(*other)
            assert all([await answers(*each) for each in mine])
            mine[0][1].write(b"\x00")  # ends the first
            await drained(mine[0][0])
            async with connected(server.port) as next_one:
                assert await answers(*next_one)

    run(test())


def test_all_peers_together_have_as_many_connections_as_the_limit() -> None:
    async def test() -> None:
        async with (
            serving(Node(), connections_max=2) as server,
            connected(server.port) as first,
            connected(server.port, OTHER_CONTEXT) as second,
        ):
            assert await answers(*first)
            assert await answers(*second)
            async with connected(server.port, OTHER_CONTEXT) as third:
                assert not await answers(*third)

    run(test())


def test_whom_identify_refuses_is_not_answered() -> None:
    async def test() -> None:
        def identify(peer: Peer) -> str:
            if peer == der(OTHER_LEAF[0]):
                raise PeerError("not a party")
            return "KOR"

        node = Node()
        server = Server(
            node.handle,
            TlsAddress("127.0.0.1", 0, SERVER_CONTEXT),
            on_error=node.errors.append,
            identify=identify,
        )
        await server.start()
        try:
            assert await raw(server.port, POST, OTHER_CONTEXT) == b""
            async with connected(server.port) as mine:
                assert await answers(*mine)
        finally:
            await server.close()
        assert [request.peer for request in node.requests] == [der(CLIENT_LEAF[0])]
        assert node.errors == []

    run(test())


def test_strangers_who_hoard_connections_keep_nobody_out() -> None:
    async def test() -> None:
        async with (
            serving(Node(), handshakes_max=2, handshake_timeout_s=PATIENCE_S) as server,
            connected(server.port, None) as (first, _),
            connected(server.port, None),
            connected(server.port, None),
            asking(server.port) as client,
        ):
            assert await drained(first) == b""
            assert (await client.request("GET", "/", timeout_s=10)).status == 200

    run(test())


def test_beyond_the_limit_a_connection_ends_before_any_handshake_and_the_others_go_on() -> None:
    async def test() -> None:
        node = Node()
        async with (
            serving(node, handshakes_at_once=2, address_handshakes_per_s=0.01) as server,
            connected(server.port) as first,
            connected(server.port) as second,
        ):
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                assert await drained(reader) == b""
                writer.close()
            assert (server.handshakes_refused, node.crowds) == (3, ["127.0.0.1"])
            assert await answers(*first)
            assert await answers(*second)

    run(test())


def test_an_address_that_a_peer_came_from_has_handshakes_that_strangers_cannot_take() -> None:
    async def stranger(port: int, host: str) -> tuple[bytes, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
        writer.write(b"not TLS")
        return await drained(reader), writer

    async def test() -> None:
        node = Node()
        async with (
            serving(node, handshakes_at_once=2, handshakes_per_s=0.01) as server,
            connected(server.port) as known,
        ):
            assert await answers(*known)
            for host, refused in (("127.0.0.2", 0), ("127.0.0.3", 1)):
                _, writer = await stranger(server.port, host)
                assert server.handshakes_refused == refused
                writer.close()
            async with connected(server.port) as again:
                assert await answers(*again)

    run(test())


def test_who_is_known_does_not_make_room_for_strangers() -> None:
    async def test() -> None:
        async with (
            serving(Node(), handshakes_max=1) as server,
            connected(server.port) as known,
        ):
            assert await answers(*known)
            async with (
                connected(server.port, None) as (first, _),
                connected(server.port, None),
            ):
                assert await drained(first) == b""
                assert await answers(*known)

    run(test())


SLOW = {
    "no handshake": (b"", "handshake_timeout_s"),
    "no request": (b"", "head_timeout_s"),
    "half a head": (POST[:30], "head_timeout_s"),
    "half a body": (POST[:-1], "body_timeout_s"),
    "nothing after a request": (POST, "idle_timeout_s"),
    "half a second head": (POST + POST[:30], "head_timeout_s"),
}


@pytest.mark.parametrize("name", SLOW)
def test_who_is_slow_is_cut_off_and_others_are_served(name: str) -> None:
    data, limit = SLOW[name]
    limits: dict[str, Any] = {
        f.name: PATIENCE_S for f in fields(Limits) if f.name.endswith("timeout_s")
    }
    context = None if limit == "handshake_timeout_s" else CLIENT_CONTEXT

    async def test() -> None:
        async with (
            serving(Node(), **(limits | {limit: SHORT_S, "close_timeout_s": 1.0})) as server,
            connected(server.port, context) as (reader, writer),
        ):
            writer.write(data)
            said = await drained(reader)
            assert said == (OK if data.startswith(POST) else b"")
            async with asking(server.port) as client:
                assert (await client.request("GET", "/", timeout_s=10)).status == 200

    run(test())


TRICKLE = head("X: " + "x" * 4000, "Content-Length: 4000")


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"", "head_timeout_s"),
        (TRICKLE[:40], "head_timeout_s"),
        (TRICKLE, "body_timeout_s"),
    ],
)
def test_a_trickle_does_not_lengthen_the_time(data: bytes, limit: str) -> None:
    async def test() -> None:
        node = Node()
        limits: dict[str, Any] = {limit: SHORT_S}
        async with serving(node, **limits) as server, connected(server.port) as (reader, writer):
            writer.write(data)
            said = None
            while said is None:  # one byte more, whenever nothing has been heard for a moment
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SHORT_S / 20):
                        said = await drained(reader)
                writer.write(b"x")
            assert said == b""
        assert node.requests == []

    run(test())


def test_who_does_not_read_its_answer_is_cut_off() -> None:
    async def test() -> None:
        handled = asyncio.Event()

        async def much(request: Request) -> Response:
            handled.set()
            return Response(200, bytes(64 * 1024 * 1024))

        async with (
            serving(Node(), handler=much, write_timeout_s=SHORT_S) as server,
            connected(server.port) as (_, writer),
        ):
            writer.write(POST)
            await handled.wait()
            async with asyncio.timeout(PATIENCE_S / 2):
                await server.close()  # waits for the connection at work

    run(test())


def test_limits_are_above_zero() -> None:
    for field in fields(Limits):
        with pytest.raises(ValueError, match=field.name):
            replace(Limits(), **{field.name: 0})


# --- Cuts ---------------------------------------------------------------------------------------


def test_a_request_cut_at_any_byte_is_not_handled_and_the_server_serves_on() -> None:
    async def test() -> None:
        node = Node()
        async with serving(node) as server:
            for offset in range(len(POST)):
                async with connected(server.port) as (_, writer):
                    writer.write(POST[:offset])
                    await writer.drain()
            assert node.requests == []
            async with asking(server.port) as client:
                assert (await client.request("POST", "/hop", b"1", timeout_s=10)).status == 200
        assert len(node.requests) == 1
        assert node.errors == []

    run(test())


def test_an_answer_cut_at_any_byte_is_never_taken_for_a_whole_one() -> None:
    async def test() -> None:
        for offset in range(len(OK)):
            async with scripted(OK[:offset] + b"<close>") as (port, _), asking(port) as client:
                with pytest.raises(LinkError, match=r"closed before|connection"):
                    await client.request("POST", "/hop", b"hello", timeout_s=10)

    run(test())


@pytest.mark.parametrize("direction", ["to the server", "to the client"])
def test_a_connection_cut_anywhere_on_the_wire_leaves_both_ends_working(direction: str) -> None:
    """The cut falls into the TLS stream: handshake, request, answer."""

    async def test() -> None:
        node = Node()
        async with serving(node) as server:
            offset, whole = 0, False
            while not whole:
                async with cutting(server.port, direction, offset) as port, asking(port) as client:
                    try:
                        response = await client.request("POST", "/hop", b"hello", timeout_s=10)
                        assert response == Response(200, b"hello")
                        whole = True
                    except LinkError:
                        offset += 11
            assert offset > 500
            async with asking(server.port) as client:
                assert (await client.request("GET", "/", timeout_s=10)).status == 200
        assert node.errors == []

    run(test())


@contextlib.asynccontextmanager
async def cutting(port: int, direction: str, offset: int) -> AsyncIterator[int]:
    """A proxy that cuts its connection once `offset` bytes have passed in one direction."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None
    ) -> None:
        with contextlib.suppress(OSError):
            while left != 0 and (data := await reader.read(left or 65536)):
                writer.write(data)
                await writer.drain()
                left = None if left is None else left - len(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        async with connected(port, None) as (far_reader, far_writer):
            to_server = direction == "to the server"
            both = [
                asyncio.create_task(carry(reader, far_writer, offset if to_server else None)),
                asyncio.create_task(carry(far_reader, writer, None if to_server else offset)),
            ]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for each in both:
                each.cancel()
            await asyncio.wait(both)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        if tasks:
            await asyncio.wait(tasks)


# --- TLS: who is let in -------------------------------------------------------------------------


def plain_context(leaf: tuple[bytes, bytes] | None, *, trusts: Authority = KOR) -> ssl.SSLContext:
    """A client that does not care: what it may do, the server alone decides."""
    if leaf:
        return client_context(*leaf, [trusts.pem])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trusts.pem.decode())
    return context


def tls_1_2_context() -> ssl.SSLContext:
    context = plain_context(CLIENT_LEAF)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


BAD_CLIENTS: dict[str, Callable[[], ssl.SSLContext]] = {
    "no certificate": lambda: plain_context(None),
    "another CA": lambda: plain_context(STRANGER.leaf()),
    "expired": lambda: plain_context(KOR.leaf(days=(-9, -1))),
    "not yet valid": lambda: plain_context(KOR.leaf(days=(1, 9))),
    "a server's only": lambda: plain_context(KOR.leaf(purposes=(SERVER_AUTH,))),
    "for code only": lambda: plain_context(KOR.leaf(purposes=(ExtendedKeyUsageOID.CODE_SIGNING,))),
    "TLS 1.2": tls_1_2_context,
}


@pytest.mark.parametrize("name", BAD_CLIENTS)
def test_a_server_serves_only_who_shows_a_certificate_of_a_named_ca(name: str) -> None:
    async def test() -> None:
        node = Node()
        async with serving(node) as server, asking(server.port) as client:
            said = b""
            with contextlib.suppress(OSError):
                said = await raw(server.port, POST, BAD_CLIENTS[name]())
            assert said == b""
            assert node.admitted == []
            assert (await client.request("GET", "/", timeout_s=10)).status == 200
        assert node.errors == []

    run(test())


def test_a_client_whose_certificate_is_refused_late_says_so() -> None:
    async def test() -> None:
        async with (
            serving(Node()) as server,
            asking(server.port, context=plain_context(STRANGER.leaf())) as client,
        ):
            with pytest.raises(LinkError, match=r"tls: .*unknown ca|closed|connection"):
                await client.request("GET", "/", timeout_s=10)

    run(test())


BAD_SERVERS: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "another CA": STRANGER.leaf,
    "expired": lambda: KOR.leaf(days=(-9, -1)),
    "a client's only": lambda: KOR.leaf(purposes=(CLIENT_AUTH,)),
}


@pytest.mark.parametrize("name", BAD_SERVERS)
def test_a_client_sends_nothing_to_a_server_without_a_certificate_of_a_named_ca(name: str) -> None:
    async def test() -> None:
        context = server_context(*BAD_SERVERS[name](), [KOR.pem])
        checked: list[bytes] = []
        async with (
            scripted(OK, context=context) as (port, received),
            asking(port, check_peer=checked.append) as client,
        ):
            with pytest.raises(
                LinkError, match=r"peer \"127.0.0.1\" port \d+: certificate refused"
            ):
                await client.request("POST", "/hop", b"hello", timeout_s=10)
        assert received == []
        assert checked == []

    run(test())


def test_a_client_does_not_speak_tls_1_2() -> None:
    async def test() -> None:
        context = server_context(*SERVER_LEAF, [KOR.pem])
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with scripted(OK, context=context) as (port, received), asking(port) as client:
            with pytest.raises(LinkError, match=r"tls|connection"):
                await client.request("GET", "/", timeout_s=10)
        assert received == []

    run(test())


def test_a_peer_that_is_refused_is_sent_nothing() -> None:
    async def test() -> None:
        checked: list[bytes] = []

        def check_peer(certificate: bytes) -> None:
            checked.append(certificate)
            raise PeerError("not the node of JPN")

        async with scripted(OK) as (port, received), asking(port, check_peer=check_peer) as client:
            with pytest.raises(PeerError, match="not the node of JPN"):
                await client.request("POST", "/hop", b"hello", timeout_s=10)
        assert set(received) <= {b""}
        assert checked == [der(SERVER_LEAF[0])]

    run(test())


def test_a_peer_that_is_revoked_is_sent_nothing_more_on_an_old_connection() -> None:
    async def test() -> None:
        revoked = False

        def check_peer(certificate: bytes) -> None:
            if revoked:
                raise PeerError("revoked")

        node = Node()
        async with (
            serving(node) as server,
            asking(server.port, check_peer=check_peer) as client,
        ):
            await client.request("GET", "/", timeout_s=10)
            revoked = True
            with pytest.raises(PeerError, match="revoked"):
                await client.request("GET", "/", timeout_s=10)
        assert len(node.requests) == 1

    run(test())


def test_only_strict_contexts_are_taken() -> None:
    for context in (tls_1_2_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)):
        with pytest.raises(ValueError, match="server_context"):
            TlsAddress("127.0.0.1", 0, context)
    with pytest.raises(ValueError, match="client_context"):
        Client("127.0.0.1", 1, tls_1_2_context(), check_peer=lambda der: None)


def test_a_key_file_is_opened_with_its_password_and_must_have_one(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        builder(KOR.name, KOR.name, key.public_key()).sign(KOR.key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    certificate_path, sealed, bare = (tmp_path / name for name in ("tls.pem", "tls.key", "bare"))
    certificate_path.write_bytes(certificate)
    sealed.write_bytes(key_pem(key, b"open sesame"))
    bare.write_bytes(key_pem(key))
    for make in (server_context, client_context):
        make(certificate_path, KeyFile(sealed, lambda: b"open sesame"), [KOR.pem])
        make(certificate, key_pem(key), [KOR.pem])
        cases: dict[KeyFile | bytes, str] = {
            KeyFile(sealed, lambda: b"wrong"): "wrong password",
            KeyFile(sealed, lambda: b""): "cannot be used",
            KeyFile(bare, lambda: b"any"): "is not encrypted: encrypt it",
            KeyFile(tmp_path / "none", lambda: b"any"): "No such file",
            key_pem(key, b"nobody is asked for it"): "cannot be used",
            SERVER_LEAF[1]: "key values mismatch",
            b"no key": "cannot be used",
        }
        for wrong, message in cases.items():
            with pytest.raises(CallerError, match=message):
                make(certificate_path, wrong, [KOR.pem])


def test_a_context_names_at_least_one_ca() -> None:
    for make in (server_context, client_context):
        with pytest.raises(CallerError, match="name the CAs"):
            make(*SERVER_LEAF, [])
        with pytest.raises(CallerError, match="name the CAs"):
            make(*SERVER_LEAF, [SERVER_LEAF[0]])
        for bad in (b"", b"no certificate", b"\xff"):
            with pytest.raises(CallerError, match="not readable as PEM"):
                make(*SERVER_LEAF, [KOR.pem, bad])


# --- The client ---------------------------------------------------------------------------------


def test_a_request_that_fails_on_a_kept_connection_is_sent_once_more() -> None:
    async def test() -> None:
        async with scripted(OK, b"", OK) as (port, received), asking(port) as client:
            for _ in range(2):
                response = await client.request("POST", "/hop", b"hello", timeout_s=10)
                assert response == Response(200, b"hello")
        assert [data for data in received if data] == [received[0]] * 3

    run(test())


@pytest.mark.parametrize(
    "answers", [(b"",), (OK, b"HTTP/1.1 2<close>"), (OK, OK[:-5] + b"<close>")]
)
def test_it_is_not_sent_again_from_a_new_connection_or_once_an_answer_began(
    answers: tuple[bytes, ...],
) -> None:
    async def test() -> None:
        async with scripted(*answers, OK) as (port, received), asking(port) as client:
            for _ in answers[1:]:
                await client.request("POST", "/hop", b"hello", timeout_s=10)
            with pytest.raises(LinkError, match="closed before its answer was whole"):
                await client.request("POST", "/hop", b"hello", timeout_s=10)
            assert len([data for data in received if data]) == len(answers)

    run(test())


def test_a_connection_that_the_server_ended_is_replaced() -> None:
    async def test() -> None:
        node = Node()
        async with serving(node, idle_timeout_s=0.001) as server, asking(server.port) as client:
            for _ in range(10):
                assert (await client.request("POST", "/hop", b"1", timeout_s=10)).status == 200

    run(test())


BAD_ANSWERS = {
    "garbage": b"\x00\xff\r\n\r\n",
    "words": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/1.0": OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no length": b"HTTP/1.1 200 \r\nContent-Type: application/json\r\n\r\nhello",
    "two lengths": OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"),
    "chunks": b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "both": OK.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "bare line feeds": OK.replace(b"\r\n", b"\n"),
    "continue": b"HTTP/1.1 100 \r\n\r\n" + OK,
    "switching": b"HTTP/1.1 101 \r\nUpgrade: h2c\r\n\r\n",
    "204": b"HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\nhello",
    "600": OK.replace(b"200", b"600"),
    "no type": OK.replace(b"Content-Type: application/json\r\n", b""),
    "a strange type": OK.replace(b"application/json", b"<script>"),
    "a long body": OK.replace(b"Length: 5", b"Length: 1001"),
    "long headers": OK.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 16384 + b"\r\n\r\n"),
    "endless headers": b"HTTP/1.1 200 \r\n" + b"X: y\r\n" * 4000,
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_no_server_of_ours_gives_is_an_error(name: str) -> None:
    async def test() -> None:
        async with (
            scripted(BAD_ANSWERS[name], OK) as (port, _),
            asking(port, body_bytes_max=1000) as client,
        ):
            with pytest.raises(LinkError, match="bad answer"):
                await client.request("POST", "/hop", b"hello", timeout_s=10)
            response = await client.request("POST", "/hop", b"hello", timeout_s=10)
            assert response == Response(200, b"hello")

    run(test())


def test_an_answer_may_be_as_long_as_the_limit() -> None:
    async def test() -> None:
        async with scripted(OK) as (port, _), asking(port, body_bytes_max=5) as client:
            assert (await client.request("GET", "/", timeout_s=10)).body == b"hello"

    run(test())


def test_bytes_after_an_answer_are_not_the_next_answer() -> None:
    async def test() -> None:
        forged = OK.replace(b"hello", b"other")
        async with scripted(OK + forged, OK) as (port, _), asking(port) as client:
            for _ in range(2):
                assert (await client.request("GET", "/", timeout_s=10)).body == b"hello"

    run(test())


def test_time_covers_waiting_for_a_place_and_for_an_answer() -> None:
    async def test() -> None:
        release = asyncio.Event()

        async def wait(request: Request) -> Response:
            await release.wait()
            return Response(200, b"{}")

        node = Node()
        async with (
            serving(node, handler=wait) as server,
            asking(server.port, connections_max=1) as client,
        ):
            for _ in range(2):
                both = [client.request("GET", "/", timeout_s=SHORT_S) for _ in range(2)]
                for error in await asyncio.gather(*both, return_exceptions=True):
                    assert isinstance(error, LinkError)
                    assert str(error).endswith("no answer within 0.15 s")
            release.set()
            assert (await client.request("GET", "/", timeout_s=10)).status == 200

    run(test())


def test_a_peer_that_does_not_read_does_not_hold_a_request_for_longer_than_its_time() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            async with asking(deaf.getsockname()[1]) as client:
                with pytest.raises(LinkError, match=r"no answer within 0\.15 s"):
                    await client.request("POST", "/hop", bytes(1024), timeout_s=SHORT_S)

    run(test())


def test_what_was_not_sent_in_time_is_thrown_away() -> None:
    async def test() -> None:
        late, received = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await late.wait()
            data = await drained(reader)
            writer.transport.abort()
            received.set_result(len(data))

        server = await asyncio.start_server(read_late, "127.0.0.1", 0, ssl=SERVER_CONTEXT)
        port = server.sockets[0].getsockname()[1]
        body = bytes(32 * 1024 * 1024)
        async with server, asking(port, body_bytes_max=len(body)) as client:
            with pytest.raises(LinkError, match=r"no answer within 0\.15 s"):
                await client.request("POST", "/hop", body, timeout_s=SHORT_S)
            late.set()
            assert await received < len(body)

    run(test())


def test_a_cancelled_request_gives_its_place_back() -> None:
    async def test() -> None:
        arrived, node = asyncio.Event(), Node()

        async def wait_once(request: Request) -> Response:
            if not arrived.is_set():
                arrived.set()
                await asyncio.Event().wait()
            return Response(200, b"{}")

        async with (
            serving(node, handler=wait_once, close_timeout_s=SHORT_S) as server,
            asking(server.port, connections_max=1) as client,
        ):
            task = asyncio.create_task(client.request("GET", "/", timeout_s=10))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.request("GET", "/", timeout_s=10)).status == 200

    run(test())


def test_nobody_there_is_an_error() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with asking(port) as client:
            with pytest.raises(LinkError, match=r"refused|connect"):
                await client.request("GET", "/", timeout_s=10)

    run(test())


def test_a_closed_client_asks_nobody_and_its_requests_fail() -> None:
    async def test() -> None:
        arrived = asyncio.Event()

        async def wait(request: Request) -> Response:
            arrived.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with (
            serving(Node(), handler=wait, close_timeout_s=SHORT_S) as server,
            asking(server.port) as client,
        ):
            task = asyncio.create_task(client.request("GET", "/", timeout_s=10))
            await arrived.wait()
            await client.close()
            with pytest.raises(LinkError):
                await task
            with pytest.raises(LinkError, match="this client is closed"):
                await client.request("GET", "/", timeout_s=10)

    run(test())


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("HEAD", "/", "", b""),
        ("get", "/", "", b""),
        ("GET", "/", "", b"x"),
        ("GET", "", "", b""),
        ("GET", "hop", "", b""),
        ("GET", "/a b", "", b""),
        ("GET", "/a\r\nX: 1", "", b""),
        ("GET", "/../a", "", b""),
        ("GET", "/a", "b c", b""),
        ("GET", "/가", "", b""),
        ("POST", "/hop", "", bytes(11)),
    ],
)
def test_a_request_that_would_be_refused_is_not_sent(
    method: str, path: str, query: str, body: bytes
) -> None:
    async def test() -> None:
        async with scripted() as (port, received), asking(port, body_bytes_max=10) as client:
            with pytest.raises(ValueError, match=r"unknown|malformed|too large"):
                await client.request(method, path, body, timeout_s=10, query=query)
        assert received == []

    run(test())


@pytest.mark.parametrize(
    "values",
    [
        (199, "a/b"),
        (204, "a/b"),
        (304, "a/b"),
        (600, "a/b"),
        (200, ""),
        (200, "a/b\r\nX: 1"),
        (200, "가/b"),
    ],
)
def test_an_answer_that_cannot_be_framed_cannot_be_built(values: tuple[int, str]) -> None:
    with pytest.raises(ValueError, match=r"not used|malformed"):
        Response(values[0], b"", values[1])


# --- Ending -------------------------------------------------------------------------------------


def test_a_closing_server_finishes_what_it_works_on_and_takes_nothing_new() -> None:
    async def test() -> None:
        arrived, release = asyncio.Event(), asyncio.Event()

        async def wait(request: Request) -> Response:
            arrived.set()
            await release.wait()
            return Response(200, b"done")

        async with (
            serving(Node(), handler=wait) as server,
            connected(server.port) as (idle, _),
            asking(server.port) as client,
        ):
            port = server.port
            task = asyncio.create_task(client.request("GET", "/", timeout_s=10))
            await arrived.wait()
            closing = asyncio.create_task(server.close())
            assert await drained(idle) == b""
            with pytest.raises(OSError, match=r"refused|Connect"):
                await asyncio.open_connection("127.0.0.1", port)
            assert not closing.done()
            release.set()
            assert await task == Response(200, b"done")
            await closing
            with pytest.raises(CallerError, match="started once"):
                await server.start()

    run(test())


def test_the_last_answer_of_a_closing_server_says_that_it_is_the_last() -> None:
    async def test() -> None:
        arrived, release = asyncio.Event(), asyncio.Event()

        async def wait(request: Request) -> Response:
            arrived.set()
            await release.wait()
            return Response(200, request.body)

        async with (
            serving(Node(), handler=wait) as server,
            connected(server.port) as (reader, writer),
        ):
            writer.write(POST)
            await arrived.wait()
            closing = asyncio.create_task(server.close())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.shield(closing)
            release.set()
            assert await drained(reader) == OK.replace(b"\r\n\r\n", CLOSES)
            await closing

    run(test())


def test_a_handler_that_does_not_end_is_cancelled() -> None:
    async def test() -> None:
        arrived, cancelled = asyncio.Event(), asyncio.Event()

        async def wait(request: Request) -> Response:
            arrived.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

        async with (
            serving(Node(), handler=wait, close_timeout_s=SHORT_S) as server,
            asking(server.port) as client,
        ):
            task = asyncio.create_task(client.request("GET", "/", timeout_s=10))
            await arrived.wait()
            await server.close()
            assert cancelled.is_set()
            with pytest.raises(LinkError):
                await task

    run(test())


def test_a_request_is_finished_though_its_peer_has_gone() -> None:
    async def test() -> None:
        arrived, gone, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def wait(request: Request) -> Response:
            arrived.set()
            await gone.wait()
            finished.set()
            return Response(200, b"{}")

        node = Node()
        async with serving(node, handler=wait) as server:
            async with connected(server.port) as (_, writer):
                writer.write(POST)
                await arrived.wait()
            gone.set()
            await finished.wait()
        assert node.errors == []

    run(test())


def test_a_taken_port_is_refused() -> None:
    async def test() -> None:
        async with serving(Node()) as server:
            with pytest.raises(CallerError, match=r'cannot listen at "127\.0\.0\.1" port'):
                TlsAddress("127.0.0.1", server.port, SERVER_CONTEXT).listen()

    run(test())


# --- The Unix socket ----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@contextlib.asynccontextmanager
async def serving_people(node: Node, address: UnixAddress, **limits: Any) -> AsyncIterator[Server]:
    server = Server(node.handle, address, on_error=node.errors.append, limits=Limits(**limits))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@pytest.mark.parametrize("size", [0, 200_000])
def test_who_has_too_many_connections_is_told_to_come_back(path: Path, size: int) -> None:
    busy = Response(503, b"later")

    async def test() -> None:
        node = Node()
        server = Server(
            node.handle, UnixAddress(path), on_error=node.errors.append, busy=busy,
            limits=Limits(connections_per_peer_max=1, linger_timeout_s=SHORT_S),
        )  # fmt: skip
        await server.start()
        try:
            reader, writer = await asyncio.open_unix_connection(path)
            assert await answers(reader, writer)
            assert await ask_unix(path, "POST", "/draft", bytes(size)) == busy
            assert await answers(reader, writer)
            writer.close()
            await writer.wait_closed()
            while server._per_peer:
                await asyncio.sleep(0)
            assert (await ask_unix(path, "POST", "/draft", b"x")).status == 200
        finally:
            await server.close()
        assert node.errors == []

    run(test())


async def ask_unix(path: Path, method: str, target: str, body: bytes = b"") -> Response:
    return await asyncio.to_thread(unix_request, path, method, target, body, timeout_s=10)


def test_the_unix_socket_names_the_person_and_is_open_to_nobody_else(path: Path) -> None:
    async def test() -> None:
        node = Node()
        async with serving_people(node, UnixAddress(path)) as server:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert await ask_unix(path, "POST", "/draft?a=1", b"hello") == Response(200, b"hello")
            person = PeerCredentials(os.getuid())
            assert node.requests == [Request("POST", "/draft", "a=1", b"hello", person)]
            with pytest.raises(CallerError, match="does not listen at a port"):
                _ = server.port
        assert not path.exists()
        assert node.errors == []

    run(test())


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])  # the last: UMask= of the systemd unit
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_mode_of_the_unix_socket_is_the_one_asked_for(
    path: Path, mode: int, umask: int
) -> None:
    async def test() -> None:
        old = os.umask(umask)
        try:
            async with serving_people(Node(), UnixAddress(path, mode=mode)):
                assert stat.S_IMODE(path.stat().st_mode) == mode
        finally:
            os.umask(old)

    run(test())


def test_a_stale_socket_file_makes_room_and_a_live_one_does_not(path: Path) -> None:
    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
            dead.listen()
        assert path.exists()
        node = Node()
        async with serving_people(node, UnixAddress(path)):
            with pytest.raises(CallerError, match="another process listens"):
                UnixAddress(path).listen()
            assert (await ask_unix(path, "GET", "/")).status == 200
        assert not path.exists()

    run(test())


def test_a_live_socket_whose_owner_is_busy_is_not_taken_over(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(path))
        with pytest.raises(CallerError, match="another process listens"):
            UnixAddress(path).listen()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(CallerError, match="is not a socket"):
        UnixAddress(path).listen()
    assert path.read_text() == "mine"


def test_a_server_that_closes_leaves_another_ones_socket_file(path: Path) -> None:
    async def test() -> None:
        async with serving_people(Node(), UnixAddress(path)) as first:
            path.unlink()  # somebody tidies up, and a second server starts
            async with serving_people(Node(), UnixAddress(path)):
                await first.close()
                assert (await ask_unix(path, "GET", "/")).status == 200

    run(test())


def test_a_path_that_cannot_be_bound_is_refused(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none" / "s", tmp_path / ("s" * 120)):
        with pytest.raises(CallerError, match="cannot listen at"):
            UnixAddress(wrong).listen()


def test_a_refusal_is_read_though_the_body_was_not_taken(path: Path) -> None:
    async def test() -> None:
        async with serving_people(Node(), UnixAddress(path), body_bytes_max=10):
            response = await ask_unix(path, "POST", "/draft", bytes(1024 * 1024))
            assert response == Response(413, b'{"error":"body-too-large"}')

    run(test())


def test_nobody_at_the_unix_socket_is_an_error(path: Path) -> None:
    with pytest.raises(LinkError, match="no node listens"):
        unix_request(path, "GET", "/", timeout_s=10)
    with pytest.raises(LinkError, match="too long"):
        unix_request(path / ("s" * 120), "GET", "/", timeout_s=10)


@contextlib.contextmanager
def saying(path: Path, answer: bytes) -> Iterator[None]:
    """Somebody at a Unix socket who says `answer` to the first who comes, and closes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(PATIENCE_S)


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_bad_answer_at_the_unix_socket_is_an_error(path: Path, name: str) -> None:
    with saying(path, BAD_ANSWERS[name]), pytest.raises(LinkError, match="bad answer"):
        unix_request(path, "GET", "/", timeout_s=10, limits=Limits(body_bytes_max=1000))


def test_half_an_answer_at_the_unix_socket_is_an_error(path: Path) -> None:
    with saying(path, OK[:-1]), pytest.raises(LinkError, match="closed before"):
        unix_request(path, "GET", "/", timeout_s=10)


def test_silence_at_the_unix_socket_ends_in_time(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(LinkError, match=r"no answer within 0\.15 s"):
            unix_request(path, "GET", "/", timeout_s=SHORT_S)

"""HTTP/1.1 as two nodes speak it: messages, limits, and framing without I/O.

h11 parses and keeps the state; what it lets pass for the sake of old peers is refused here before
it sees it, so that no two parsers can read the same bytes differently (RFC 9112 §11.2): bare line
feeds, folded and non-ASCII headers, repeated or listed lengths, chunked bodies, percent signs in
paths, HTTP/1.0. Nothing depends on a header but the framing; a handler never sees one.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace

import h11

from relto.errors import PeerError, ReltoError

__all__ = [
    "METHODS",
    "ClientWire",
    "Head",
    "Limits",
    "LinkError",
    "Peer",
    "PeerCredentials",
    "Refused",
    "Request",
    "Response",
    "ServerWire",
    "Stream",
    "refusal",
]

METHODS = frozenset({"DELETE", "GET", "POST", "PUT"})
_BODILESS = frozenset({"DELETE", "GET"})
_HEAD = re.compile(rb"(?:[\x21-\x7e][\x20-\x7e]*\r\n)+\r\n")
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)+", re.ASCII)
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*", re.ASCII)
_CONTENT_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(?:; ?[a-z-]+=[a-zA-Z0-9.-]+)*", re.ASCII)

# One body per status, the same for everyone: a refusal tells nothing but its code.
_REFUSALS = {
    400: b'{"error":"malformed"}',
    411: b'{"error":"length-required"}',
    413: b'{"error":"body-too-large"}',
    417: b'{"error":"expectation-refused"}',
    431: b'{"error":"headers-too-large"}',
    500: b'{"error":"internal"}',
    501: b'{"error":"method-unknown"}',
    505: b'{"error":"version-unknown"}',
}


class LinkError(ReltoError):
    """The other end was not reached, or gave no whole answer: try again later.

    Whether the request arrived and was acted on is unknown.
    """


class Refused(PeerError):
    """The bytes are not a message that we take; `status` says what a server answers."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one end grants the other. Bodies in memory: `connections_max` × `body_bytes_max`.

    A time-out is for the whole of its part, so that a trickle does not lengthen it.
    """

    body_bytes_max: int = 1024 * 1024  # of a request, and of an answer
    header_bytes_max: int = 16 * 1024  # first line and all headers
    connections_max: int = 64  # with a known peer
    connections_per_peer_max: int = 8
    handshakes_max: int = 32  # without a known peer yet: the oldest makes room for the newest
    handshakes_per_s: float = 20.0  # of addresses from which no peer came lately, together
    handshakes_at_once: int = 100  # of them that may come at once
    address_handshakes_per_s: float = 5.0  # of one address, whoever is there
    address_handshakes_at_once: int = 40  # of them that may come at once
    requests_per_connection_max: int = 1_000
    handshake_timeout_s: float = 5.0
    head_timeout_s: float = 5.0  # from the handshake, later from a request's first byte
    body_timeout_s: float = 30.0  # from the end of the head; of a stream, for each piece
    idle_timeout_s: float = 60.0  # between two requests; a client keeps a connection half as long
    linger_timeout_s: float = 1.0  # what a refused peer has to read its refusal
    write_timeout_s: float = 30.0  # for an answer or a piece of one, and once more for closing
    close_timeout_s: float = 10.0  # what a server that closes grants the requests at work

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} must be above 0")


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who connected to the Unix socket, as the kernel says (SO_PEERCRED)."""

    uid: int


Peer = bytes | PeerCredentials  # bytes: the DER of the certificate that the peer showed


@dataclass(frozen=True, slots=True)
class Stream:
    """A body that nobody holds whole: its pieces, which together have `size_bytes`."""

    size_bytes: int
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `query` is what follows the first `?`, not decoded.

    It is whole, unless the server was told to leave its body a `stream`; `body` is empty then.
    """

    method: str
    path: str
    query: str
    body: bytes
    peer: Peer
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `body`, and then the `stream` if there is one.

    1xx, 204 and 304 are not used: their framing differs.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    stream: Stream | None = None

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599 or self.status in (204, 304):
            raise ValueError(f"status {self.status} is not used")
        if not _CONTENT_TYPE.fullmatch(self.content_type):
            raise ValueError(f'content type "{self.content_type}" is malformed')


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a request."""

    method: str
    path: str
    query: str


def refusal(status: int) -> Response:
    """The fixed answer for a refused message or a failed handler."""
    return Response(status, _REFUSALS[status])


class _Wire:
    """One end of a connection without the connection: feed bytes, take heads and bodies."""

    def __init__(self, role: type[h11.CLIENT] | type[h11.SERVER], limits: Limits) -> None:
        self._limits = limits
        self._h11 = h11.Connection(role, max_incomplete_event_size=limits.header_bytes_max)
        self._received = bytearray()
        self._body_bytes = 0

    def feed(self, data: bytes) -> None:
        self._received += data

    @property
    def pending(self) -> bool:
        """Are there bytes that no message has taken yet?"""
        return bool(self._received)

    def body(self) -> bytes | None:
        """The body of the message whose head was taken, or None while it is incomplete."""
        if len(self._received) < self._body_bytes:
            return None
        body = bytes(self._received[: self._body_bytes])
        del self._received[: self._body_bytes]
        if body:
            self._h11.receive_data(body)
            self._h11.next_event()  # Data: the whole of it
        end = self._h11.next_event()
        if not isinstance(end, h11.EndOfMessage):
            raise Refused(400, "body and framing disagree")
        return body

    @property
    def left_bytes(self) -> int:
        """How much of the body, whose head was taken, no `piece` has given yet."""
        return self._body_bytes

    def piece(self) -> bytes | None:
        """What has come of a body that is taken in pieces; empty at its end, None for not yet."""
        if self._body_bytes:
            if not self._received:
                return None
            piece = bytes(self._received[: self._body_bytes])
            del self._received[: len(piece)]
            self._body_bytes -= len(piece)
            self._h11.receive_data(piece)
            self._h11.next_event()  # Data
            return piece
        if not isinstance(self._h11.next_event(), h11.EndOfMessage):
            raise Refused(400, "body and framing disagree")
        return b""

    def send_piece(self, piece: bytes) -> bytes:
        """The bytes of a piece of the body whose head `start` gave; an empty one ends it."""
        return self._h11.send(h11.Data(data=piece) if piece else h11.EndOfMessage()) or b""

    def next_message(self) -> bool:
        """Make ready for another message; False where one side wants the connection closed."""
        if self._h11.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            return False
        self._h11.start_next_cycle()
        return True

    def _head(self) -> tuple[object, int | None] | None:
        """The parsed head and its content length, or None while it is incomplete."""
        received = self._received
        end = received.find(b"\r\n\r\n") + 4
        size = end if end >= 4 else len(received)
        if size > self._limits.header_bytes_max:
            raise Refused(431, "the headers are too large")
        # Said at once, before a blank line that may never come: (1) it begins like no message;
        # (2) a line feed stands alone.
        if received and received[0] <= 0x20:
            raise Refused(400, "malformed first line")
        if received.count(b"\n", 0, size) != received.count(b"\r\n", 0, size):
            raise Refused(400, "bare line feed")
        if end < 4:
            return None
        head = bytes(received[:end])
        del received[:end]
        if not _HEAD.fullmatch(head):
            raise Refused(400, "malformed headers")
        length = _content_length(head)
        try:
            self._h11.receive_data(head)
            return self._h11.next_event(), length
        except h11.RemoteProtocolError as exc:
            raise Refused(400, "malformed headers") from exc

    def _expect_body(self, length: int) -> None:
        if length > self._limits.body_bytes_max:
            raise Refused(413, "the body is too large")
        self._body_bytes = length

    def _send(self, head: h11.Request | h11.Response, body: bytes) -> bytes:
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._h11.send(event) or b"" for event in events)


class ServerWire(_Wire):
    """The server's end."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(h11.SERVER, limits)

    def head(self) -> Head | None:
        """The next request's first line, its framing checked; None while it is incomplete.

        Raises:
            Refused: with the status to answer before closing.
        """
        parsed = self._head()
        if parsed is None:
            return None
        event, length = parsed
        if not isinstance(event, h11.Request):
            raise Refused(400, "not a request")
        if event.http_version != b"1.1":
            raise Refused(505, "not HTTP/1.1")
        method = event.method.decode("ascii")
        if method not in METHODS:
            raise Refused(501, "unknown method")
        names = {name for name, _ in event.headers}
        if b"expect" in names:
            raise Refused(417, "expectations are not met")
        if b"upgrade" in names:
            raise Refused(400, "no other protocol is spoken")
        path, query = _split(event.target.decode("ascii"))
        if method in _BODILESS:
            if length:
                raise Refused(400, "a body where none belongs")
        elif length is None:
            raise Refused(411, "no content length")
        self._expect_body(length or 0)
        return Head(method, path, query)

    def answer(self, response: Response, *, close: bool) -> bytes:
        """The bytes of an answer, without date or name: nothing in them tells two worlds apart."""
        return self._send(_answer_head(response, close=close), response.body)

    def start(self, response: Response, *, close: bool) -> bytes:
        """The bytes of an answer up to its stream, which goes on with `send_piece`."""
        head = self._h11.send(_answer_head(response, close=close)) or b""
        return head + self.send_piece(response.body) if response.body else head


class ClientWire(_Wire):
    """The client's end."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(h11.CLIENT, limits)
        self._status = 0
        self._content_type = ""

    def ask(self, method: str, target: str, body: bytes) -> bytes:
        """The bytes of a request.

        Raises:
            ValueError: for a method, target or body that a server of ours would refuse.
        """
        if method not in METHODS or (body and method in _BODILESS):
            raise ValueError(f'method "{method}" is unknown or takes no body')
        return self._send(self._request(method, target, len(body)), body)

    def start(self, method: str, target: str, size_bytes: int) -> bytes:
        """The bytes of a request up to its body, which goes on with `send_piece`.

        Raises ValueError as `ask` does.
        """
        return self._h11.send(self._request(method, target, size_bytes)) or b""

    def _request(self, method: str, target: str, size_bytes: int) -> h11.Request:
        if size_bytes > self._limits.body_bytes_max:
            raise ValueError(f"a body of {size_bytes} bytes is too large")
        try:
            _split(target)
        except Refused as exc:
            raise ValueError(f'target "{target}" is malformed') from exc
        headers = [("Host", "relto"), ("Content-Length", str(size_bytes))]
        return h11.Request(method=method, target=target, headers=headers)

    @property
    def answering(self) -> bool:
        """Has a byte of the answer come?"""
        return self.pending or self._status != 0

    def response(self) -> Response | None:
        """The whole answer, or None while it is incomplete.

        Raises:
            Refused: it is not one that a server of ours gives.
        """
        head = self.answer_head()
        body = None if head is None else self.body()
        if head is None or body is None:
            return None
        self._status = 0
        return replace(head, body=body)

    def answer_head(self) -> Response | None:
        """The answer without its body, which is still to be taken; None while it is incomplete.

        Raises:
            Refused: it is not one that a server of ours gives.
        """
        if not self._status and not self._response_head():
            return None
        try:
            return Response(self._status, b"", self._content_type)
        except ValueError as exc:
            raise Refused(400, str(exc)) from exc

    def _response_head(self) -> bool:
        parsed = self._head()
        if parsed is None:
            return False
        event, length = parsed
        if not isinstance(event, h11.Response) or event.http_version != b"1.1" or length is None:
            raise Refused(400, "malformed answer")
        if event.status_code in (204, 304):
            raise Refused(400, f"status {event.status_code} is not used")
        self._expect_body(length)
        self._status = event.status_code
        self._content_type = dict(event.headers).get(b"content-type", b"").decode("ascii")
        return True


def _answer_head(response: Response, *, close: bool) -> h11.Response:
    stream_bytes = 0 if response.stream is None else response.stream.size_bytes
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body) + stream_bytes)),
    ]
    if close:
        headers.append(("Connection", "close"))
    return h11.Response(status_code=response.status, headers=headers)


def _content_length(head: bytes) -> int | None:
    """The length that the head states; None if it states none. RFC 9112 §6.3, without leniency."""
    found = [(name.lower(), value.strip(b" ")) for name, value in _FRAMING.findall(head)]
    lengths = [value for name, value in found if name == b"content-length"]
    if len(lengths) < len(found):
        raise Refused(400 if lengths else 411, "a transfer encoding is not taken")
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Refused(400, "malformed content length")
    return int(lengths[0])


def _split(target: str) -> tuple[str, str]:
    """Path and query. A path is what it says: nothing is decoded, no segment is empty or dots."""
    path, _, query = target.partition("?")
    if not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
        raise Refused(400, "malformed target")
    if any(part in ("", ".", "..") for part in path[1:].split("/")) and path != "/":
        raise Refused(400, "malformed target")
    return path, query

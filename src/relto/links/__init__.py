"""How nodes, and the people of a host, reach a node: HTTP/1.1 over TLS 1.3 or a Unix socket."""

from relto.links.addresses import LoopbackAddress, TlsAddress, UnixAddress
from relto.links.client import Client, UnixExchange, unix_request
from relto.links.http import (
    Head,
    Limits,
    LinkError,
    Peer,
    PeerCredentials,
    Request,
    Response,
    Stream,
)
from relto.links.server import Handler, Server
from relto.links.tls import KeyFile, client_context, server_context

__all__ = [
    "Client",
    "Handler",
    "Head",
    "KeyFile",
    "Limits",
    "LinkError",
    "LoopbackAddress",
    "Peer",
    "PeerCredentials",
    "Request",
    "Response",
    "Server",
    "Stream",
    "TlsAddress",
    "UnixAddress",
    "UnixExchange",
    "client_context",
    "server_context",
    "unix_request",
]

"""Planted leaks: each makes what a party may not read show in what it sees, in one of the ways in
which systems do. `tests/test_two_worlds.py` must find every one.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bugs import patched
from exchange_bugs import saying
from relto import canonical, exchange, node, sealing
from relto.items import Item
from relto.links import LinkError, Request, Response
from relto.peering import REFUSED, RETRY, Peering
from relto.trust import Certificates

__all__ = ["LEAKS", "Leak"]


@dataclass(frozen=True, slots=True)
class Leak:
    """`patch` plants it, and `viewer` can then tell two worlds apart.

    `first` is the seed at which a short test begins, where the pairs before it do not show it.
    """

    patch: Callable[[], AbstractContextManager[None]]
    viewer: str
    first: int = 0


Answers = Callable[[Peering, Request, Response], Awaitable[Response]]


def answering(change: Answers) -> Callable[[], AbstractContextManager[None]]:
    """The patch under which a node's answers to its peers are changed."""
    right = Peering.handle

    async def wrong(self: Peering, request: Request) -> Response:
        return await change(self, request, await right(self, request))

    return lambda: patched(Peering, "handle", wrong)


def _count(peering: Peering, kind: str = "item") -> int:
    with peering.node.store.read() as reader:
        return reader.count(kind)


def _named(peering: Peering, request: Request) -> bool:
    """Whether the last word of the path is the id of an item here."""
    with peering.node.store.read() as reader:
        return reader.get("item", request.path.rpartition("/")[2]) is not None


async def _forbidden_or_absent(peering: Peering, request: Request, right: Response) -> Response:
    if right.status != 400 or "/ciphertext/" not in request.path:
        return right
    return replace(right, status=403 if _named(peering, request) else 404)


async def _says_why(peering: Peering, request: Request, right: Response) -> Response:
    if right.status != 400:
        return right
    why = "not yours" if _named(peering, request) else "no such thing"
    return Response(400, canonical.encode({"status": "refused", "why": why}))


async def _metrics(peering: Peering, request: Request, right: Response) -> Response:
    if request.path != "/metrics":
        return right
    return Response(200, f"relto_items {_count(peering)}\n".encode(), "text/plain")


async def _status(peering: Peering, request: Request, right: Response) -> Response:
    if request.path != "/relto/v1/status":
        return right
    return Response(200, canonical.encode({"waiting": _count(peering, "review")}))


async def _with_journal_head(peering: Peering, request: Request, right: Response) -> Response:
    if right.status != 200 or request.path != "/relto/v1/agreements":
        return right
    with peering.node.store.read() as reader:
        _, link = reader.journal_head()
    return replace(right, body=right.body + link.hex().encode())


async def _numbered(peering: Peering, request: Request, right: Response) -> Response:
    """Every answer to a hop message has the number of the last entry of the journal."""
    if right.status != 200 or not request.path.endswith("/hop"):
        return right
    with peering.node.store.read() as reader:
        number, _ = reader.journal_head()
    return replace(right, body=right.body.replace(b'{"parts"', b'{"number":%d,"parts"' % number))


async def _header(peering: Peering, request: Request, right: Response) -> Response:
    return replace(right, content_type=f"application/json; items={_count(peering)}")


async def _busy(peering: Peering, request: Request, right: Response) -> Response:
    """It has no room for one peer because of what it holds of all of them."""
    return RETRY if _count(peering) > 4 and request.path.endswith("/hop") else right


async def _asks_now(peering: Peering, request: Request, right: Response) -> Response:
    """A key is asked for when somebody wants it, as it was once."""
    if "/node-key/" not in request.path or right.status != 200:
        return right
    party = request.path.rpartition("/")[2]
    waker: Any = peering.node.wakers.get(party)
    if waker is None:
        return right
    try:
        await waker.__self__.calls.link.request("GET", request.path, timeout_s=3.0)
    except LinkError:
        return REFUSED
    return right


def _all_certificates(self: Certificates, envelopes: object) -> Certificates:
    return self


def _as_known(self: Certificates, envelopes: Any) -> Certificates:
    needed = {s.keyid for e in envelopes for s in e.signatures}
    return Certificates({k: d for k, d in self.by_keyid.items() if k in needed})


@contextmanager
def _committing_to_content() -> Iterator[None]:
    """The manifest commits to what is sealed, header and all, instead of to its key."""
    take = sealing.Sealing._take

    def taken(self: sealing.Sealing, plaintext: bytes) -> None:
        self.__dict__.setdefault("content", hashlib.sha256()).update(plaintext)
        take(self, plaintext)

    commit = saying(
        node.Node._draft, "streams.commitment(key).hex()", "sealing.content.hexdigest()"
    )
    with patched(sealing.Sealing, "_take", taken), commit():
        yield


def _no_padding(size_bytes: int) -> tuple[bytes, ...]:
    return ()


LEAKS: dict[str, Leak] = {
    "seq counts all records instead of milliseconds": Leak(
        saying(
            node.Node._next_seq,
            "return max(last + 1, int(self.clock.now().timestamp() * 1000))",
            "return last + 1",
        ),
        "JPN",
    ),
    "seq counts the item's other recipients": Leak(
        saying(exchange._release, "seq=view.seq,", "seq=view.seq + index,"), "KOR", 3
    ),
    "a number of all that the node did, in its answers": Leak(answering(_numbered), "KOR"),
    "403 beside 404": Leak(answering(_forbidden_or_absent), "JPN"),
    "another text for what exists": Leak(answering(_says_why), "KOR"),
    "a shared counter in metrics that a peer can ask for": Leak(answering(_metrics), "KOR"),
    "a queue's length in a status that a peer can ask for": Leak(answering(_status), "JPN"),
    "the head of the journal": Leak(answering(_with_journal_head), "USA"),
    "a header that differs": Leak(answering(_header), "JPN"),
    "a 503 that only others' load produces": Leak(answering(_busy), "KOR", 2),
    "a node key that shows whether a third party is up": Leak(answering(_asks_now), "KOR", 2),
    "a result is answered in another way where there is no such item": Leak(
        saying(
            exchange._result,
            'if item is None:\n        raise PeerError("a result',
            'if item is None:\n        raise NotYet("a result',
        ),
        "KOR",
    ),
    "approvals of other releases enclosed": Leak(
        saying(
            Item.records_for,
            "(*brought, *outgoing.approvals)",
            "(*brought, *(a for o in self.outgoing for a in o.approvals))",
        ),
        "KOR",
        6,
    ),
    "certificates of whoever had to do with the item": Leak(
        lambda: patched(Certificates, "for_envelopes", _all_certificates), "JPN", 2
    ),
    "certificates in the order in which they became known": Leak(
        lambda: patched(Certificates, "for_envelopes", _as_known), "KOR", 23
    ),
    "the manifest with all signatures, those for other releases too": Leak(
        lambda: patched(Item, "manifest_with", lambda self, *_: self.manifest_envelope), "JPN", 2
    ),
    "a payload that is not padded": Leak(
        lambda: patched(sealing, "padding", _no_padding), "USA", 3
    ),
    "a commitment to the content instead of the key": Leak(_committing_to_content, "USA", 3),
    "a hold sends everything again": Leak(
        saying(node.Node.hold, "if not self._passes(tx, row, record.to):", "if False:"), "USA", 7
    ),
}

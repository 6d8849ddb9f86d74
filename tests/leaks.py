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
from relto import canonical, exchange, holds, node, releasing, sealing
from relto.items import Item
from relto.links import LinkError, Request, Response
from relto.peering import REFUSED, RETRY, Peering
from relto.trust import Certificates

__all__ = ["LEAKS", "Leak"]


@dataclass(frozen=True, slots=True)
class Leak:
    """`patch` plants it, and `viewer` can then tell two worlds apart.

    `shows` are the places of its transcript (`Difference.places`) of which one is in the first line
    that differs; what else differs there follows from it, and is `beside` it. `first` is the seed
    at which a short test begins, where the pairs before it do not show it.
    """

    patch: Callable[[], AbstractContextManager[None]]
    viewer: str
    shows: tuple[str, ...]
    first: int = 0
    beside: tuple[str, ...] = ()


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
    courier: Any = peering.node.carriers.get(party)
    if courier is None:
        return right
    try:
        await courier.calls.link.request("GET", request.path, timeout_s=3.0)
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


def _of_a_consignment(*fields: str) -> tuple[str, ...]:
    """Where it shows in what a spoke gets of an item: as it comes, and as it is given back."""
    return tuple(
        f"{line}: {field}"
        for line in ("is asked by USA /hop", "is answered by USA /give-back")
        for field in fields
    )


def _of_spokes(*fields: str) -> tuple[str, ...]:
    """Where it shows in what the hub gets from a spoke."""
    return tuple(
        f"is asked by {party} /hop: {field}" for party in ("JPN", "KOR") for field in fields
    )


# An item with another manifest has another id.
OF_THE_ID = ("release.item", "release.basis", "ciphertexts", "sealed_keys")
SEQ = _of_a_consignment("release.seq")
PRIOR = _of_a_consignment("release.prior")  # by their digests
ANOTHER_ANSWER = ("is answered by USA /hop: status", "is answered by USA /hop: body")

LEAKS: dict[str, Leak] = {
    "seq counts all records instead of milliseconds": Leak(
        saying(
            node.Node.next_seq,
            "return max(last + 1, int(self.clock.now().timestamp() * 1000))",
            "return last + 1",
        ),
        "JPN",
        SEQ,
        beside=PRIOR,
    ),
    "seq counts the item's other recipients": Leak(
        saying(releasing.sign_release, "seq=view.seq,", "seq=view.seq + index,"),
        "KOR",
        SEQ,
        3,
        PRIOR,
    ),
    "a number of all that the node did, in its answers": Leak(
        answering(_numbered), "KOR", ("is answered by USA /hop: body",)
    ),
    "403 beside 404": Leak(
        answering(_forbidden_or_absent), "JPN", ("is answered by USA /ciphertext: status",)
    ),
    "another text for what exists": Leak(
        answering(_says_why), "KOR", ("is answered by USA /ciphertext: body",)
    ),
    "a shared counter in metrics that a peer can ask for": Leak(
        answering(_metrics), "KOR", ("is answered by USA /metrics: body",)
    ),
    "a queue's length in a status that a peer can ask for": Leak(
        answering(_status), "JPN", ("is answered by USA /status: body",)
    ),
    "the head of the journal": Leak(
        answering(_with_journal_head),
        "USA",
        ("is answered by JPN /agreements: body", "is answered by KOR /agreements: body"),
    ),
    "a header that differs": Leak(
        answering(_header),
        "JPN",
        ("is answered by USA /node-key: headers", "is answered by USA /hop: headers"),
    ),
    "a 503 that only others' load produces": Leak(answering(_busy), "KOR", ANOTHER_ANSWER, 2),
    "a node key that shows whether a third party is up": Leak(
        answering(_asks_now),
        "KOR",
        (
            "is answered by USA /node-key: status",
            "is answered by USA /node-key: body",
            "is asked by USA /node-key: another line",
        ),
        2,
    ),
    "a result is answered in another way where there is no such item": Leak(
        saying(
            exchange._result,
            'if item is None:\n        raise PeerError("a result',
            'if item is None:\n        raise NotYet("a result',
        ),
        "KOR",
        ANOTHER_ANSWER,
    ),
    "approvals of other releases enclosed": Leak(
        saying(
            Item.records_for,
            "(*brought, *outgoing.approvals)",
            "(*brought, *(a for o in self.outgoing for a in o.approvals))",
        ),
        "KOR",
        _of_a_consignment("which records: approval"),
        6,
    ),
    "certificates of whoever had to do with the item": Leak(
        lambda: patched(Certificates, "for_envelopes", _all_certificates),
        "JPN",
        _of_a_consignment("certificates"),
        2,
    ),
    "certificates in the order in which they became known": Leak(
        lambda: patched(Certificates, "for_envelopes", _as_known),
        "KOR",
        _of_a_consignment("order of certificates"),
        23,
    ),
    "the manifest with all signatures, those for other releases too": Leak(
        lambda: patched(Item, "manifest_with", lambda self, *_: self.manifest_envelope),
        "JPN",
        _of_a_consignment("manifest signatures"),
        2,
        _of_a_consignment("certificates"),
    ),
    "a payload that is not padded": Leak(
        lambda: patched(sealing, "padding", _no_padding),
        "USA",
        _of_spokes("manifest.ciphertext.bytes"),
        3,
        _of_spokes("manifest.ciphertext.sha256", *OF_THE_ID),
    ),
    "a commitment to the content instead of the key": Leak(
        _committing_to_content,
        "USA",
        _of_spokes("manifest.commitment"),
        3,
        _of_spokes(*OF_THE_ID),
    ),
    "a hold sends everything again": Leak(
        saying(holds.Holds.lay, "if not self._passes(tx, row, record.to):", "if False:"),
        "USA",
        _of_spokes("another line"),
        7,
        tuple(  # what came next where nothing was sent again
            f"{line} {party} /node-key: another line"
            for line in ("is not reached:", "is answered by")
            for party in ("JPN", "KOR")
        ),
    ),
}

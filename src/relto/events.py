"""What may happen to an item, what a step sees, and what it does: the words of the exchange."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relto.consignments import Consignment
from relto.decisions import Deny, Engine
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError
from relto.items import Item
from relto.ports import Signer
from relto.records import Receipt, Refusal
from relto.trust import Certificates, Verified

__all__ = [
    "Approve",
    "Arrive",
    "Complete",
    "Decline",
    "Denied",
    "Dispatch",
    "Draft",
    "Effects",
    "Event",
    "NotYet",
    "Offer",
    "Recover",
    "Refused",
    "Result",
    "Send",
    "Taken",
    "View",
]


class NotYet(PeerError):
    """Right, but ahead of our clock, or our clock is wrong: the sender tries again."""


class Refused(CallerError):
    """The decision refuses what one of our own people asked for: `refusals` has all of it."""

    def __init__(self, refusals: tuple["Denied", ...]) -> None:
        super().__init__("; ".join(str(r) for r in refusals))
        self.refusals = refusals


@dataclass(frozen=True, slots=True)
class Denied:
    """Why the item may not go to one party, and what it would take."""

    to: str
    deny: Deny
    needs: tuple[str, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        return self.deny.codes

    def __str__(self) -> str:
        return f"may not go to {self.to}: {', '.join(self.codes)}"


@dataclass(frozen=True, slots=True)
class View:
    """One item's aggregate and the read-only facts that a step needs.

    `seq` is the number for the next record of this node, `held_to` the parties to whom an
    officer stopped all releases, `digests` the digests of the agreements.
    """

    party: str
    engine: Engine
    signer: Signer
    seq: int
    item: Item | None
    held_to: frozenset[str]
    digests: Mapping[str, str]
    certificate: bytes  # the node's own, which vouches for `signer`
    ciphertext_bytes_max: int


@dataclass(frozen=True, slots=True)
class Send:
    """A message that a peer is owed. `what` is a release of ours, or a result passed back."""

    peer: str
    precedence: str
    release: str | None = None  # id of the release to send, with all that it needs
    result: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """What a step does. `journal` entries hold ids and codes, never content."""

    item: Item | None
    journal: tuple[dict[str, Any], ...] = ()
    send: tuple[Send, ...] = ()
    forget: tuple[int, ...] = ()  # outbox numbers whose message has done its work
    then: tuple[Callable[[], None], ...] = ()  # to be called once all of it is durable


# Events


@dataclass(frozen=True, slots=True)
class Draft:
    """One of our people made an item, sealed and stored by the node, for parties to read."""

    item: str
    manifest: bytes
    to: tuple[str, ...]
    precedence: str
    key: bytes
    stored: str
    basis: Mapping[str, list[dict[str, Any]]]
    by: str


@dataclass(frozen=True, slots=True)
class Offer:
    """One of our people wants an item that we hold to go to another party."""

    to: str
    precedence: str
    by: str


@dataclass(frozen=True, slots=True)
class Approve:
    """An officer's signed approval, and the manifest signed by the same officer if it is ours."""

    approval: Envelope
    manifest: Envelope | None
    officer: Verified
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Decline:
    """An officer refuses to release to a party."""

    to: str
    by: str


@dataclass(frozen=True, slots=True)
class Arrive:
    """A release from a peer with what it brings, all signatures verified.

    `key` is the payload key, wrapped, for a reader; None at a hub that does not read.
    `stored` is where the ciphertext is, or empty if it follows in ranges.
    """

    sender: str
    consignment: Consignment
    key: bytes | None
    stored: str


@dataclass(frozen=True, slots=True)
class Complete:
    """The ciphertext that followed in ranges is here, durable, and has the manifest's digest."""

    release: str


@dataclass(frozen=True, slots=True)
class Result:
    """A receipt or refusal from a peer, its signature verified, passed back to us."""

    sender: str
    envelope: Envelope
    record: Receipt | Refusal
    certificates: Certificates


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The node is about to send a release: decide once more, and grant the lease or not."""

    release: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The next node says how many bytes of the ciphertext it has; all: it has the whole release.

    Only an optimisation: what lets us forget the item is the destination's receipt.
    """

    release: str
    have_bytes: int


@dataclass(frozen=True, slots=True)
class Recover:
    """A peer gave back a release that it sent us or we sent it, with the results that it has.

    All signatures are verified. `key` and `stored` are as in `Arrive`; without contents where the
    records alone were given.
    """

    giver: str
    consignment: Consignment
    results: tuple[tuple[Envelope, Receipt | Refusal], ...]
    certificates: Certificates
    key: bytes | None
    stored: str


Event = Recover | Taken | Draft | Offer | Approve | Decline | Arrive | Complete | Result | Dispatch

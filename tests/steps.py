"""One item at one node in every state, and every event that may happen to it: for pure steps."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from relto.consignments import verify_consignment
from relto.decisions import Leg
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError
from relto.events import (
    Approve,
    Arrive,
    Complete,
    Decline,
    Dispatch,
    Draft,
    Effects,
    Event,
    Offer,
    Result,
    Taken,
    View,
)
from relto.exchange import step
from relto.hop import Hop
from relto.items import Item
from relto.records import (
    Approval,
    Manifest,
    Receipt,
    Record,
    Refusal,
    Release,
    decode_record,
    digest_of,
)
from relto.streams import commitment, encrypt
from relto.trust import Certificates, Trust, Verified
from world import OFFICERS, START, engine_of, keys_of

NOW = START
LATER = "2015-01-05T00:10:00Z"
KEY = bytes(range(32))
CIPHERTEXT = encrypt(KEY, b"padded")
ROW = 7  # where a release of ours lies in the outbox

MANIFEST = Manifest(
    {
        "originator": "KOR",
        "mark": "KOR:II",
        "releasable_to": ["JPN", "USA"],
        "kind": "report",
        "topics": ["missile.launch"],
        "about": ["PRK"],
    },
    hashlib.sha256(CIPHERTEXT).hexdigest(),
    len(CIPHERTEXT),
    commitment(KEY).hex(),
    NOW,
)
ITEM = digest_of(MANIFEST)
TISA = "tisa-2014/4"
LEGS = (
    Leg("KOR", "USA", "USA:S", "gsomia-kor-usa-1987"),
    Leg("USA", "JPN", "JPN:GOKUHI", "gsomia-jpn-usa-2007"),
)


def view(party: str, item: Item | None, **more: Any) -> View:
    engine = engine_of("tisa", party)
    node = keys_of(party).node
    given: dict[str, Any] = {
        "seq": 1_000,
        "held_to": frozenset(),
        "digests": engine.regime.agreement_digests,
        "certificate": node.certificate,
        "ciphertext_bytes_max": 1_000_000,
        **more,
    }
    return View(party, engine, node.signer, item=item, **given)


def trust_of(party: str) -> Trust:
    cas = [keys_of(p).ca_der for p in OFFICERS]
    return Trust.under(engine_of("tisa", party).regime, cas, exercise=True)


def apply(party: str, item: Item | None, event: Event, now: str = NOW, **more: Any) -> Item:
    """The item after the event; what goes out lies in the outbox, as the node would put it."""
    after = step(view(party, item, **more), event, now).item
    assert after is not None
    return in_outbox(after)


def in_outbox(item: Item) -> Item:
    outgoing = tuple(
        replace(o, outbox=ROW) if o.state == "ready" and o.outbox is None else o
        for o in item.outgoing
    )
    return replace(item, outgoing=outgoing)


def draft(*to: str) -> Draft:
    return Draft(ITEM, MANIFEST.encode(), to or ("JPN",), "PRIORITY", b"wrapped", "row", {}, "kim")


def approve(
    item: Item, party: str = "KOR", officer: str = "kim", changed: dict[str, Any] | None = None
) -> Approve:
    """What an officer signs for the latest way of an item to Tokyo, or that with changes."""
    signer = keys_of(party).officers[officer]
    proposal = [o.proposal for o in item.outgoing if o.proposal.to == "JPN"][-1]
    approval = Approval(
        party, officer, item.id, "JPN", proposal.path, proposal.legs, dict(proposal.basis), NOW
    )
    envelope = signer.sign(replace(approval, **(changed or {})))
    manifest = signer.sign(item.manifest) if item.made_here else None
    verified = Verified("officer", officer, signer.signer.keyid)
    return Approve(envelope, manifest, verified, signer.certificate)


def record_by(party: str, record: Record) -> Envelope:
    return keys_of(party).node.sign(record)


def release_in(item: Item) -> Envelope:
    release = item.outgoing[0].release
    assert release is not None
    return release


def release_by_usa(release: Envelope) -> Envelope:
    """What Washington would send on, for the ids in a chain."""
    return record_by("USA", replace(decode_record(release, Release), sender="USA", seq=2))


def receipt(party: str, *chain: Envelope, at: str = NOW, sender: str = "USA") -> Result:
    record = Receipt(ITEM, party, tuple(e.record_id for e in chain), at)
    return _result(party, record, sender)


def refusal(party: str, *chain: Envelope, sender: str = "USA") -> Result:
    record = Refusal(ITEM, party, tuple(e.record_id for e in chain), ("not-releasable",), NOW)
    return _result(party, record, sender)


def _result(party: str, record: Receipt | Refusal, sender: str) -> Result:
    certificates = Certificates.of([keys_of(party).node.certificate])
    return Result(sender, record_by(party, record), record, certificates)


@cache
def sender_states() -> dict[str, Item | None]:
    """An item at its maker in every state that its way to Tokyo may have."""
    review = apply("KOR", None, draft())
    ready = apply("KOR", review, approve(review))
    sent = apply("KOR", ready, Taken(release_in(ready).record_id, len(CIPHERTEXT)))
    with_hub = apply("KOR", sent, receipt("USA", release_in(ready)))
    chain = (release_in(ready), release_by_usa(release_in(ready)))
    return {
        "nothing": None,
        "review": review,
        "ready": ready,
        "sent": sent,
        "with-hub": with_hub,
        "delivered": apply("KOR", with_hub, receipt("JPN", *chain)),
        "refused": apply("KOR", sent, refusal("USA", release_in(ready))),
        "declined": apply("KOR", review, Decline("JPN", "kim")),
        "blocked": apply(
            "KOR", ready, Dispatch(release_in(ready).record_id), held_to=frozenset(["JPN"])
        ),
    }


def sender_events() -> dict[str, Event]:
    """Every event that may happen there, each about the one release that was made."""
    states = sender_states()
    review, ready = states["review"], states["ready"]
    assert review is not None
    assert ready is not None
    release = release_in(ready)
    chain = (release, release_by_usa(release))
    return {
        "draft": draft(),
        "offer": Offer("JPN", "PRIORITY", "kim"),
        "approve": approve(review),
        "decline": Decline("JPN", "kim"),
        "dispatch": Dispatch(release.record_id),
        "taken in part": Taken(release.record_id, 1),
        "taken": Taken(release.record_id, len(CIPHERTEXT)),
        "hub's receipt": receipt("USA", release),
        "receipt": receipt("JPN", *chain),
        "another receipt": receipt("JPN", *chain, at=LATER),
        "refusal": refusal("USA", release),
        "complete": Complete(release.record_id),
    }


def consignment_hop(
    item: Item | None = None, *, ciphertext: bool = True, change: Callable[[Hop], Hop] | None = None
) -> Hop:
    """What Seoul sends to Washington for the item."""
    sent = item or sender_states()["ready"]
    assert sent is not None
    outgoing = sent.outgoing[0]
    records = (sent.manifest_envelope, release_in(sent), *outgoing.approvals)
    hop = Hop(
        records,
        sent.certificates.for_envelopes(records),
        {sent.id: KEY},
        {},
        {sent.id: CIPHERTEXT} if ciphertext else {},
    )
    return hop if change is None else change(hop)


def arrive(hop: Hop | None = None, *, at: str = "USA", sender: str = "KOR") -> Arrive:
    hop = hop or consignment_hop()
    consignment = verify_consignment(hop, trust_of(at))
    return Arrive(sender, consignment, b"wrapped", "row" if consignment.ciphertext else "")


def outcome(party: str, item: Item | None, event: Event, now: str = NOW, **more: Any) -> str:
    """The states of all ways afterwards, or who is at fault."""
    before = None if item is None else item.encode()
    try:
        effects: Effects = step(view(party, item, **more), event, now)
    except CallerError:
        return "our fault"
    except PeerError:
        return "their fault"
    finally:
        assert before == (None if item is None else item.encode())
    assert effects.item is not None
    return " ".join(o.state for o in effects.item.outgoing)

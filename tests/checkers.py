"""The rules that nothing may break (DESIGN §6), each a function that raises AssertionError.

A checker for a commit gets the place and its state before; they run after every commit of a run.
One for a sight gets what leaves a node, before it arrives.
"""

import hashlib
from collections import Counter
from functools import lru_cache
from typing import Any

from relto import canonical, streams
from relto.clauses import Share
from relto.envelope import Envelope
from relto.errors import PeerError
from relto.holdings import class_of
from relto.items import Item, Outgoing
from relto.records import Manifest, Receipt, Record, Refusal, Release, decode_record
from relto.stores.memory import State
from relto.trust import Trust
from world import OFFICERS, Place, Sight, World

__all__ = ["COMMIT_CHECKERS", "SIGHT_CHECKERS", "check_all", "check_kept_secret", "watch"]


@lru_cache(maxsize=512)
def _decoded(body: bytes) -> Item:
    return Item.decode(body)


def items_of(state: State) -> dict[str, Item]:
    rows = ((key, row) for (kind, key), row in state.documents.items() if kind == "item")
    return {key: _decoded(row.body) for key, row in rows}


def changed_items(place: Place, before: State) -> list[tuple[Item | None, Item]]:
    """The items that a commit changed, as they were and as they are."""
    found = []
    for (kind, key), row in place.store.state.documents.items():
        old = before.documents.get((kind, key))
        if kind == "item" and (old is None or old.body != row.body):
            found.append((None if old is None else _decoded(old.body), _decoded(row.body)))
    return found


def new_entries(place: Place, before: State) -> list[dict[str, Any]]:
    return place.journal()[len(before.journal) :]


def ciphertext_of(place: Place, item: Item) -> bytes:
    """What the store has of an item's ciphertext, also of a node that just died."""
    if item.stored == "row":
        return place.store.state.documents["ciphertext", item.id].body
    return place.store.blob_read(item.stored, 0, place.store.blob_size(item.stored))


def is_signed(trust: Trust, envelope: Envelope, kind: type[Record], item: Item) -> bool:
    record = decode_record(envelope, kind)
    party = str(getattr(record, "party", "") or getattr(record, "sender", ""))
    try:
        trust.verify_node(envelope, kind, party=party, certificates=item.certificates)
    except PeerError:
        return False
    return True


def answer_of(trust: Trust, item: Item, outgoing: Outgoing) -> str:
    """`delivered` or `refused`, as a signed record of a party on the path says, or nothing."""
    assert outgoing.release is not None
    for envelope in outgoing.results:
        kind = Receipt if envelope.payload_type == Receipt.type() else Refusal
        record = decode_record(envelope, kind)
        assert isinstance(record, Receipt | Refusal)
        fits = record.item == item.id and outgoing.release.record_id in record.releases
        if not fits or not is_signed(trust, envelope, kind, item):
            continue
        if isinstance(record, Refusal) and record.party in outgoing.proposal.path[1:]:
            return "refused"
        if isinstance(record, Receipt) and record.party == outgoing.proposal.to:
            return "delivered"
    return ""


# Rule 1


def check_forgets_only_on_the_destinations_word(place: Place, before: State) -> None:
    """A release leaves the outbox only on a receipt of its destination, or a signed refusal."""
    after = place.store.state
    for number in before.outbox.keys() - after.outbox.keys():
        body: Any = canonical.decode(before.outbox[number].body, size_bytes_max=2**22)
        if "release" not in body:
            continue
        item = items_of(after)[body["item"]]
        ways = [
            o
            for o in item.outgoing
            if o.release is not None and o.release.record_id == body["release"]
        ]
        assert len(ways) == 1
        assert answer_of(place.node.trust, item, ways[0]), f"{place.party} forgot {item.id[:12]}"


def check_what_is_open_is_in_the_outbox(place: Place, before: State) -> None:
    """A release that is neither delivered nor refused is still owed."""
    for _, item in changed_items(place, before):
        for outgoing in item.outgoing:
            if outgoing.state in ("ready", "sent", "with-hub", "blocked"):
                assert outgoing.outbox in place.store.state.outbox


def check_keeps_the_class_of_what_is_held(place: Place, before: State) -> None:
    """Every item that is here whole has its class beside it, as it is now; no other has one."""
    for _, item in changed_items(place, before):
        row = place.store.state.documents.get(("held", item.id))
        is_here = item.made_here or "held" in {incoming.state for incoming in item.incoming}
        assert (None if row is None else row.state) == (class_of(item) if is_here else None)


# Rule 2


def check_applies_each_release_once(place: Place, before: State) -> None:
    """One `held` entry for each release at most; an item's bytes are those of its id."""
    held = Counter(e["release"] for e in place.journal("held"))
    assert not [r for r, count in held.items() if count > 1]
    for old, item in changed_items(place, before):
        assert hashlib.sha256(item.manifest_payload).hexdigest() == item.id
        ids = [i.id for i in item.incoming]
        assert len(ids) == len(set(ids))
        if old is not None:
            assert old.manifest_payload == item.manifest_payload
            gone = {i.id for i in old.incoming if i.state == "held"}
            assert gone <= {i.id for i in item.incoming if i.state == "held"}


def check_receipts_say_the_truth(place: Place, before: State) -> None:
    """Whoever signs a receipt has the item, its ciphertext and, as a reader, its key."""
    for _, item in changed_items(place, before):
        for incoming in item.incoming:
            is_receipt = (
                incoming.result is not None and incoming.result.payload_type == Receipt.type()
            )
            assert is_receipt == (incoming.state == "held")
            if is_receipt:
                ciphertext = ciphertext_of(place, item)
                assert hashlib.sha256(ciphertext).hexdigest() == item.manifest.ciphertext_sha256
                assert item.key is not None or incoming.record.to != place.party


# Rule 4


def check_journal_comes_first(place: Place, before: State) -> None:
    """What a commit decides is in the journal in the same commit."""
    entries = new_entries(place, before)
    written = {(e["event"], e.get("release")) for e in entries}
    states = {
        "delivered": "delivered", "refused": "refused", "with-hub": "with-hub",
        "blocked": "blocked",
    }  # fmt: skip
    for old, item in changed_items(place, before):
        was = {} if old is None else dict(enumerate(old.outgoing))
        if old is None:
            assert {"draft", "accept", "refuse"} & {
                e["event"] for e in entries if e.get("item") == item.id
            }
        for index, outgoing in enumerate(item.outgoing):
            previous = was.get(index)
            if previous is None:
                assert ("decide", None) in written
            if outgoing.release is not None and (previous is None or previous.release is None):
                assert ("release", outgoing.release.record_id) in written
            if previous is not None and previous.approvals != outgoing.approvals:
                assert ("approve", None) in written or ("review-again", None) in written
            if outgoing.state in states and (previous is None or previous.state != outgoing.state):
                named = [e for e in entries if e["event"] == states[outgoing.state]]
                assert any(e["item"] == item.id for e in named)
            if outgoing.state == "declined" and (previous is None or previous.state != "declined"):
                assert ("decline", None) in written
        known = {} if old is None else {i.id: i for i in old.incoming}
        for incoming in item.incoming:
            earlier = known.get(incoming.id)
            if earlier is None:
                word = "refuse" if incoming.state == "refused" else "accept"
                assert (word, incoming.id) in written
            if incoming.state == "held" and (earlier is None or earlier.state != "held"):
                assert ("held", incoming.id) in written


def check_journal_is_whole(place: Place, before: State) -> None:
    """The journal only grows."""
    journal = place.store.state.journal
    assert journal[: len(before.journal)] == before.journal


# Rule 5


def check_the_originators_signature_survives(place: Place, before: State) -> None:
    """Whoever holds an item can show who made it: manifest, and every release before its own."""
    for _, item in changed_items(place, before):
        if item.made_here and not item.manifest_signatures:
            continue  # nobody has released it yet
        if not any(i.state == "held" for i in item.incoming) and not item.made_here:
            continue
        manifest = item.manifest
        place.node.trust.verify(
            item.manifest_envelope, Manifest, party=manifest.maker, roles=("officer", "node"),
            at=manifest.at, certificates=item.certificates,
        )  # fmt: skip
        for incoming in item.incoming:
            for envelope in (*incoming.prior, incoming.release):
                assert is_signed(place.node.trust, envelope, Release, item)


# Who may read


def readers_of(item: Item) -> set[str]:
    """The maker, and those whom the label and every source of it name."""
    label = item.manifest.label
    lists: list[Any] = [label, *label.get("sources", [])]
    readers = set(OFFICERS)
    for each in lists:
        readers &= {each["originator"], *each["releasable_to"]}
    return readers | {label["originator"]}


def check_keys_are_with_readers(place: Place, before: State) -> None:
    """A payload key is only where the label says, and opens nothing but its own item."""
    for _, item in changed_items(place, before):
        if item.key is None:
            continue
        assert place.party in readers_of(item)
        key = place.node.payload_key(item)
        assert key is not None
        assert streams.commitment(key).hex() == item.manifest.commitment


COMMIT_CHECKERS = (
    check_forgets_only_on_the_destinations_word,
    check_what_is_open_is_in_the_outbox,
    check_keeps_the_class_of_what_is_held,
    check_applies_each_release_once,
    check_receipts_say_the_truth,
    check_journal_comes_first,
    check_journal_is_whole,
    check_the_originators_signature_survives,
    check_keys_are_with_readers,
)


# What leaves a node


def check_bytes_leave_under_a_lease(world: World, sight: Sight) -> None:
    """Rule 3: the last thing the journal says of a release that leaves is that it may, and its
    row is leased."""
    place = world[sight.sender]
    release = _release_in(sight)
    if release is None:
        return
    said = [
        e for e in place.journal()
        if e.get("release") == release and e["event"] in ("dispatch", "blocked")
    ]  # fmt: skip
    assert said, "bytes left without a dispatch"
    assert said[-1]["event"] == "dispatch", "bytes left though the decision blocked them"
    for row in place.outbox(sight.receiver):
        body: Any = canonical.decode(row.body, size_bytes_max=2**22)
        if body.get("release") == release:
            assert row.lease_until_ms > place.clock.monotonic_ms(), "bytes left without a lease"


def check_effects_are_committed(world: World, sight: Sight) -> None:
    """Rule 4: what a peer sees of a receipt, refusal or release is in the sender's store."""
    if sight.hop is None:
        return
    place = world[sight.sender]
    known = items_of(place.store.state)
    for envelope in sight.hop.records:
        if envelope.payload_type == Manifest.type():
            assert envelope.record_id in known
        if envelope.payload_type in (Receipt.type(), Refusal.type()):
            kind = Receipt if envelope.payload_type == Receipt.type() else Refusal
            record = decode_record(envelope, kind)
            item = known[record.to_json()["item"]]
            answers = {i.result for i in item.incoming} | {
                later for i in item.incoming for later in i.later
            }
            assert envelope in answers


def check_keys_go_to_readers(world: World, sight: Sight) -> None:
    """A payload key leaves only for a reader of its item who is meant to read."""
    if sight.hop is None or not sight.hop.keys:
        return
    manifest = next(r for r in sight.hop.records if r.payload_type == Manifest.type())
    releases = [r for r in sight.hop.records if r.payload_type == Release.type()]
    release = decode_record(releases[-1], Release)
    row = world[sight.sender].store.state.documents["item", manifest.record_id]
    item = _decoded(row.body)
    assert sight.receiver in readers_of(item)
    for citation in release.basis.values():
        clause = world[sight.sender].node.engine.regime.clause(citation)
        assert clause is not None
        is_blind = isinstance(clause.body, Share) and not clause.body.via_reads
        assert not (is_blind and release.to != sight.receiver)


SIGHT_CHECKERS = (
    check_bytes_leave_under_a_lease,
    check_effects_are_committed,
    check_keys_go_to_readers,
)


def _release_in(sight: Sight) -> str | None:
    if sight.path.startswith("/relto/v1/ciphertext/"):
        return sight.path.rpartition("/")[2]
    if sight.hop is None:
        return None
    releases = [r for r in sight.hop.records if r.payload_type == Release.type()]
    return releases[-1].record_id if releases else None


def watch(world: World) -> None:
    """Run every checker after every commit, and on everything that leaves a node."""

    def after_commit(place: Place, before: State) -> None:
        for check in COMMIT_CHECKERS:
            world.checked(check, place, before)

    def on_sight(sight: Sight) -> None:
        for check in SIGHT_CHECKERS:
            world.checked(check, world, sight)

    world.watchers.append(after_commit)
    world.listeners.append(on_sight)


# The whole, once it is quiet


def check_kept_secret(world: World, *secrets: bytes) -> None:
    """No plaintext in any store, nor on the wire."""
    for secret in secrets:
        for sight in world.sights:
            assert secret not in sight.body
        for place in world.places.values():
            state = place.store.state
            for row in state.documents.values():
                assert secret not in row.body
            for owed in state.outbox.values():
                assert secret not in owed.body
            for entry in state.journal:
                assert secret not in entry.entry


def check_refusals_look_alike(world: World) -> None:
    """Rule 7: whatever a peer was refused, and why, it saw the same bytes."""
    assert len(world.refusals) <= 1


def check_all(world: World) -> None:
    """The rules on all that each store holds, as if one commit had made it."""
    for place in world.places.values():
        for check in COMMIT_CHECKERS:
            if check is not check_journal_comes_first:  # it is about one commit
                check(place, State())
    check_refusals_look_alike(world)

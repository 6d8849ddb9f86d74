"""The rules of the exchange (DESIGN §6) and its invariants (I1 to I19), as functions that raise
AssertionError. `watch` has them run after every commit, on all that leaves a node and on every
answer; `check_end` looks at the whole when all is quiet.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from checkers import answer_of, is_signed, readers_of
from relto import canonical, peering, seal, streams
from relto.clauses import Citation, Share
from relto.decisions import Engine
from relto.envelope import Envelope
from relto.hop import Hop, key_id_of
from relto.items import Incoming, Item, Outgoing
from relto.labels import decode_holding
from relto.questions import Question
from relto.records import Approval, Manifest, Receipt, Refusal, Release, decode_record
from relto.seal import HpkePrivateKey
from relto.stores.memory import State
from relto.trust import Trust
from sim.coalition import Coalition, Exchange, Place, entry_of, item_of
from sim.loop import PROCESS

__all__ = ["Rules"]

OUTBOX_ROWS_PER_ITEM_MAX = 40
JOURNAL_PER_COMMIT_MAX = 64 * 32
OPEN = ("ready", "sent", "with-hub", "blocked")

Json = dict[str, Any]


@dataclass(slots=True)
class Commit:
    """One commit, and what it changed."""

    place: Place
    before: State
    after: State
    entries: list[Json]
    changed: list[tuple[Item | None, Item]]


@dataclass
class Rules:
    """The checkers of one run, and what they remember of it."""

    coalition: Coalition
    held: dict[tuple[str, str], int] = field(default_factory=dict)  # party, release
    manifests: dict[str, bytes] = field(default_factory=dict)  # of all nodes, by item
    accepted: dict[tuple[str, str], None] = field(default_factory=dict)  # party, item
    liars: dict[str, None] = field(default_factory=dict)

    def watch(self) -> None:
        watch = self.coalition.watch
        watch.on_commit.append(self.after_commit)
        watch.on_leave.append(self.on_leave)

    def after_commit(self, place: Place, before: State) -> None:
        after = place.disk.state
        if after is before:
            return
        entries = [entry_of(row.entry) for row in after.journal[len(before.journal) :]]
        changed = []
        for key, row in after.documents.items():
            if key[0] == "item":
                old = before.documents.get(key)
                if old is not row and (old is None or old.body != row.body):
                    changed.append((None if old is None else item_of(old.body), item_of(row.body)))
        commit = Commit(place, before, after, entries, changed)
        for check in COMMIT_CHECKS:
            check(self, commit)

    def on_leave(self, exchange: Exchange) -> None:
        place = self.coalition[exchange.sender]
        check_a_broken_node_is_silent(self, place)
        if exchange.request.path.endswith("/hop"):
            for hop in opened(self.coalition, exchange):
                for check in HOP_CHECKS:
                    check(self, exchange, hop)
        elif "/ciphertext/" in exchange.request.path:
            release = exchange.request.path.rpartition("/")[2]
            check_a_lease_lives(self, exchange, release)


def opened(coalition: Coalition, exchange: Exchange) -> tuple[Hop, ...]:
    """What is inside a hop message; nothing if the key that it was sealed to is gone."""
    place = coalition[exchange.receiver]
    sealed = exchange.request.body
    row = place.disk.state.documents.get(("hpke-key", key_id_of(sealed)))
    if row is None:
        return ()
    seed = _unwrapped(place, row.body, f"hpke-key/{key_id_of(sealed)}")
    key = HpkePrivateKey(seed, coalition.suite)
    hops: tuple[Hop, ...] = peering.open_hop(  # type: ignore[attr-defined]  # maybe remembered
        sealed, sender=exchange.sender, recipient=exchange.receiver, key=key
    )
    return hops


def _unwrapped(place: Place, wrapped: bytes, what: str) -> bytes:
    return _unwrapped_by(place.secrets.storage_key, wrapped, what.encode())


@lru_cache(maxsize=1024)
def _unwrapped_by(storage_key: bytes, wrapped: bytes, what: bytes) -> bytes:
    return seal.unwrap(storage_key, wrapped, what)


def ciphertext_of(place: Place, item: Item) -> bytes:
    """What the store has of an item's ciphertext, also of a node that just died."""
    if item.stored == "row":
        return place.disk.state.documents["ciphertext", item.id].body
    blob = place.disk._blobs[item.stored]
    assert blob.synced is not None, "a row refers to what was never synced"
    return blob.synced


# After every commit


def check_nothing_accepted_is_lost(rules: Rules, commit: Commit) -> None:
    """I1: what was accepted stays, and while its way is open it is owed."""
    party = commit.place.party
    for _, item in commit.changed:
        rules.accepted[party, item.id] = None
        for outgoing in item.outgoing:
            if outgoing.state in OPEN:
                assert outgoing.outbox in commit.after.outbox, "an open way is not owed any more"
                assert not answer_of(commit.place.trust, item, outgoing)


def check_what_was_accepted_is_there(rules: Rules, commit: Commit) -> None:
    """I1: also after every restart."""
    known = commit.after.documents
    for party, item in rules.accepted:
        assert party != commit.place.party or ("item", item) in known, "an accepted item is lost"


def check_forgets_on_the_destinations_word(rules: Rules, commit: Commit) -> None:
    """Rule 1, I2: a release leaves the outbox only on its destination's receipt, or a refusal."""
    for number in commit.before.outbox.keys() - commit.after.outbox.keys():
        body: Any = canonical.decode(commit.before.outbox[number].body, size_bytes_max=2**22)
        if "release" not in body:
            continue
        item = item_of(commit.after.documents["item", body["item"]].body)
        ways = [
            o
            for o in item.outgoing
            if o.release is not None and o.release.record_id == body["release"]
        ]
        assert len(ways) == 1
        assert answer_of(commit.place.trust, item, ways[0]), "forgotten without an answer"


def check_each_release_is_applied_once(rules: Rules, commit: Commit) -> None:
    """Rule 2, I4: one `held` entry a release at a party, ever, whatever crashed between."""
    party = commit.place.party
    for number, entry in enumerate(commit.entries, len(commit.before.journal) + 1):
        if entry["event"] == "held":
            first = rules.held.setdefault((party, entry["release"]), number)
            assert first == number, "a release was applied twice"
    for old, item in commit.changed:
        ids = [i.id for i in item.incoming]
        assert len(ids) == len(set(ids))
        if old is not None:
            gone = {i.id for i in old.incoming if i.state == "held"}
            assert gone <= {i.id for i in item.incoming if i.state == "held"}


def check_an_id_has_one_manifest(rules: Rules, commit: Commit) -> None:
    """Rule 2, I5, I13: one id is the same bytes everywhere, and so has the same label."""
    for _, item in commit.changed:
        known = rules.manifests.setdefault(item.id, item.manifest_payload)
        assert known == item.manifest_payload
        assert hashlib.sha256(item.manifest_payload).hexdigest() == item.id


def check_receipts_say_the_truth(rules: Rules, commit: Commit) -> None:
    """Rule 1: whoever signs a receipt has the item, its ciphertext and, as a reader, its key."""
    for old, item in commit.changed:
        known = {} if old is None else {i.id: i.state for i in old.incoming}
        for incoming in item.incoming:
            is_receipt = (
                incoming.result is not None and incoming.result.payload_type == Receipt.type()
            )
            assert is_receipt == (incoming.state == "held")
            if is_receipt and known.get(incoming.id) != "held":
                ciphertext = ciphertext_of(commit.place, item)
                assert hashlib.sha256(ciphertext).hexdigest() == item.manifest.ciphertext_sha256
                assert item.key is not None or incoming.record.to != commit.place.party


_WORDS = {"delivered": "delivered", "refused": "refused", "with-hub": "with-hub",
          "blocked": "blocked", "declined": "decline"}  # fmt: skip


def check_the_journal_comes_first(rules: Rules, commit: Commit) -> None:
    """Rule 4, I16: what a commit decides is in the journal in the same commit."""
    written = {(e["event"], e.get("item"), e.get("release")) for e in commit.entries}
    about = {(event, item) for event, item, _ in written}
    for old, item in commit.changed:
        was = () if old is None else old.outgoing
        if old is None:
            assert about & {("draft", item.id), ("accept", item.id), ("refuse", item.id)}
        for index, outgoing in enumerate(item.outgoing):
            previous = was[index] if index < len(was) else None
            if previous is None:
                assert ("decide", item.id) in about
            if outgoing.release is not None and (previous is None or previous.release is None):
                assert ("release", item.id, outgoing.release.record_id) in written
            if previous is not None and previous.approvals != outgoing.approvals:
                assert about & {("approve", item.id), ("review-again", item.id)}
            word = _WORDS.get(outgoing.state)
            if word and (previous is None or previous.state != outgoing.state):
                assert (word, item.id) in about
        known = {} if old is None else {i.id: i for i in old.incoming}
        for incoming in item.incoming:
            earlier = known.get(incoming.id)
            if earlier is None:
                word = "refuse" if incoming.state == "refused" else "accept"
                assert (word, item.id, incoming.id) in written
            if incoming.state == "held" and (earlier is None or earlier.state != "held"):
                assert ("held", item.id, incoming.id) in written


def check_the_journal_only_grows(rules: Rules, commit: Commit) -> None:
    """Rule 4: no entry is ever changed."""
    before, after = commit.before.journal, commit.after.journal
    assert len(after) >= len(before)
    assert not before or after[len(before) - 1] is before[-1]


def check_the_originators_word_survives(rules: Rules, commit: Commit) -> None:
    """Rule 5, I11, I12: whoever holds an item can show who made it, and each release of its way."""
    trust = commit.place.trust
    for old, item in commit.changed:
        if item.made_here and not item.manifest_signatures:
            continue  # nobody has released it yet
        held = [i for i in item.incoming if i.state == "held"]
        if not held and not item.made_here:
            continue
        if old is None or old.manifest_signatures != item.manifest_signatures:
            manifest = item.manifest
            trust.verify(
                item.manifest_envelope, Manifest, party=manifest.maker, roles=("officer", "node"),
                at=manifest.at, certificates=item.certificates,
            )  # fmt: skip
        known = set() if old is None else {i.id for i in old.incoming if i.state == "held"}
        for incoming in held:
            if incoming.id not in known:
                _check_chain(trust, item, incoming)


def _check_chain(trust: Trust, item: Item, incoming: Incoming) -> None:
    maker = item.manifest.maker
    records = [decode_record(e, Release) for e in (*incoming.prior, incoming.release)]
    assert records[0].sender == maker
    for envelope in (*incoming.prior, incoming.release):
        assert is_signed(trust, envelope, Release, item)
        assert decode_record(envelope, Release).item == item.id


def check_what_is_held_may_be_held(rules: Rules, commit: Commit) -> None:
    """Rule 3, I8, I11: a node that takes an item in would itself have let it go, by the decision
    procedure at that instant, with the approvals of as many officers as it asks for.
    """
    engine, trust = commit.place.engine, commit.place.trust
    now = _instant_of(commit)
    for old, item in commit.changed:
        known = set() if old is None else {i.id for i in old.incoming}
        for incoming in item.incoming:
            if incoming.id in known or incoming.state == "refused":
                continue
            release = incoming.record
            label = item.label(engine.regime)
            if any(engine.regime.clause(c) is None for c in release.basis.values()):
                continue  # an agreement that it is not in: the release's signed word counts
            assert release.at <= now, "made ahead of the clock, and taken"
            assert release.to == commit.place.party or release.path[1] == commit.place.party
            prior = [decode_record(e, Release) for e in incoming.prior]
            holding: Json = {
                "basis": {
                    s.item: _shown(engine, prior, release, s.item)
                    for s in label.sources
                    if s.originator != release.sender
                }
            }
            if release.sender != label.maker:
                marks = [
                    leg.mark for p in prior for leg in p.legs if leg.receiver == release.sender
                ]
                holding["held_as"] = marks[0]
            question = Question(
                now, release.sender, release.to, label,
                decode_holding(holding, engine.regime, label, release.sender),
            )  # fmt: skip
            decision = engine.decide_stated(question, release.path, release.basis)
            assert not hasattr(decision, "reasons"), f"held what {decision} forbids"
            assert decision.legs == release.legs, "held under other marks than the table's"
            digests = engine.regime.agreement_digests
            cited = {Citation.parse(c).agreement for c in release.basis.values()}
            assert dict(release.agreements) == {a: digests[a] for a in cited}, "another edition"
            needed = {r.party: r.officers for r in decision.review}.get(release.sender, 0)
            assert len(_officers(trust, item, incoming)) >= needed, "held without its approvals"


def _shown(engine: Engine, prior: list[Release], release: Release, source: str) -> list[Json]:
    """What brought a source to the sender, as the releases before say; else its signed word."""
    shown = [p.basis[source] for p in prior if source in p.basis]
    cited = [c for c in shown or [release.basis[source]] if engine.regime.clause(c) is not None]
    return [Citation.parse(c).as_basis() for c in dict.fromkeys(cited)]


def _instant_of(commit: Commit) -> str:
    return str(commit.entries[-1]["at"]) if commit.entries else commit.place.clock.instant()


def _officers(trust: Trust, item: Item, incoming: Incoming) -> set[str]:
    release = incoming.record
    names = set()
    for envelope in incoming.approvals:
        approval = decode_record(envelope, Approval)
        fits = (
            approval.party == release.sender
            and approval.item == item.id
            and (approval.to, approval.path) == (release.to, release.path)
            and (approval.legs, approval.basis) == (release.legs, release.basis)
        )
        if fits and envelope.record_id in release.approvals:
            verified = trust.verify(
                envelope, Approval, party=release.sender, roles=("officer",), at=approval.at,
                certificates=item.certificates,
            )  # fmt: skip
            names |= {v.name for v in verified if v.name == approval.officer}
    return {str(name) for name in names}


def check_a_release_has_its_approvals(rules: Rules, commit: Commit) -> None:
    """I7: what is released was approved by as many different officers as its decision asks for,
    each for exactly this way."""
    for old, item in commit.changed:
        was = () if old is None else old.outgoing
        for index, o in enumerate(item.outgoing):
            fresh = index >= len(was) or was[index].release is None
            if o.release is None or not fresh:
                continue
            approvals = [decode_record(a, Approval) for a in o.approvals]
            assert len({a.officer for a in approvals}) >= o.proposal.officers
            for a in approvals:
                assert (a.party, a.item, a.to) == (commit.place.party, item.id, o.proposal.to)
                assert (a.path, a.legs) == (o.proposal.path, o.proposal.legs)
                assert dict(a.basis) == dict(o.proposal.basis)
                assert a.at >= _proposed_at(was, index, o)


def _proposed_at(was: tuple[Outgoing, ...], index: int, o: Outgoing) -> str:
    return was[index].since if index < len(was) else o.since


def check_keys_are_with_readers(rules: Rules, commit: Commit) -> None:
    """I6: a payload key is only where the label says, and opens nothing but its own item."""
    for old, item in commit.changed:
        if item.key is None or (old is not None and old.key == item.key):
            continue
        assert commit.place.party in readers_of(item)
        key = _unwrapped(commit.place, item.key, f"payload/{item.id}")
        assert streams.commitment(key).hex() == item.manifest.commitment


def check_everything_has_a_bound(rules: Rules, commit: Commit) -> None:
    """I19: outbox, journal and rows grow with what was asked for, not with how often."""
    after = commit.after
    items = sum(1 for kind, _ in after.documents if kind == "item")
    assert len(after.outbox) <= OUTBOX_ROWS_PER_ITEM_MAX * max(1, items)
    assert len(commit.entries) <= JOURNAL_PER_COMMIT_MAX
    owed = {(r.peer, r.body) for r in after.outbox.values()}
    assert len(owed) == len(after.outbox), "the same thing is owed twice"


def check_a_broken_store_commits_nothing(rules: Rules, commit: Commit) -> None:
    """Rule 8: after a failed commit this process commits nothing more."""
    disk = commit.place.disk
    assert not (disk.failed and disk.commits_since_failure), "it went on after the disk had failed"


COMMIT_CHECKS: tuple[Callable[[Rules, Commit], None], ...] = (
    check_nothing_accepted_is_lost,
    check_what_was_accepted_is_there,
    check_forgets_on_the_destinations_word,
    check_each_release_is_applied_once,
    check_an_id_has_one_manifest,
    check_receipts_say_the_truth,
    check_the_journal_comes_first,
    check_the_journal_only_grows,
    check_the_originators_word_survives,
    check_what_is_held_may_be_held,
    check_a_release_has_its_approvals,
    check_keys_are_with_readers,
    check_everything_has_a_bound,
    check_a_broken_store_commits_nothing,
)


# What leaves a node


def check_a_broken_node_is_silent(rules: Rules, place: Place) -> None:
    """Rule 8: a process whose store failed says nothing more; nor does one that is dead."""
    assert not place.disk.failed, "a node spoke after its store had failed"
    process = PROCESS.get()
    assert process is not None
    assert process.is_alive


def releases_in(hop: Hop) -> list[Envelope]:
    return [r for r in hop.records if r.payload_type == Release.type()]


def check_a_release_leaves_by_right(rules: Rules, exchange: Exchange, hop: Hop) -> None:
    releases = releases_in(hop)
    if releases:
        check_a_lease_lives(rules, exchange, releases[-1].record_id)


def check_a_lease_lives(rules: Rules, exchange: Exchange, release: str) -> None:
    """Rule 3, I7: the last thing that the journal says of a release that leaves is that it may; it
    said so within the lease, its row is leased, and the decision of that instant is as it says."""
    place = rules.coalition[exchange.sender]
    said = None
    for row in reversed(place.disk.state.journal):
        entry = entry_of(row.entry)
        if entry.get("release") == release and entry["event"] in ("dispatch", "blocked"):
            said = entry
            break
    assert said is not None, "bytes left without a dispatch"
    assert said["event"] == "dispatch", "bytes left though the decision blocked them"
    row = rules_row(place, exchange.receiver, release)
    if row is not None:  # else its result was faster
        assert row.lease_until_ms > place.clock.monotonic_ms(), "bytes left without a lease"
    item = item_of(place.disk.state.documents["item", said["item"]].body)
    outgoing = next(
        o for o in item.outgoing if o.release is not None and o.release.record_id == release
    )
    assert outgoing.proposal.path[1] == exchange.receiver
    check_may_go(place, item, outgoing, said["at"])


def rules_row(place: Place, peer: str, release: str) -> Any:
    needle = release.encode()
    for row in place.disk.state.outbox.values():
        if row.peer == peer and needle in row.body and b'"release"' in row.body:
            return row
    return None


def check_may_go(place: Place, item: Item, outgoing: Outgoing, at: str) -> None:
    """The decision, taken once more by what the node's own record says, allows exactly this."""
    label = item.label(place.engine.regime)
    holding: Json = {"basis": dict(item.basis)}
    if item.held_as is not None:
        holding["held_as"] = item.held_as
    question = Question(
        at, place.party, outgoing.proposal.to, label,
        decode_holding(holding, place.engine.regime, label, place.party),
    )  # fmt: skip
    decision = place.engine.decide_stated(question, outgoing.proposal.path, outgoing.proposal.basis)
    assert not hasattr(decision, "reasons"), f"bytes left that {decision} forbids"
    assert decision.legs == outgoing.proposal.legs
    at_held = place.disk.state.documents.items()
    holds = {key for (kind, key), r in at_held if kind == "hold" and r.state == "on"}
    held_at = {
        e["to"]: e["at"] for e in place.entries() if e["event"] == "hold" and e["to"] in holds
    } if holds else {}  # fmt: skip
    for party, since in held_at.items():
        assert party not in outgoing.proposal.path[1:] or since >= at, "bytes left under a hold"


def check_effects_are_committed(rules: Rules, exchange: Exchange, hop: Hop) -> None:
    """Rule 4, I16: what a peer sees of a receipt, refusal or release is in the sender's store."""
    documents = rules.coalition[exchange.sender].disk.durable_state.documents
    for envelope in hop.records:
        if envelope.payload_type == Manifest.type():
            assert ("item", envelope.record_id) in documents
        if envelope.payload_type in (Receipt.type(), Refusal.type()):
            kind = Receipt if envelope.payload_type == Receipt.type() else Refusal
            record = decode_record(envelope, kind)
            item = item_of(documents["item", str(record.to_json()["item"])].body)
            assert any(envelope in (i.result, *i.later) for i in item.incoming)


def check_keys_go_to_readers(rules: Rules, exchange: Exchange, hop: Hop) -> None:
    """I6: a payload key leaves only for a reader of its item who is meant to read."""
    if not hop.keys:
        return
    place = rules.coalition[exchange.sender]
    manifest = next(r for r in hop.records if r.payload_type == Manifest.type())
    release = decode_record(releases_in(hop)[-1], Release)
    item = item_of(place.disk.state.documents["item", manifest.record_id].body)
    assert exchange.receiver in readers_of(item)
    for citation in release.basis.values():
        clause = place.engine.regime.clause(citation)
        assert clause is not None
        is_blind = isinstance(clause.body, Share) and not clause.body.via_reads
        assert not (is_blind and release.to != exchange.receiver), "the key went to a blind hub"


HOP_CHECKS: tuple[Callable[[Rules, Exchange, Hop], None], ...] = (
    check_a_release_leaves_by_right,
    check_effects_are_committed,
    check_keys_go_to_readers,
)


# The whole, once it is quiet


def check_end(rules: Rules, secrets: tuple[bytes, ...]) -> None:
    """Each item is at each of its recipients, or was refused by a signed word; nothing shows."""
    coalition = rules.coalition
    everywhere = {p: place.items() for p, place in coalition.places.items()}
    for party, item_id in rules.accepted:
        assert item_id in everywhere[party], "an item that was accepted is lost"
    for party, items in everywhere.items():
        for item in items.values():
            _check_item(coalition[party], item, everywhere)
    assert len(coalition.refused_bodies) <= 1, "refusals do not look alike (rule 7)"
    for place in coalition.places.values():
        for part in _parts_of(place.disk.state):
            assert not any(secret in part for secret in secrets), "a content lies in the clear"


def _parts_of(state: State) -> Iterator[bytes]:
    for row in state.documents.values():
        yield row.body
    for owed in state.outbox.values():
        yield owed.body
    for entry in state.journal:
        yield entry.entry


def _check_item(place: Place, item: Item, everywhere: dict[str, dict[str, Item]]) -> None:
    assert item.made_here or item.id in everywhere[item.manifest.maker]
    for outgoing in item.outgoing:
        if outgoing.state == "delivered":
            assert answer_of(place.trust, item, outgoing) == "delivered"
            there = everywhere[outgoing.proposal.to].get(item.id)
            assert there is not None, "receipted, and not there"
            assert any(i.state == "held" for i in there.incoming)
            assert ciphertext_of(place.coalition[outgoing.proposal.to], there)
        elif outgoing.state == "refused":
            assert answer_of(place.trust, item, outgoing) == "refused"

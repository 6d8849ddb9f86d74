"""The rules of the exchange (DESIGN §6) and its invariants (I1 to I19), as functions that raise
AssertionError. `watch` has them run after every commit, on all that leaves a node and on every
answer; `check_end` looks at the whole when all is quiet.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType
from typing import Any

from checkers import answer_of, is_signed, readers_of
from relto import canonical, peering, seal, streams
from relto.clauses import Citation, Share
from relto.decisions import Deny, Engine
from relto.envelope import Envelope
from relto.hop import Hop, key_id_of
from relto.items import Incoming, Item, Outgoing, Proposal
from relto.labels import decode_holding
from relto.links import Response
from relto.payloads import bucket_size_bytes
from relto.questions import Question
from relto.records import Approval, Manifest, Receipt, Refusal, Release, decode_record
from relto.seal import HpkePrivateKey
from relto.stores.memory import State
from relto.trust import Trust
from sim.coalition import Coalition, Exchange, Place, entry_of, item_of
from sim.loop import PROCESS

__all__ = ["CONTENT", "Rules"]

OUTBOX_ROWS_PER_ITEM_MAX = 40
JOURNAL_PER_COMMIT_MAX = 64 * 32
WAIT_MS_MAX = 400_000  # the longest wait is 300 s, and no two tries are at the same instant
LENGTH_BYTES = 8
SEAL_BYTES = (32 + 48, 32 + 1136)  # the key's id, and what a cheap or a real seal adds
CONTENT = b"canary that nobody may see in the clear"
"""What every payload in a schedule begins with."""

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


class Checks(Trust):
    """Trust as it is in the tree, whatever bug is planted in it: what the rules verify with."""

    verify = FunctionType(
        Trust.verify.__code__, Trust.verify.__globals__, "verify", Trust.verify.__defaults__
    )
    verify.__kwdefaults__ = Trust.verify.__kwdefaults__


@dataclass
class Rules:
    """The checkers of one run, and what they remember of it."""

    coalition: Coalition
    held: dict[tuple[str, str], int] = field(default_factory=dict)  # party, release
    manifests: dict[str, bytes] = field(default_factory=dict)  # of all nodes, by item
    accepted: dict[tuple[str, str], None] = field(default_factory=dict)  # party, item
    stale: dict[tuple[str, int, str], int] = field(default_factory=dict)
    told: dict[tuple[str, str, str], None] = field(default_factory=dict)  # sender, peer, result
    way: dict[str, dict[str, None]] = field(default_factory=dict)  # who may see a record or item
    trusts: dict[str, Trust] = field(default_factory=dict)

    def watch(self) -> None:
        watch = self.coalition.watch
        watch.on_commit.append(self.after_commit)
        watch.on_leave.append(self.on_leave)
        watch.on_answer.append(self.on_answer)
        watch.on_given.append(self.on_given)
        watch.on_denied.append(check_denials_are_journaled)

    def trust(self, place: Place) -> Trust:
        """Whom a party trusts, checked by code without planted bugs."""
        if place.party not in self.trusts:
            own = place.trust
            self.trusts[place.party] = Checks(own.cas, exercise=own.exercise, verifies=own.verifies)
        return self.trusts[place.party]

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
        path = exchange.request.path
        if path.endswith("/hop"):
            hops = opened(self.coalition, exchange)
            for hop in hops:
                for check in HOP_CHECKS:
                    check(self, exchange, hop)
            parts = [hop.encode() for hop in hops]
            for part in parts:
                assert CONTENT not in part, "a content is sent in the clear"
                check_outsiders_see_nothing(self, exchange.receiver, part)
            check_sizes_are_padded(parts, exchange.request.body)
        elif path.endswith(f"/node-key/{exchange.receiver}"):
            self.stale.pop((exchange.sender, place.lives, exchange.receiver), None)
        elif "/ciphertext/" in exchange.request.path:
            release = exchange.request.path.rpartition("/")[2]
            check_a_lease_lives(self, exchange, release)

    def on_answer(self, exchange: Exchange, response: Response) -> None:
        check_answers_tell_no_reason(response)
        check_outsiders_see_nothing(self, exchange.sender, response.body)
        if exchange.request.path.endswith("/hop") and response.status == 200:
            check_results_come_back_along_the_path(self, exchange, response)

    def on_given(self, exchange: Exchange, response: Response) -> None:
        if exchange.request.path.endswith("/hop"):
            check_who_is_told_that_a_key_is_gone_asks(self, exchange, response)
            note_results_told(self, exchange, response)


def opened(coalition: Coalition, exchange: Exchange) -> tuple[Hop, ...]:
    """What is inside a hop message; nothing if the key that it was sealed to is gone."""
    if exchange.parts is None:
        exchange.parts = _opened(coalition, exchange)
    return exchange.parts


def _opened(coalition: Coalition, exchange: Exchange) -> tuple[Hop, ...]:
    sealed = exchange.request.body
    key = _hpke_key(coalition, exchange)
    if key is None:
        return ()
    hops: tuple[Hop, ...] = peering.open_hop(  # type: ignore[attr-defined]  # maybe remembered
        sealed, sender=exchange.sender, recipient=exchange.receiver, key=key
    )
    return hops


def _hpke_key(coalition: Coalition, exchange: Exchange) -> HpkePrivateKey | None:
    """What a hop message was sealed to, if its receiver still has it."""
    place = coalition[exchange.receiver]
    key_id = key_id_of(exchange.request.body)
    row = place.disk.state.documents.get(("hpke-key", key_id))
    if row is None:
        return None
    return HpkePrivateKey(_unwrapped(place, row.body, f"hpke-key/{key_id}"), coalition.suite)


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
                assert not answer_of(rules.trust(commit.place), item, outgoing)


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
            row = commit.before.outbox[number]
            result = Envelope.from_json(body["result"]).record_id
            known = (commit.place.party, row.peer, result) in rules.told
            assert known, "a result is forgotten that its peer did not answer"
            continue
        item = item_of(commit.after.documents["item", body["item"]].body)
        ways = [
            o
            for o in item.outgoing
            if o.release is not None and o.release.record_id == body["release"]
        ]
        assert len(ways) == 1
        assert answer_of(rules.trust(commit.place), item, ways[0]), "forgotten without an answer"


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
    trust = rules.trust(commit.place)
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
    engine, trust = commit.place.engine, rules.trust(commit.place)
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
            assert release.path[1] == commit.place.party, "it is for another party"
            prior = [decode_record(e, Release) for e in incoming.prior]
            assert release.prior == tuple(e.record_id for e in incoming.prior), "another chain"
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
            check_may_go(commit.place, item, o, _instant_of(commit), is_new=True)


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


def check_nothing_waits_for_ever(rules: Rules, commit: Commit) -> None:
    """I1, I19: whatever is owed is tried again within minutes of this boot's own clock."""
    process = commit.place.process
    if process is None or not process.is_serving:
        return
    latest_ms = commit.place.clock.monotonic_ms() + WAIT_MS_MAX
    for row in commit.after.outbox.values():
        assert row.ready_ms <= latest_ms, "a row waits for ever"


def note_ways(rules: Rules, commit: Commit) -> None:
    """Who may see what: the parties on the path of a release, and on those before it."""
    for _, item in commit.changed:
        for incoming in item.incoming:  # also what a liar made
            path = dict.fromkeys((commit.place.party, *incoming.record.path))
            approved = [a.record_id for a in incoming.approvals]
            for seen in (item.id, incoming.id, *incoming.record.prior, *approved):
                rules.way.setdefault(seen, {}).update(path)
        releases = [(o.release, o.approvals) for o in item.outgoing if o.release is not None]
        for envelope, approvals in releases:
            if envelope.record_id in rules.way:
                continue
            release = decode_record(envelope, Release)
            chain = (*release.prior, envelope.record_id)
            parties = dict.fromkeys((commit.place.party, *release.path))
            for prior in release.prior:
                parties |= rules.way.get(prior, {})
            sources = [s["item"] for s in item.manifest.label.get("sources", ())]
            shown = (a for i in item.incoming if i.id in release.prior for a in i.approvals)
            approved = [a.record_id for a in (*approvals, *shown)]
            for seen in (item.id, *sources, *chain, *approved):
                rules.way.setdefault(seen, {}).update(parties)


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
    check_nothing_waits_for_ever,
    note_ways,
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


def check_may_go(
    place: Place, item: Item, outgoing: Outgoing, at: str, *, is_new: bool = False
) -> None:
    """The decision, taken once more by what the node's own record says, allows exactly this; a new
    release is what it prefers."""
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
    if is_new:
        preferred = place.engine.decide(question)
        assert not isinstance(preferred, Deny), f"released what {preferred} forbids"
        assert Proposal.of(preferred, label, place.party) == outgoing.proposal, (
            "released unreviewed"
        )
        return  # what is released under a hold waits for its end
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


def check_only_its_way_sees_it(rules: Rules, exchange: Exchange, hop: Hop) -> None:
    """Rule 6: a party sees manifest, releases, approvals and results of the ways that it is on, no
    others, and no word of any other item."""
    for envelope in hop.records:
        seen: tuple[str, ...] = (envelope.record_id,)
        if envelope.payload_type == Receipt.type():
            receipt = decode_record(envelope, Receipt)
            seen = (receipt.item, *receipt.releases)
        elif envelope.payload_type == Refusal.type():
            refusal = decode_record(envelope, Refusal)
            seen = (refusal.item, *refusal.releases)
        for each in seen:
            assert exchange.receiver in rules.way.get(each, {}), "a record that is not its to see"


def check_outsiders_see_nothing(rules: Rules, party: str, data: bytes) -> None:
    """Rule 6: no id of an item in what goes to a party that no release of it names."""
    for _, item in rules.accepted:
        if party not in rules.way.get(item, {}):
            assert item.encode() not in data, "the id of an item that is not its to see"


def check_sizes_are_padded(parts: list[bytes], sealed: bytes) -> None:
    """Rule 6: what is sealed has one of few sizes."""
    if parts:
        size = sum(len(part) + 1 for part in parts) + 1
        padded = bucket_size_bytes(size + LENGTH_BYTES)
        assert len(sealed) - padded in SEAL_BYTES, "a size that is not padded"


HOP_CHECKS: tuple[Callable[[Rules, Exchange, Hop], None], ...] = (
    check_a_release_leaves_by_right,
    check_effects_are_committed,
    check_keys_go_to_readers,
    check_only_its_way_sees_it,
)


# What is answered


def check_answers_tell_no_reason(response: Response) -> None:
    """Rule 7: a refusal is these bytes, of a whole message or of a part, whatever its reason."""
    if response.status == 400:
        assert response.body == b'{"status":"refused"}', "a refusal that tells more"
    elif response.status == 200 and response.body.startswith(b'{"parts":'):
        for part in json.loads(response.body)["parts"]:
            assert part["status"] != "refused" or part.keys() == {"status"}


def check_results_come_back_along_the_path(
    rules: Rules, exchange: Exchange, response: Response
) -> None:
    """Rule 1: a result is taken from the next party on the path of what it is for, and no other."""
    items = rules.coalition[exchange.receiver].items()
    said = json.loads(response.body)["parts"]
    for hop, answer in zip(opened(rules.coalition, exchange), said, strict=True):
        for envelope in hop.records:
            if envelope.payload_type not in (Receipt.type(), Refusal.type()):
                continue
            kind: type[Receipt] | type[Refusal]
            kind = Receipt if envelope.payload_type == Receipt.type() else Refusal
            record: Receipt | Refusal = decode_record(envelope, kind)
            ways = items[record.item].outgoing if record.item in items else ()
            senders = {o.proposal.path[1] for o in ways if o.release_id in record.releases}
            is_foreign = answer["status"] == "accepted" and exchange.sender not in senders
            assert not is_foreign, "a result from one who is not next on the path"


def check_who_is_told_that_a_key_is_gone_asks(
    rules: Rules, exchange: Exchange, response: Response
) -> None:
    """I18: who sealed to a key that is gone asks for the new one, instead of trying again. Both
    lanes may have sealed to it."""
    if response.status != 409 or _hpke_key(rules.coalition, exchange) is not None:
        return
    told = (exchange.sender, rules.coalition[exchange.sender].lives, exchange.receiver)
    rules.stale[told] = rules.stale.get(told, 0) + 1
    assert rules.stale[told] <= 2, "it seals to a key that is gone, again and again"


def note_results_told(rules: Rules, exchange: Exchange, response: Response) -> None:
    """Which results their peers have answered: only those may be forgotten."""
    words = {400: "refused"}
    parts = opened(rules.coalition, exchange)
    said = [words.get(response.status, "")] * len(parts)
    if response.status == 200:
        said = [part["status"] for part in json.loads(response.body)["parts"]]
    for hop, word in zip(parts, said, strict=False):
        if word in ("accepted", "refused"):
            for envelope in hop.records:
                rules.told[exchange.sender, exchange.receiver, envelope.record_id] = None


def check_denials_are_journaled(place: Place, before: int, answer: Json) -> None:
    """Rule 4, I16: what the decision denies a node's own people is in its journal first."""
    denied = [
        (e["to"], e["codes"])
        for e in place.entries(before)
        if e["event"] == "decide" and e["decision"] == "deny"
    ]
    for refusal in answer["refusals"]:
        codes = list(dict.fromkeys(r["code"] for r in refusal["reasons"]))
        assert (refusal["to"], codes) in denied, "denied, and not journaled"


# The whole, once it is quiet


def check_end(rules: Rules) -> None:
    """Each item is at each of its recipients, or was refused by a signed word; nothing shows."""
    coalition = rules.coalition
    everywhere = {p: place.items() for p, place in coalition.places.items()}
    for party, item_id in rules.accepted:
        assert item_id in everywhere[party], "an item that was accepted is lost"
    for party, items in everywhere.items():
        for item in items.values():
            _check_item(rules, coalition[party], item, everywhere)
    for place in coalition.places.values():
        for part in _parts_of(place.disk.state):
            assert CONTENT not in part, "a content lies in the clear"


def _parts_of(state: State) -> Iterator[bytes]:
    for row in state.documents.values():
        yield row.body
    for owed in state.outbox.values():
        yield owed.body
    for entry in state.journal:
        yield entry.entry


def _check_item(
    rules: Rules, place: Place, item: Item, everywhere: dict[str, dict[str, Item]]
) -> None:
    assert item.made_here or item.id in everywhere[item.manifest.maker]
    for outgoing in item.outgoing:
        if outgoing.state == "delivered":
            assert answer_of(rules.trust(place), item, outgoing) == "delivered"
            there = everywhere[outgoing.proposal.to].get(item.id)
            assert there is not None, "receipted, and not there"
            assert any(i.state == "held" for i in there.incoming)
            assert ciphertext_of(place.coalition[outgoing.proposal.to], there)
        elif outgoing.state == "refused":
            assert answer_of(rules.trust(place), item, outgoing) == "refused"

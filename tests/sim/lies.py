"""What a node that lies does to the messages that leave it: a function of each, from a seed.

The liar has the keys of its own node and officers and no others. It knows what it sealed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from relto import canonical
from relto import envelope as dsse
from relto.decisions import Leg
from relto.envelope import Envelope, Signature
from relto.hop import INLINE_BYTES_MAX, Hop, key_id_of, seal_hop, seal_key
from relto.items import Item
from relto.links import Response
from relto.records import (
    Approval,
    Manifest,
    NodeKey,
    Receipt,
    Record,
    Refusal,
    Release,
    decode_record,
)
from relto.seal import HpkePrivateKey, HpkePublicKey
from relto.trust import Certificates
from sim.coalition import PARTIES, Coalition, Exchange
from sim.crypto import Person, keys_of
from sim.rules import opened
from world import OFFICERS

__all__ = ["ADDED", "LIES", "Liar"]

Lie = Callable[["Liar", Hop], Hop | None]
LIES_A_MESSAGE = 4  # that stand instead of one message, or go before it
EARLIER = "2015-01-04T23:00:00Z"


class Liar:
    """One party that lies on one of its links, in some ways, whenever one of them fits."""

    def __init__(
        self,
        coalition: Coalition,
        party: str,
        victim: str,
        lies: Sequence[str],
        random_: random.Random,
    ) -> None:
        self.coalition = coalition
        self.party = party
        self.victim = victim
        self.lies = lies
        self.random = random_
        self.seen: list[bytes] = []  # sealed messages of its own, to send again

    def alter(self, exchange: Exchange) -> list[bytes] | None:
        """What goes instead of a request; None: the request as it is."""
        body = exchange.request.body
        if "/ciphertext/" in exchange.request.path and "other bytes" in self.lies:
            self._tell("other bytes")
            return [bytes(b ^ 1 for b in body[:64]) + body[64:]]
        if not exchange.request.path.endswith("/hop"):
            return None
        self.seen.append(body)
        if self.random.random() < 0.2:
            return None
        lies = self.random.sample(self.lies, len(self.lies))
        lies.sort(key=lambda lie: lie not in SELDOM)  # whose hour comes seldom goes first
        messages: list[bytes] = []
        for lie in lies:
            told = self._told(lie, exchange)
            if told is not None:
                self._tell(lie)
                messages.append(told)
                if len(messages) == LIES_A_MESSAGE:
                    break
        if not messages:
            return None
        return [*messages, body] if self.random.random() < 0.6 else messages

    def _told(self, lie: str, exchange: Exchange) -> bytes | None:
        """A message as one lie has it; None where that lie does not fit."""
        body = exchange.request.body
        if lie == "again":
            return self.random.choice(self.seen)
        if lie == "other bytes":
            at = self.random.randrange(32, len(body))
            return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        if not self.coalition[self.victim].is_up or not self.coalition[self.party].is_up:
            return None
        if lie in ADDED:
            part = ADDED[lie](self)
            return None if part is None else self._sealed([part], body)
        parts = opened(self.coalition, exchange)
        changed = [LIES[lie](self, part) for part in parts]
        if not parts or all(part is None for part in changed):
            return None
        return self._sealed([n or old for n, old in zip(changed, parts, strict=True)], body)

    def _sealed(self, parts: Sequence[Hop], instead_of: bytes) -> bytes:
        key = self.key_of(self.victim, key_id_of(instead_of) if instead_of else "")
        told = [part.encode() for part in parts]
        return seal_hop(told, sender=self.party, recipient=self.victim, key=key)

    def alter_answer(self, exchange: Exchange, response: Response) -> Response:
        """What goes instead of an answer. Whoever was just told something may tell it on."""
        path = exchange.request.path
        self._add()
        if "says accepted" in self.lies and path.endswith("/hop"):
            parts = [{"status": "accepted"}] * len(opened(self.coalition, exchange))
            self._tell("says accepted")
            return Response(200, canonical.encode({"parts": parts}))
        if "another's node key" in self.lies and "/node-key/" in path:
            place = self.coalition[self.party]
            tells = response.status == 200 and place.is_serving  # who has just died says nothing
            if tells and not path.endswith(self.party):
                self._tell("another's node key")
                party = path.rpartition("/")[2]
                ours = decode_record(place.node.node_key(), NodeKey)
                record = self._signed(keys_of(self.party).node, replace(ours, party=party))
                certificates = Certificates.of([keys_of(self.party).node.certificate])
                return Response(200, Hop((record,), certificates).encode())
        return response

    def _add(self) -> None:
        """A message that the node itself has no occasion for."""
        lies = [lie for lie in self.lies if lie in ADDED]
        places = (self.coalition[self.party], self.coalition[self.victim])
        if not lies or not all(place.is_serving for place in places):
            return
        lie = self.random.choice(lies)
        part = ADDED[lie](self)
        if part is not None:
            self._tell(lie)
            self.coalition.whisper(self.party, self.victim, self._sealed([part], b""))

    def _tell(self, lie: str) -> None:
        self.coalition.struck(f"lie: {lie}", self.party)

    def key_of(self, party: str, key_id: str = "") -> HpkePublicKey:
        """A party's key of that id, or else of the week."""
        place = self.coalition[party]
        key = place.node.hpke_key(key_id) if key_id else None
        if isinstance(key, HpkePrivateKey):
            return key.public_key
        record = decode_record(place.node.node_key(), NodeKey)
        return HpkePublicKey(bytes.fromhex(record.key), self.coalition.suite)

    def _signed(self, person: Person, record: Record) -> Envelope:
        return self.coalition.crypto.sign(person, record)


def _changed(hop: Hop, old: Envelope, new: Envelope, liar: Liar, person: Person) -> Hop:
    records = tuple(new if r is old else r for r in hop.records)
    own = Certificates.of([person.certificate])
    return replace(hop, records=records, certificates=own.with_others(hop.certificates))


def _last(hop: Hop, kind: type[Record]) -> Envelope | None:
    found = [r for r in hop.records if r.payload_type == kind.type()]
    return found[-1] if found else None


def _drop(liar: Liar, hop: Hop) -> Hop | None:
    """A record is missing: an approval, a prior release, the manifest."""
    if len(hop.records) < 2:
        return None
    gone = liar.random.randrange(len(hop.records))
    return replace(hop, records=hop.records[:gone] + hop.records[gone + 1 :])


def _other_ciphertext(liar: Liar, hop: Hop) -> Hop | None:
    if not hop.ciphertexts:
        return None
    changed = {item: data[:-1] + bytes([data[-1] ^ 1]) for item, data in hop.ciphertexts.items()}
    return replace(hop, ciphertexts=changed)


def _other_key(liar: Liar, hop: Hop) -> Hop | None:
    if not hop.keys:
        return None
    return replace(hop, keys={item: liar.random.randbytes(32) for item in hop.keys})


def _forged_receipt(liar: Liar, hop: Hop) -> Hop | None:
    """A receipt of another party, signed by the liar."""
    old = _last(hop, Receipt)
    if old is None:
        return None
    person = keys_of(liar.party).node
    receipt = decode_record(old, Receipt)
    others = [p for p in PARTIES if p not in (liar.party, liar.victim)]
    forged = liar._signed(person, replace(receipt, party=others[0]))
    if liar.random.random() < 0.5:  # under the key id of whom it names
        signature = Signature(keys_of(others[0]).node.keyid, forged.signatures[0].sig)
        forged = replace(forged, signatures=(signature,))
    return _changed(hop, old, forged, liar, person)


def _receipt_of_another(liar: Liar, hop: Hop) -> Hop | None:
    """A true signature of its own under a receipt for what it never got."""
    old = _last(hop, Receipt)
    if old is None:
        return None
    receipt = decode_record(old, Receipt)
    if receipt.party != liar.party:
        return None
    other = replace(receipt, releases=(liar.random.randbytes(32).hex(),))
    person = keys_of(liar.party).node
    return _changed(hop, old, liar._signed(person, other), liar, person)


def _second_result(liar: Liar, hop: Hop) -> Hop | None:
    """A refusal of its own after its receipt."""
    old = _last(hop, Receipt)
    if old is None:
        return None
    receipt = decode_record(old, Receipt)
    person = keys_of(liar.party).node
    refusal = Refusal(receipt.item, liar.party, receipt.releases, ("not-releasable",), receipt.at)
    record = liar._signed(person, refusal)
    return replace(_changed(hop, old, old, liar, person), records=(*hop.records, record))


def _withheld(liar: Liar, hop: Hop) -> Hop | None:
    """Another's result is kept back: its own, which is known already, goes instead."""
    old = _last(hop, Receipt)
    if old is None or decode_record(old, Receipt).party == liar.party:
        return None
    person = keys_of(liar.party).node
    receipt = replace(decode_record(old, Receipt), party=liar.party)
    return _changed(hop, old, liar._signed(person, receipt), liar, person)


def _lower_mark(liar: Liar, hop: Hop) -> Hop | None:
    """The release states a lower mark, signed by the liar, with approvals that fit it."""
    lowest = {"JPN": "JPN:HI", "KOR": "KOR:III", "USA": "USA:C"}

    def lowered(legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
        return (*legs[:-1], replace(legs[-1], mark=lowest[legs[-1].receiver]))

    return _released_anew(liar, hop, lambda r: replace(r, legs=lowered(r.legs)), approve=True)


def _without_approvals(liar: Liar, hop: Hop) -> Hop | None:
    changed = _released_anew(liar, hop, lambda r: replace(r, approvals=()), approve=False)
    if changed is None:
        return None
    kept = tuple(r for r in changed.records if r.payload_type != Approval.type())
    return replace(changed, records=kept)


def _other_article(liar: Liar, hop: Hop) -> Hop | None:
    """The release cites another article than permits it."""
    article = liar.random.choice(
        ["tisa-2014/9", "carried/1", "carried/4", "pair-jpn-usa/1", "relay/1"]
    )

    def cited(r: Release) -> Release:
        return replace(r, basis=dict.fromkeys(r.basis, article))

    return _released_anew(liar, hop, cited, approve=True)


def _no_digests(liar: Liar, hop: Hop) -> Hop | None:
    """The release does not say by which edition of the agreements it was made."""
    return _released_anew(liar, hop, lambda r: replace(r, agreements={}), approve=False)


def _other_digests(liar: Liar, hop: Hop) -> Hop | None:
    """The release says that it was made by another edition of the agreement."""
    return _released_anew(
        liar, hop, lambda r: replace(r, agreements=dict.fromkeys(r.agreements, "0" * 64)),
        approve=False,
    )  # fmt: skip


def _from_the_future(liar: Liar, hop: Hop) -> Hop | None:
    return _released_anew(liar, hop, lambda r: replace(r, at="2015-06-01T00:00:00Z"), approve=False)


def _one_officer_twice(liar: Liar, hop: Hop) -> Hop | None:
    """Two approvals by one person, where two people are asked for."""
    release = _last(hop, Release)
    if release is None or decode_record(release, Release).sender != liar.party:
        return None
    r = decode_record(release, Release)
    if len(r.approvals) < 2:
        return None
    name = OFFICERS[liar.party][0]
    person = keys_of(liar.party).officers[name]
    return _approved_by(liar, hop, r, [(person, name, r.at), (person, name, EARLIER)])


def _approved_by(
    liar: Liar, hop: Hop, r: Release, who: Sequence[tuple[Person, str, str]]
) -> Hop | None:
    """The liar's release with these approvals: who signs, in whose name, when."""
    approvals = [
        liar._signed(person, Approval(liar.party, name, r.item, r.to, r.path, r.legs, r.basis, at))
        for person, name, at in who
    ]
    ids = tuple(a.record_id for a in approvals)
    changed = _released_anew(liar, hop, lambda r: replace(r, approvals=ids), approve=False)
    if changed is None:
        return None
    kept = tuple(
        e
        for e in changed.records
        if e.payload_type != Approval.type() or decode_record(e, Approval).party != liar.party
    )
    own = Certificates.of([person.certificate for person, _, _ in who])
    return replace(
        changed, records=(*kept, *approvals), certificates=own.with_others(changed.certificates)
    )


def _released_anew(
    liar: Liar, hop: Hop, change: Callable[[Release], Release], *, approve: bool
) -> Hop | None:
    old = _last(hop, Release)
    if old is None:
        return None
    release = decode_record(old, Release)
    if release.sender != liar.party:
        return None
    changed_release = change(release)
    if changed_release == release and not approve:
        return None
    release = changed_release
    records = hop.records
    certificates = hop.certificates
    if approve and release.approvals:
        count = len(release.approvals)
        approvals = []
        for name in OFFICERS[liar.party][:count]:
            person = keys_of(liar.party).officers[name]
            record = Approval(
                liar.party, name, release.item, release.to, release.path, release.legs,
                release.basis, release.at,
            )  # fmt: skip
            approvals.append(liar._signed(person, record))
            own = Certificates.of([person.certificate])
            certificates = own.with_others(certificates)
        records = (
            *(r for r in records if r.record_id not in release.approvals),
            *approvals,
        )
        release = replace(release, approvals=tuple(a.record_id for a in approvals))
    node = keys_of(liar.party).node
    new = liar._signed(node, release)
    changed = _changed(replace(hop, records=records), old, new, liar, node)
    return replace(changed, certificates=certificates.with_others(changed.certificates))


def _relabelled(liar: Liar, hop: Hop) -> Hop | None:
    """Another label on another's item, under the maker's key id."""
    old = _last(hop, Manifest)
    if old is None:
        return None
    manifest = decode_record(old, Manifest)
    if manifest.maker == liar.party:
        return None
    label: dict[str, Any] = {**manifest.label, "releasable_to": ["JPN", "USA"]}
    label["mark"] = {"JPN": "JPN:HI", "KOR": "KOR:III", "USA": "USA:C"}[manifest.maker]
    person = keys_of(liar.party).officers[OFFICERS[liar.party][0]]
    forged = liar._signed(person, replace(manifest, label=label, at=EARLIER))
    keyid = old.signatures[0].keyid
    forged = replace(forged, signatures=(Signature(keyid, forged.signatures[0].sig),))
    return _with_manifest(liar, hop, old, forged)


def _in_anothers_name(liar: Liar, hop: Hop) -> Hop | None:
    """The maker's item under the signature of the liar's own officer."""
    old = _last(hop, Manifest)
    if old is None or decode_record(old, Manifest).maker == liar.party:
        return None
    person = keys_of(liar.party).officers[OFFICERS[liar.party][0]]
    signer = liar.coalition.crypto.signer(person)
    forged = dsse.sign(Manifest.type(), old.payload, [signer])
    return _changed(hop, old, forged, liar, person)


def _bad_signature(liar: Liar, hop: Hop) -> Hop | None:
    """One signature does not hold; whatever it is under."""
    index = liar.random.choice((0, 0, liar.random.randrange(len(hop.records))))  # 0: the manifest
    record = hop.records[index]
    spoiled = tuple(replace(s, sig=bytes([s.sig[0] ^ 1]) + s.sig[1:]) for s in record.signatures)
    records = list(hop.records)
    records[index] = replace(record, signatures=spoiled)
    return replace(hop, records=tuple(records))


def _with_manifest(liar: Liar, hop: Hop, old: Envelope, forged: Envelope) -> Hop:
    """The whole consignment is about the forged item then."""
    item = forged.record_id

    def moved(of: Any) -> dict[str, bytes]:
        return dict.fromkeys([item] if of else [], next(iter(of.values()), b""))

    changed = replace(
        hop,
        records=tuple(forged if r is old else r for r in hop.records),
        keys=moved(hop.keys),
        sealed_keys=moved(hop.sealed_keys),
        ciphertexts=moved(hop.ciphertexts),
    )
    return _released_anew(liar, changed, lambda r: replace(r, item=item), approve=True) or changed


def _wrongly_routed(liar: Liar, hop: Hop) -> Hop | None:
    """A release that names another next party on its path."""
    return _released_anew(
        liar,
        hop,
        lambda r: replace(r, path=(r.path[0], *r.path[:0:-1])) if len(r.path) > 2 else r,
        approve=False,
    )


def _other_recipient(liar: Liar, hop: Hop) -> Hop | None:
    """A release that is for another party than the one that it goes to."""
    other = next(p for p in PARTIES if p not in (liar.party, liar.victim))

    def turned(r: Release) -> Release:
        if len(r.path) > 2:
            return r
        legs = (replace(r.legs[0], receiver=other),)
        return replace(r, to=other, path=(r.path[0], other), legs=legs)

    return _released_anew(liar, hop, turned, approve=True)


def _other_sealed_key(liar: Liar, hop: Hop) -> Hop | None:
    """A hub that does not read seals a key of its own to the last party, in the maker's name."""
    if not hop.sealed_keys:
        return None
    release, manifest = _last(hop, Release), _last(hop, Manifest)
    assert release is not None
    assert manifest is not None
    to = decode_record(release, Release).to
    if not liar.coalition[to].is_up or not liar.coalition[to].is_serving:
        return None
    sealed = seal_key(
        liar.random.randbytes(32),
        sender=decode_record(manifest, Manifest).maker,
        recipient=to,
        item=manifest.record_id,
        key=liar.key_of(to),
    )
    return replace(hop, sealed_keys=dict.fromkeys(hop.sealed_keys, sealed))


def _other_prior(liar: Liar, hop: Hop) -> Hop | None:
    """Another release of the item, which came to the liar too, stands for the one that it passes
    on: perhaps by an agreement that the victim is not in."""
    release = _last(hop, Release)
    if release is None or decode_record(release, Release).sender != liar.party:
        return None
    item = liar.coalition[liar.party].items().get(decode_record(release, Release).item)
    shown = decode_record(release, Release).prior
    others = [i for i in (item.incoming if item else ()) if i.id not in shown and not i.prior]
    if len(shown) != 1 or not others:
        return None
    other = others[0]
    named = decode_record(release, Release).approvals
    records = (
        *(r for r in hop.records if r.payload_type == Manifest.type()),
        other.release,
        *other.approvals,
        release,
        *(r for r in hop.records if r.record_id in named),
    )
    changed = replace(hop, records=records, certificates=_all_of(item, hop))
    return _released_anew(liar, changed, lambda r: replace(r, prior=(other.id,)), approve=False)


def _all_of(item: Item | None, hop: Hop) -> Certificates:
    return hop.certificates if item is None else hop.certificates.with_others(item.certificates)


def _chain_twice(liar: Liar, hop: Hop) -> Hop | None:
    """A prior release is enclosed once more than the release names it."""
    releases = [r for r in hop.records if r.payload_type == Release.type()]
    if len(releases) < 2:
        return None
    at = hop.records.index(releases[0])
    return replace(hop, records=(*hop.records[:at], releases[0], *hop.records[at:]))


def _in_a_colleagues_name(liar: Liar, hop: Hop) -> Hop | None:
    """One officer signs both approvals, one of them in the name of the other officer."""
    release = _last(hop, Release)
    if release is None or decode_record(release, Release).sender != liar.party:
        return None
    r = decode_record(release, Release)
    if not r.approvals:
        return None
    person = keys_of(liar.party).officers[OFFICERS[liar.party][0]]
    names = OFFICERS[liar.party][-len(r.approvals) :]
    return _approved_by(liar, hop, r, [(person, name, r.at) for name in names])


def _hands_back(liar: Liar) -> Hop | None:
    """A result of another party that was handed on to the liar goes back to the hub."""
    for item in liar.coalition[liar.party].items().values():
        for outgoing in item.outgoing:
            for result in outgoing.results:
                kind = Receipt if result.payload_type == Receipt.type() else Refusal
                party = str(decode_record(result, kind).to_json()["party"])
                if outgoing.proposal.path[1] == liar.victim != party:
                    return Hop((result,), item.certificates.for_envelopes([result]))
    return None


def _verbatim(liar: Liar) -> Hop | None:
    """What another party released to the liar goes on as it is, without a release of its own."""
    for item in liar.coalition[liar.party].items().values():
        for incoming in item.incoming:
            if incoming.state == "held" and item.manifest.maker != liar.victim:
                return _consignment(liar, item, item.records_of(incoming))
    return None


def _misrouted(liar: Liar) -> Hop | None:
    """The liar's release to one peer goes to another."""
    for item in liar.coalition[liar.party].items().values():
        for outgoing in item.outgoing:
            if outgoing.release is not None and outgoing.proposal.path[1] != liar.victim:
                return _consignment(liar, item, item.records_for(outgoing))
    return None


def _consignment(liar: Liar, item: Item, records: tuple[Envelope, ...]) -> Hop:
    node = liar.coalition[liar.party].node
    key = node.payload_key(item)
    small = item.manifest.ciphertext_bytes <= INLINE_BYTES_MAX and item.stored == "row"
    return Hop(
        records,
        item.certificates.for_envelopes(records),
        {} if key is None else {item.id: key},
        {} if key is not None else dict(list(item.sealed_keys.items())[:1]),
        {item.id: b"".join(node.contents.ciphertext(item))} if small else {},
    )


def _nothing(liar: Liar, hop: Hop) -> Hop | None:
    return None


LIES: dict[str, Lie] = {
    "again": _nothing,
    "other bytes": _nothing,
    "says accepted": _nothing,
    "another's node key": _nothing,
    "drops a record": _drop,
    "another ciphertext": _other_ciphertext,
    "another key": _other_key,
    "a forged receipt": _forged_receipt,
    "a receipt for nothing": _receipt_of_another,
    "a refusal after a receipt": _second_result,
    "withholds results": _withheld,
    "a lower mark": _lower_mark,
    "no approvals": _without_approvals,
    "another article": _other_article,
    "no digests": _no_digests,
    "other digests": _other_digests,
    "from the future": _from_the_future,
    "one officer twice": _one_officer_twice,
    "relabels": _relabelled,
    "in another's name": _in_anothers_name,
    "a bad signature": _bad_signature,
    "wrongly routed": _wrongly_routed,
    "another recipient": _other_recipient,
    "another sealed key": _other_sealed_key,
    "another prior release": _other_prior,
    "the chain twice": _chain_twice,
    "in a colleague's name": _in_a_colleagues_name,
}

ADDED: dict[str, Callable[[Liar], Hop | None]] = {
    "hands results back": _hands_back,
    "passes on unread": _verbatim,
    "to another peer": _misrouted,
}
"""Lies that are a message more."""

SELDOM = frozenset(
    {
        "one officer twice",
        "in a colleague's name",
        "another sealed key",
        "another prior release",
        "the chain twice",
        "hands results back",
        "another ciphertext",
        "a bad signature",
    }
)

"""What a node whose store is behind takes back from its peers, and what a peer gives it (pure).

A store is behind when it is older than what peers have seen: restored from a backup, copied back
by hand, or new after a total loss. Nothing is believed that this node did not sign itself: its own
release in a peer's hands, or its own receipt or refusal of a peer's release (docs/spec/wire.md).
"""

from dataclasses import dataclass, replace
from typing import Any

from relto.consignments import Consignment, verify_consignment
from relto.decisions import Deny
from relto.envelope import Envelope
from relto.errors import PeerError, QuestionError
from relto.events import Effects, Recover, Send, View
from relto.hop import Hop
from relto.items import Incoming, Item, Outgoing, Proposal
from relto.receiving import pass_on, stamped
from relto.records import Receipt, Refusal, Release, decode_record
from relto.releasing import decide_again, pass_back, with_incoming
from relto.trust import Certificates, Trust

__all__ = ["ON_HOLD", "GivenBack", "give_back", "is_known", "recover", "verify_given_back"]

ON_HOLD = ("on-hold",)  # the codes of what an officer has stopped
Results = tuple[tuple[Envelope, Receipt | Refusal], ...]
_RESULTS: dict[str, type[Receipt] | type[Refusal]] = {
    Receipt.type(): Receipt,
    Refusal.type(): Refusal,
}


# At the giver


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What a peer may have back of one release.

    `records` in the order of a consignment, then the results. `whole` says whether payload key and
    ciphertext go with them; `outgoing` is our own release, where it is one.
    """

    records: tuple[Envelope, ...]
    certificates: Certificates
    whole: bool
    outgoing: Outgoing | None
    codes: tuple[str, ...] = ()


def give_back(view: View, release: str, peer: str, now: str) -> GivenBack:
    """What the node of `peer` may have back of a release between it and us, decided now.

    * Its own release to us: the records; the contents too if it is the maker (own information).
    * Our release to it that it receipted: all of it, if the decision holds now; else `codes`.
    * Our release to it that it refused: the records.

    Raises:
        PeerError: there is no such release, or it never answered it.
    """
    item = view.item
    incoming = None if item is None else item.incoming_by(release)
    outgoing = None if item is None else item.outgoing_by(release)
    if item is not None and incoming is not None and incoming.record.sender == peer:
        results = tuple(r for r in (incoming.result, *incoming.later) if r is not None)
        whole = item.manifest.maker == peer and bool(item.stored)
        return _given(item, (*item.records_of(incoming), *results), whole, None)
    if item is None or outgoing is None or outgoing.proposal.path[1] != peer:
        raise PeerError("no such release between us")
    theirs = {type(r) for _, r in _decoded(outgoing.results) if r.party == peer}
    if not theirs:
        raise PeerError("a release that was never answered is on its way as every other")
    codes: tuple[str, ...] = ()
    if Receipt in theirs:
        codes = _again(view, item, outgoing, now)
    records = (*item.records_for(outgoing), *outgoing.results)
    return _given(item, records, Receipt in theirs, outgoing, codes)


def _given(
    item: Item,
    records: tuple[Envelope, ...],
    whole: bool,
    outgoing: Outgoing | None,
    codes: tuple[str, ...] = (),
) -> GivenBack:
    certificates = item.certificates.for_envelopes(records)
    return GivenBack(records, certificates, whole, outgoing, codes)


def _again(view: View, item: Item, outgoing: Outgoing, now: str) -> tuple[str, ...]:
    """Why the contents may not go to where they went before; empty if they may."""
    if set(outgoing.proposal.path[1:]) & view.held_to:
        return ON_HOLD
    decision = decide_again(view, item, outgoing.proposal, now)
    if isinstance(decision, Deny):
        return decision.codes
    return () if decision.legs == outgoing.proposal.legs else ("marks-differ",)


def seal_again(view: View, asker: str, hub: str, now: str) -> tuple[str, tuple[str, ...]]:
    """The release by which `asker` may have the payload key past a hub that does not read, and the
    codes of the decision if it may not.

    * Our release to it by way of the hub, which it receipted: if the decision holds now.
    * Its own release to us by way of the hub, of an item that it made.

    Raises:
        PeerError: there is neither.
    """
    item = view.item
    if item is None or item.key is None:
        raise PeerError("no such item, or not its key")
    for outgoing in item.outgoing:
        receipts = {r.party for _, r in _decoded(outgoing.results) if isinstance(r, Receipt)}
        if outgoing.proposal.path == (view.party, hub, asker) and asker in receipts:
            assert outgoing.release is not None  # noqa: S101  # it was receipted
            return outgoing.release.record_id, _again(view, item, outgoing, now)
    for incoming in item.incoming:
        path = (*(p.path for p in incoming.prior_records), incoming.record.path)[0]
        if item.manifest.maker == asker and path == (asker, hub, view.party):
            return incoming.id, ()
    raise PeerError("no such release by way of that hub")


# At the node that is behind


def is_known(item: Item | None, record: str) -> bool:
    """Whether a record of ours is in our store: a release, receipt or refusal of this item."""
    if item is None:
        return False
    releases = {o.release.record_id for o in item.outgoing if o.release is not None}
    results = (r for i in item.incoming for r in (i.result, *i.later) if r is not None)
    return record in releases | {r.record_id for r in results}


def verify_given_back(hop: Hop, trust: Trust) -> tuple[Consignment, Results, Certificates]:
    """A release that was given back, its results, and who vouches for these. Raises PeerError."""
    results = tuple(r for r in hop.records if r.payload_type in _RESULTS)
    records = tuple(r for r in hop.records if r.payload_type not in _RESULTS)
    consignment = verify_consignment(replace(hop, records=records), trust)
    release, chain_end = consignment.release, consignment.release_envelope.record_id
    vouched = Certificates()
    decoded = _decoded(results)
    for envelope, record in decoded:
        if (
            record.item != consignment.item
            or chain_end not in record.releases
            or record.party not in release.path[1:]
        ):
            raise PeerError("a result of another release, or of a party that is not on its path")
        signers = trust.verify_node(
            envelope, type(record), party=record.party, certificates=hop.certificates
        )
        vouched = vouched.with_others(hop.certificates.for_signers(signers))
    return consignment, decoded, vouched


def _decoded(results: tuple[Envelope, ...]) -> Results:
    return tuple((e, decode_record(e, _RESULTS[e.payload_type])) for e in results)


def recover(view: View, event: Recover, now: str) -> Effects:
    """The item with a release that it lacked, as far as it had come.

    Raises:
        PeerError: neither is the release ours, nor have we answered it; nothing changes.
    """
    consignment = event.consignment
    release = consignment.release
    item = view.item or Item(
        consignment.item,
        consignment.manifest_envelope.payload,
        consignment.manifest_envelope.signatures,
        release.precedence,
        release.at,
        made_here=consignment.manifest.maker == view.party,
    )
    try:
        label = item.label(view.engine.regime)
    except QuestionError as e:
        raise PeerError(f"the manifest's label is malformed: {e}") from e
    # An item that was still in review here: what its officers signed comes back with it.
    item = item.with_manifest_signatures(consignment.manifest_envelope.signatures)
    item = replace(
        item,
        certificates=item.certificates.with_others(consignment.certificates)
        .with_others(event.certificates)
        .with_others(Certificates.of([view.certificate])),
        key=item.key or event.key,
        stored=item.stored or event.stored,
    )
    if release.sender == view.party and release.next == event.giver:
        return _recover_outgoing(event, item, now)
    if release.sender == event.giver and release.next == view.party:
        effects, held = _recover_incoming(view, event, item, now)
        if held is None or effects.item is None:
            return effects
        effects = replace(effects, item=stamped(view, effects.item, release, label))
        if _ended(event, release):
            return effects
        return pass_on(view, effects, held, label, now)
    raise PeerError("a release that is not between the giver and us")


def _entry(event: Recover, **more: Any) -> dict[str, Any]:
    release = event.consignment.release_envelope.record_id
    item = event.consignment.item
    return {"event": "recovered", "item": item, "release": release, "peer": event.giver, **more}


def _recover_outgoing(event: Recover, item: Item, now: str) -> Effects:
    """Our own release, which the giver has: it stands in the place of what we would do anew."""
    consignment = event.consignment
    release, envelope = consignment.release, consignment.release_envelope
    if is_known(item, envelope.record_id):
        return Effects(item)
    if not event.results and not item.stored:
        raise PeerError("neither does anyone have the contents, nor are they here")
    receipts = {r.party for _, r in event.results if isinstance(r, Receipt)}
    refusals = [r for _, r in event.results if isinstance(r, Refusal)]
    state = "sent"
    codes: tuple[str, ...] = ()
    if refusals:
        state, codes = "refused", refusals[-1].codes
    elif release.to in receipts:
        state = "delivered"
    elif receipts:
        state = "with-hub"
    own = set(release.approvals)
    approvals = tuple(a for a in consignment.approval_envelopes if a.record_id in own)
    outgoing = Outgoing(
        Proposal(release.to, release.path, release.legs, release.basis, len(approvals)),
        release.precedence,
        state,
        now,
        approvals,
        envelope,
        consignment.prior_envelopes,
        codes=codes,
        results=tuple(e for e, _ in event.results),
        answers=_answered(consignment),
    )
    # INVARIANT: what is dropped here never left: nothing goes to a peer before it was asked.
    dropped = [o for o in item.outgoing if _is_the_same_anew(o, outgoing, release)]
    kept = tuple(o for o in item.outgoing if o not in dropped)
    item = replace(item, outgoing=(*kept, outgoing))
    send: tuple[Send, ...] = ()
    if outgoing.is_open:
        send = (Send(event.giver, release.precedence, release=envelope.record_id),)
    effects = Effects(
        item,
        (_entry(event, state=state, to=release.to),),
        send,
        tuple(o.outbox for o in dropped if o.outbox is not None),
    )
    return pass_back(effects, outgoing)


def _answered(consignment: Consignment) -> str | None:
    """The release that a hub's release continues: the last prior one, if it asked for that."""
    if not consignment.prior:
        return None
    asked = consignment.prior[-1]
    continues = asked.to == consignment.release.to and asked.next == consignment.release.sender
    return consignment.prior_envelopes[-1].record_id if continues else None


def _is_the_same_anew(o: Outgoing, known: Outgoing, release: Release) -> bool:
    """Whether an outgoing of a store that was behind is what `release` had done already."""
    if o.proposal.to != known.proposal.to or o.answers != known.answers:
        return False
    if o.state == "review":
        return True
    later = o.release is not None and decode_record(o.release, Release).seq > release.seq
    return o.state in ("ready", "blocked") and later


def _recover_incoming(
    view: View, event: Recover, item: Item, now: str
) -> tuple[Effects, Incoming | None]:
    """The giver's release, which we answered, and its incoming here if the item is held by it."""
    consignment = event.consignment
    envelope = consignment.release_envelope
    ours = [(e, r) for e, r in event.results if r.party == view.party]
    if not ours:
        raise PeerError("given back is what we never answered; it is on its way as every other")
    result = next((e for e, r in ours if isinstance(r, Receipt)), ours[0][0])
    known = item.incoming_by(envelope.record_id)
    if known is not None and known.result is not None:
        result = known.result
    seen = {result.record_id} | {e.record_id for e in (known.later if known else ())}
    later = tuple(e for e, _ in event.results if e.record_id not in seen)
    held = any(isinstance(r, Receipt) for _, r in ours)
    if held and not item.stored:
        raise PeerError("given back without the ciphertext")
    incoming = Incoming(
        envelope,
        "held" if held else "refused",
        now,
        consignment.prior_envelopes,
        consignment.approval_envelopes,
        result,
        (*(known.later if known else ()), *later),
    )
    item = with_incoming(item, incoming)
    if consignment.sealed_key is not None:
        sealed = {**item.sealed_keys, consignment.release.to: consignment.sealed_key}
        item = replace(item, sealed_keys=sealed)
    if held and _ended(event, consignment.release):
        item = _without_what_ended(view, event, item, incoming.id, now)
    entry = _entry(event, receipt=result.record_id) if held else _entry(event)
    return Effects(item, (entry,)), incoming if held else None


def _ended(event: Recover, release: Release) -> bool:
    """Whether the whole release is settled: by its destination's receipt, or by a refusal."""
    return any(isinstance(r, Refusal) or r.party == release.to for _, r in event.results)


def _without_what_ended(view: View, event: Recover, item: Item, release: str, now: str) -> Item:
    """No review goes on of what was decided before the store fell behind."""
    own = [r for _, r in event.results if isinstance(r, Refusal) and r.party == view.party]
    outgoing = []
    for o in item.outgoing:
        if o.answers == release and o.state == "review":
            if not own:
                continue  # the destination has it: the release that brought it comes from there
            o = replace(o, state="declined", since=now, codes=own[-1].codes)
        outgoing.append(o)
    return replace(item, outgoing=tuple(outgoing))

"""The exchange: what one event does to one item at one node, as a pure function (DESIGN §6).

`step(view, event, now) -> Effects`. The view is the item and the facts that it needs; the
effects are the item as it becomes, entries for the journal, and messages for the outbox, which
the node writes in one transaction. No other code changes an item. Signatures of records from
others were verified before they became events (`relto.consignments`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from relto import envelope as dsse
from relto.certificates import decode_certificate
from relto.clauses import Citation
from relto.consignments import Consignment
from relto.decisions import Allow, Deny
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError, QuestionError
from relto.events import (
    Approve,
    Arrive,
    Complete,
    Decline,
    Denied,
    Dispatch,
    Draft,
    Effects,
    Event,
    NotYet,
    Offer,
    Refused,
    Result,
    Send,
    Taken,
    View,
)
from relto.explanations import needs
from relto.instants import moment
from relto.items import Incoming, Item, Outgoing, Proposal
from relto.labels import Label, decode_holding
from relto.questions import Question
from relto.readers import Readers
from relto.records import (
    CHAIN_MAX,
    Approval,
    Manifest,
    Receipt,
    Record,
    Refusal,
    Release,
    decode_record,
)
from relto.trust import Certificates, Verified

__all__ = [
    "decide_again",
    "pass_back",
    "pass_on",
    "propose",
    "stamped",
    "step",
    "with_incoming",
]

OUTGOING_MAX = 256  # parties that one item is offered to from one node
INCOMING_MAX = 256  # releases that bring one item to one node


def step(view: View, event: Event, now: str) -> Effects:
    """What `event` does to the item of `view` at the instant `now`.

    Raises:
        CallerError: one of our own asked for what cannot be; nothing changes.
        PeerError: the other side broke the protocol; nothing changes.
    """
    return _HANDLERS[type(event)](view, event, now)


def propose(view: View, label: Label, item: Item, to: str, now: str) -> Proposal:
    """The decision for one recipient as a proposal. Raises Refused."""
    question = _question(view, label, item, to, now)
    decision = view.engine.decide(question)
    if isinstance(decision, Deny):
        raise Refused((Denied(to, decision, tuple(needs(view.engine, question, decision))),))
    return Proposal.of(decision, label, view.party)


def decide_again(view: View, item: Item, proposal: Proposal, now: str) -> Allow | Deny:
    """The decision on what was proposed once, by what holds now."""
    question = _question(view, item.label(view.engine.regime), item, proposal.to, now)
    return view.engine.decide_stated(question, proposal.path, proposal.basis)


def _question(view: View, label: Label, item: Item, to: str, now: str) -> Question:
    """May we give the item to `to`? By what we hold it on."""
    holding: dict[str, Any] = {"basis": dict(item.basis)}
    if item.held_as is not None:
        holding["held_as"] = item.held_as
    words = view.engine.regime
    return Question(now, view.party, to, label, decode_holding(holding, words, label, view.party))


def _entry(event: str, item: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "item": item, **{k: v for k, v in more.items() if v is not None}}


def _existing(view: View) -> Item:
    if view.item is None:
        raise CallerError("no such item here; see relto inbox and relto review list")
    return view.item


def _signed(view: View, record: Record) -> Envelope:
    """The record under our node's signature. Raises NotYet while nobody would believe it."""
    at = str(record.to_json()["at"])
    certificate = decode_certificate(view.certificate)
    if not certificate.not_valid_before_utc <= moment(at) <= certificate.not_valid_after_utc:
        raise NotYet(
            f"our clock says {at}, when our node's certificate is not valid; see relto doctor"
        )
    return dsse.sign(record.type(), record.encode(), [view.signer])


# What our own people do


def _draft(view: View, event: Draft, now: str) -> Effects:
    if view.item is not None:
        raise CallerError("this very item exists already; share another, or offer it to others")
    item = Item(
        event.item,
        event.manifest,
        (),
        event.precedence,
        now,
        made_here=True,
        key=event.key,
        stored=event.stored,
        basis=event.basis,
    )
    label = item.label(view.engine.regime)
    effects = Effects(item, (_entry("draft", item.id, by=event.by),))
    refused: list[Denied] = []
    for to in event.to:  # all of them are told at once, and nothing is half done
        try:
            propose(view, label, item, to, now)
        except Refused as e:
            refused += e.refusals
    if refused:
        raise Refused(tuple(refused))
    for to in event.to:
        effects = add_outgoing(view, effects, label, to, event.precedence, now)
    return effects


def _offer(view: View, event: Offer, now: str) -> Effects:
    item = _existing(view)
    entry = _entry("offer", item.id, to=event.to, by=event.by)
    label = item.label(view.engine.regime)
    if item.state in ("receiving", "refused"):
        raise CallerError("this item is not held here, so it cannot be passed on")
    return add_outgoing(
        view, Effects(item, (entry,)), label, event.to, event.precedence, now,
    )  # fmt: skip


def add_outgoing(
    view: View,
    effects: Effects,
    label: Label,
    to: str,
    precedence: str,
    now: str,
    *,
    answers: str | None = None,
) -> Effects:
    """Propose the item to `to`; release it at once if nobody here must review. Raises Refused."""
    item = effects.item
    assert item is not None  # noqa: S101  # every caller has one
    if any(o.proposal.to == to and o.is_open and o.answers == answers for o in item.outgoing):
        raise CallerError(f"the item is already on its way to {to}; see relto item show {item.id}")
    if len(item.outgoing) >= OUTGOING_MAX:
        raise CallerError(f"the item was offered {OUTGOING_MAX} times already")
    proposal = propose(view, label, item, to, now)
    prior = _prior_for(item, proposal, answers)
    outgoing = Outgoing(proposal, precedence, "review", now, prior=prior, answers=answers)
    item = replace(item, outgoing=(*item.outgoing, outgoing))
    entry = _entry(
        "decide", item.id, to=to, decision="allow", cites=sorted(set(proposal.basis.values())),
        officers=proposal.officers, regime=view.engine.regime.digest,
    )  # fmt: skip
    effects = replace(effects, item=item, journal=(*effects.journal, entry))
    if proposal.officers == 0:
        return _release(view, effects, len(item.outgoing) - 1, now)
    return effects


def _prior_for(item: Item, proposal: Proposal, answers: str | None) -> tuple[Envelope, ...]:
    """The releases that show the next node how we came to hold what we pass on.

    The one that we answer, or else the first, by which the item was stamped; and for every other
    agreement cited one that brought a source under it. Raises CallerError past CHAIN_MAX.
    """
    held = [i for i in item.incoming if i.state == "held" and answers in (None, i.id)]
    shown: set[tuple[str, str]] = set()
    chain: dict[str, Envelope] = {}
    for number, incoming in enumerate(held):
        basis = incoming.record.basis
        brought = {(source, Citation.parse(c).agreement) for source, c in basis.items()}
        wanted = {(source, Citation.parse(c).agreement) for source, c in proposal.basis.items()}
        if number == 0 or (brought & wanted) - shown:
            shown |= brought
            chain |= {e.record_id: e for e in (*incoming.prior, incoming.release)}
    if len(chain) >= CHAIN_MAX:
        raise CallerError(f"the item came through {len(chain)} releases; {CHAIN_MAX - 1} at most")
    return tuple(chain.values())


def _release(view: View, effects: Effects, index: int, now: str) -> Effects:
    """Sign the release of an outgoing that has all it needs, and put it into the outbox."""
    item = effects.item
    assert item is not None  # noqa: S101  # every caller has one
    outgoing = item.outgoing[index]
    proposal = outgoing.proposal
    if item.made_here and not outgoing.approvals:  # automatic: the node signs for the maker
        signed = dsse.sign(Manifest.type(), item.manifest_payload, [view.signer])
        item = item.with_manifest_signatures(signed.signatures)
    cited = {Citation.parse(citation).agreement for citation in proposal.basis.values()}
    record = Release(
        item=item.id,
        sender=view.party,
        to=proposal.to,
        path=proposal.path,
        legs=proposal.legs,
        basis=proposal.basis,
        seq=view.seq,  # for all releases of one step: their recipients tell them apart
        at=now,
        precedence=outgoing.precedence,
        approvals=tuple(a.record_id for a in outgoing.approvals),
        prior=tuple(p.record_id for p in outgoing.prior),
        agreements={a: view.digests[a] for a in sorted(cited) if a in view.digests},
    )
    release = _signed(view, record)
    outgoing = replace(outgoing, state="ready", since=now, release=release)
    item = replace(
        item,
        outgoing=(*item.outgoing[:index], outgoing, *item.outgoing[index + 1 :]),
        certificates=item.certificates.with_others(Certificates.of([view.certificate])),
    )
    entry = _entry("release", item.id, release=release.record_id, to=proposal.to)
    send = Send(proposal.path[1], outgoing.precedence, release=release.record_id)
    return replace(
        effects, item=item, journal=(*effects.journal, entry), send=(*effects.send, send)
    )


def _in_review(item: Item, to: str) -> int:
    for index, outgoing in enumerate(item.outgoing):
        if outgoing.proposal.to == to and outgoing.state == "review":
            return index
    raise CallerError(f"nothing to {to} waits for review in this item; see relto review list")


def _approve(view: View, event: Approve, now: str) -> Effects:
    item = _existing(view)
    approval = decode_record(event.approval, Approval)
    index = _in_review(item, approval.to)
    outgoing = item.outgoing[index]
    # (1) What was signed is what waits: recipient, path, marks and citations.
    if approval.officer != event.officer.name:
        raise CallerError(f"the approval names {approval.officer}, {event.officer.name} signed it")
    if not approval.is_for(view.party, item.id, outgoing.proposal):
        raise CallerError(
            "the approval is for another path, mark or citation; show and approve anew"
        )
    if not outgoing.since <= approval.at <= now:
        raise CallerError("the approval was not signed in this review; show and approve anew")
    # (2) The decision still says so; if it says something else, it is reviewed anew.
    label = item.label(view.engine.regime)
    proposal = propose(view, label, item, approval.to, now)
    if proposal != outgoing.proposal:
        changed = replace(outgoing, proposal=proposal, approvals=(), since=now)
        return Effects(
            _with_outgoing(item, index, changed),
            (_entry("review-again", item.id, to=approval.to),),
        )
    # (3) Each officer counts once: one person with two keys is one officer.
    if event.officer.name in {decode_record(a, Approval).officer for a in outgoing.approvals}:
        raise CallerError(f"{event.officer.name} approved this already; another officer must")
    # (4) The originator's officer signs the manifest as well.
    if item.made_here and event.manifest is not None:
        item = _sign_manifest(item, event.manifest, event.officer)
    elif item.made_here and not _has_signed(item, (*outgoing.approvals, event.approval)):
        raise CallerError("the officer who approves our own item signs its manifest too")
    outgoing = replace(outgoing, approvals=(*outgoing.approvals, event.approval))
    item = replace(
        _with_outgoing(item, index, outgoing),
        certificates=item.certificates.with_others(Certificates.of([event.certificate])),
    )
    entry = _entry(
        "approve", item.id, to=approval.to, by=event.officer.name, approval=event.approval.record_id
    )
    effects = Effects(item, (entry,))
    if len(outgoing.approvals) < proposal.officers:
        return effects
    return _release(view, effects, index, now)


def _sign_manifest(item: Item, manifest: Envelope, officer: Verified) -> Item:
    if manifest.payload != item.manifest_payload:
        raise CallerError("the manifest signed is another item's; show and approve anew")
    signature = next(s for s in manifest.signatures if s.keyid == officer.keyid)
    return item.with_manifest_signatures([signature])


def _has_signed(item: Item, approvals: tuple[Envelope, ...]) -> bool:
    """Whether one of those who approve signed the manifest as well: in this review, no other."""
    signed = {s.keyid for s in item.manifest_signatures}
    return any(s.keyid in signed for approval in approvals for s in approval.signatures)


def _with_outgoing(item: Item, index: int, outgoing: Outgoing) -> Item:
    return replace(item, outgoing=(*item.outgoing[:index], outgoing, *item.outgoing[index + 1 :]))


def _decline(view: View, event: Decline, now: str) -> Effects:
    item = _existing(view)
    index = _in_review(item, event.to)
    outgoing = replace(
        item.outgoing[index], state="declined", since=now, codes=("refused-by-officer",)
    )
    item = _with_outgoing(item, index, outgoing)
    effects = Effects(item, (_entry("decline", item.id, to=event.to, by=event.by),))
    if outgoing.answers is None:
        return effects
    return _refuse_upstream(view, effects, outgoing.answers, ("refused-by-officer",), now)


# What peers send


def _chain(incoming: Incoming) -> tuple[str, ...]:
    return (*incoming.record.prior, incoming.id)


def with_incoming(item: Item, incoming: Incoming) -> Item:
    """The item with `incoming` in place of the one of its id, or added."""
    others = tuple(i for i in item.incoming if i.id != incoming.id)
    return replace(item, incoming=(*others, incoming))


def _refuse_upstream(
    view: View, effects: Effects, release: str, codes: tuple[str, ...], now: str
) -> Effects:
    """Our refusal to pass on what an incoming release asked for, signed, back along its path."""
    item = effects.item
    assert item is not None  # noqa: S101  # every caller has one
    incoming = item.incoming_by(release)
    assert incoming is not None  # noqa: S101  # it is what we refuse to continue
    refusal = _signed(view, Refusal(item.id, view.party, _chain(incoming), codes, now))
    item = with_incoming(item, replace(incoming, later=(*incoming.later, refusal)))
    item = replace(
        item, certificates=item.certificates.with_others(Certificates.of([view.certificate]))
    )
    entry = _entry("refuse", item.id, release=release, codes=list(codes))
    send = Send(incoming.record.sender, incoming.record.precedence, result=refusal)
    return replace(
        effects, item=item, journal=(*effects.journal, entry), send=(*effects.send, send)
    )


def _arrive(view: View, event: Arrive, now: str) -> Effects:
    consignment = event.consignment
    release = consignment.release
    # (1) It is for us, from the node that sent it.
    if release.next != view.party or release.sender != event.sender:
        raise PeerError("wrongly routed: the release names another sender or next party")
    # (2) A repeat changes nothing and gets the same answer.
    release_id = consignment.release_envelope.record_id
    known = None if view.item is None else view.item.incoming_by(release_id)
    if known is not None:
        return _repeat(view, event, known)
    if release.at > now or consignment.manifest.at > now:
        raise NotYet(f"made at {release.at}, which is ahead of our clock")
    item = view.item or Item(
        consignment.item,
        consignment.manifest_envelope.payload,
        consignment.manifest_envelope.signatures,
        release.precedence,
        now,
        made_here=False,
    )
    if len(item.incoming) >= INCOMING_MAX:
        raise PeerError(f"the item was released to us {INCOMING_MAX} times already")
    item = item.with_manifest_signatures(consignment.manifest_envelope.signatures)
    item = replace(
        item,
        certificates=item.certificates.with_others(consignment.certificates).with_others(
            Certificates.of([view.certificate])
        ),
    )
    # (3) We decide again, by what we know ourselves.
    try:
        label = item.label(view.engine.regime)
    except QuestionError as e:
        raise PeerError(f"the manifest's label is malformed: {e}") from e
    codes = _check_again(view, consignment, label, now)
    incoming = Incoming(
        consignment.release_envelope,
        "refused" if codes else "receiving",
        now,
        consignment.prior_envelopes,
        consignment.approval_envelopes,
    )
    if codes:
        refusal = _signed(view, Refusal(item.id, view.party, _chain(incoming), codes, now))
        item = with_incoming(item, replace(incoming, result=refusal))
        entry = _entry("refuse", item.id, release=incoming.id, codes=list(codes))
        return Effects(item, (entry,), (Send(event.sender, release.precedence, result=refusal),))
    # (4) It is kept: the key for a reader, the key sealed past us at a hub that does not read.
    item = replace(
        item,
        key=item.key or event.key,
        sealed_keys={**item.sealed_keys, **_sealed_key(consignment)},
    )
    item = with_incoming(item, incoming)
    entry = _entry(
        "accept", item.id, release=incoming.id, sender=event.sender,
        cites=sorted(set(release.basis.values())), regime=view.engine.regime.digest,
    )  # fmt: skip
    effects = Effects(item, (entry,))
    if not event.stored:
        return effects
    if not item.stored:
        item = replace(item, stored=event.stored)
    return _hold_it(view, replace(effects, item=item), incoming, label, now)


def _sealed_key(consignment: Consignment) -> dict[str, bytes]:
    if consignment.sealed_key is None:
        return {}
    return {consignment.release.to: consignment.sealed_key}


def _repeat(view: View, event: Arrive, known: Incoming) -> Effects:
    """Answer a repeated release as before; take a key that was sealed anew past us."""
    item = _existing(view)
    item = replace(item, sealed_keys={**item.sealed_keys, **_sealed_key(event.consignment)})
    results = tuple(e for e in (known.result, *known.later) if e is not None)
    precedence = known.record.precedence
    send = tuple(Send(event.sender, precedence, result=result) for result in results)
    return Effects(item, (), send)


def _check_again(view: View, consignment: Consignment, label: Label, now: str) -> tuple[str, ...]:
    """Why this node refuses a release by its own decision; empty if it does not."""
    release = consignment.release
    if consignment.manifest.ciphertext_bytes > view.ciphertext_bytes_max:
        return ("too-large",)
    if release.basis.keys() != {source.item for source in label.sources}:
        return ("malformed",)
    if release.agreements.keys() != {Citation.parse(c).agreement for c in release.basis.values()}:
        return ("malformed",)  # or who leaves a digest out would not be compared
    engine = view.engine
    agreements = engine.regime.agreements
    unknown = [c for c in release.basis.values() if engine.regime.clause(c) is None]
    if any(view.party in _parties_of(view, citation) for citation in unknown):
        return ("no-agreement",)  # we are a party, and there is no such article
    if unknown:
        return _check_unknown(view, release, label, now)
    holding = consignment.holding_of_sender(
        label, lambda citation: engine.regime.clause(citation) is not None
    )
    question = Question(
        now,
        release.sender,
        release.to,
        label,
        decode_holding(holding, engine.regime, label, release.sender),
    )
    decision = engine.decide_stated(question, release.path, release.basis)
    if isinstance(decision, Deny):
        return decision.codes
    if decision.legs != release.legs:
        return ("marks-differ",)
    if any(
        digest != view.digests[a] for a, digest in release.agreements.items() if a in agreements
    ):
        return ("agreement-differs",)
    return _lacks_approval(consignment, decision, label)


def _parties_of(view: View, citation: str) -> frozenset[str]:
    agreement = view.engine.regime.agreements.get(Citation.parse(citation).agreement)
    return frozenset() if agreement is None else agreement.parties


def _check_unknown(view: View, release: Release, label: Label, now: str) -> tuple[str, ...]:
    """A release by an agreement that we are not in: its signed word counts (DESIGN §6), but for
    what we know ourselves: that passing on is direct, that the leg to us is protected by an
    agreement of both ends in force here, and that the label names us as a reader.
    """
    leg = release.legs[0]
    guard = view.engine.regime.agreements.get(leg.protected_by)
    if release.to != view.party or guard is None or not {*release.path} <= guard.parties:
        return ("no-agreement",)
    if not view.engine.in_force(guard.id, now):
        return ("not-in-force",)
    ours = view.engine.regime.marks.get(leg.mark)
    if ours is None or ours.party != view.party:
        return ("marks-differ",)
    if not Readers(Question(now, release.sender, release.to, label), {}).reads(view.party):
        return ("not-releasable",)
    return ()


def _lacks_approval(consignment: Consignment, decision: Allow, label: Label) -> tuple[str, ...]:
    """The sender's officers as the decision asks for, and a maker's officer on the manifest."""
    sender = consignment.release.sender
    needed = next((r.officers for r in decision.review if r.party == sender), 0)
    if len(consignment.officers) < needed:
        return ("approval-missing",)
    if needed and sender == label.maker and "officer" not in consignment.manifest_roles:
        return ("approval-missing",)
    return ()


def _hold_it(view: View, effects: Effects, incoming: Incoming, label: Label, now: str) -> Effects:
    """The item is here, whole and durable with this commit: stamp, receipt, and pass on."""
    item = effects.item
    assert item is not None  # noqa: S101  # every caller has one
    release = incoming.record
    receipt_record = Receipt(item.id, view.party, _chain(incoming), now)
    receipt_envelope = _signed(view, receipt_record)
    item = stamped(view, item, release, label)
    item = with_incoming(item, replace(incoming, state="held", since=now, result=receipt_envelope))
    entry = _entry(
        "held", item.id, release=incoming.id, mark=item.held_as,
        receipt=receipt_envelope.record_id,
    )  # fmt: skip
    effects = replace(
        effects,
        item=item,
        journal=(*effects.journal, entry),
        send=(*effects.send, Send(release.sender, release.precedence, result=receipt_envelope)),
    )
    return pass_on(view, effects, incoming, label, now)


def stamped(view: View, item: Item, release: Release, label: Label) -> Item:
    """The item once `release` has brought it: with what it is held on, and our mark."""
    basis = {source: list(entries) for source, entries in item.basis.items()}
    for source in label.sources:
        if source.originator == view.party:
            continue
        if view.engine.regime.clause(release.basis[source.item]) is None:
            continue  # an agreement that we are not in permits us nothing further
        receipt = Citation.parse(release.basis[source.item]).as_basis()
        entries = basis.setdefault(source.item, [])
        if receipt not in entries:
            entries.append(receipt)
    return replace(
        item,
        basis=basis,
        held_as=item.held_as or (None if label.maker == view.party else release.legs[0].mark),
    )


def pass_on(view: View, effects: Effects, incoming: Incoming, label: Label, now: str) -> Effects:
    """What a hub does about the next leg of a release that is held here."""
    item, release = effects.item, incoming.record
    assert item is not None  # noqa: S101  # it is held
    if release.to == view.party:
        return effects
    known = next((o for o in item.outgoing if o.answers == incoming.id), None)
    if known is not None:  # our store was behind: this was decided before
        return pass_back(effects, known)
    try:
        return add_outgoing(
            view, effects, label, release.to, release.precedence, now,
            answers=incoming.id,
        )  # fmt: skip
    except Refused as e:
        codes = tuple(dict.fromkeys(c for denied in e.refusals for c in denied.codes))
        return _refuse_upstream(view, effects, incoming.id, codes, now)


def pass_back(effects: Effects, outgoing: Outgoing) -> Effects:
    """A hub gives back, verbatim, the results that settle what it passed on."""
    item = effects.item
    assert item is not None  # noqa: S101  # every caller has one
    incoming = None if outgoing.answers is None else item.incoming_by(outgoing.answers)
    if incoming is None or outgoing.is_open:
        return effects
    known = {result.record_id for result in incoming.later}
    ends = tuple(
        result
        for result in outgoing.results
        if result.record_id not in known and _settles(result, outgoing.proposal.to)
    )
    release = incoming.record
    item = with_incoming(item, replace(incoming, later=(*incoming.later, *ends)))
    send = tuple(Send(release.sender, release.precedence, result=result) for result in ends)
    return replace(effects, item=item, send=(*effects.send, *send))


def _settles(result: Envelope, to: str) -> bool:
    if result.payload_type == Refusal.type():
        return True
    return decode_record(result, Receipt).party == to


def _complete(view: View, event: Complete, now: str) -> Effects:
    item = _existing(view)
    incoming = item.incoming_by(event.release)
    if incoming is None or incoming.state != "receiving":
        return Effects(item)
    item = replace(item, stored=item.stored or event.release)
    label = item.label(view.engine.regime)
    return _hold_it(view, Effects(item), incoming, label, now)


def _result(view: View, event: Result, now: str) -> Effects:
    item = view.item
    record = event.record
    if item is None:
        raise PeerError("a result for nothing that is on its way from here")
    index = next(
        (
            i
            for i, o in enumerate(item.outgoing)
            if o.release is not None and o.release.record_id in record.releases
        ),
        None,
    )
    if index is None:
        raise PeerError("a result for nothing that is on its way from here")
    outgoing = item.outgoing[index]
    path = outgoing.proposal.path
    # (1) It came back along the path, from a party behind us on it.
    if event.sender != path[1] or record.party not in path[1:]:
        raise PeerError("a result from a party that is not on the path")
    if event.envelope.record_id in {r.record_id for r in outgoing.results}:
        return Effects(item)
    # (2) Only the destination's own receipt lets us forget; a hub's closes its leg alone.
    is_receipt = isinstance(record, Receipt)
    is_hubs = is_receipt and record.party != outgoing.proposal.to
    # A hub's receipt may be overtaken by what settles the release: its message was lost before.
    is_late = is_hubs and not outgoing.is_open
    if not (outgoing.is_open or is_late) or (
        is_receipt and _has_receipt_of(outgoing, record.party)
    ):
        raise PeerError("a second, different result for what is settled")
    if record.at > now:
        raise NotYet(f"made at {record.at}, which is ahead of our clock")
    forget: tuple[int, ...] = ()
    if is_hubs:
        state = "with-hub"
    else:
        state = "delivered" if is_receipt else "refused"
        forget = () if outgoing.outbox is None else (outgoing.outbox,)
    codes = () if isinstance(record, Receipt) else record.codes
    outgoing = replace(
        outgoing,
        state=outgoing.state if is_late else state,
        since=outgoing.since if is_late else now,
        codes=outgoing.codes if is_late else codes,
        results=(*outgoing.results, event.envelope),
        outbox=None if forget else outgoing.outbox,
    )
    item = _with_outgoing(item, index, outgoing)
    item = replace(item, certificates=item.certificates.with_others(event.certificates))
    entry = _entry(
        state, item.id, release=record.releases[-1], party=record.party,
        record=event.envelope.record_id, codes=list(codes) or None,
    )  # fmt: skip
    effects = Effects(item, (entry,), forget=forget)
    # (3) A hub passes it back, verbatim.
    return pass_back(effects, outgoing)


def _has_receipt_of(outgoing: Outgoing, party: str) -> bool:
    receipts = [r for r in outgoing.results if r.payload_type == Receipt.type()]
    return any(decode_record(r, Receipt).party == party for r in receipts)


def _released(item: Item, release: str) -> tuple[int, Outgoing]:
    """The outgoing with that release, and where it stands. Raises CallerError."""
    outgoing = item.outgoing_by(release)
    if outgoing is None:
        raise CallerError("no such release of this item")
    return item.outgoing.index(outgoing), outgoing


def _dispatch(view: View, event: Dispatch, now: str) -> Effects:
    """Decide once more, before bytes may leave; the item says ready, or blocked with its codes."""
    item = _existing(view)
    index, outgoing = _released(item, event.release)
    if not outgoing.is_open:
        raise CallerError("this release is settled; nothing is owed any more")
    proposal = outgoing.proposal
    label = item.label(view.engine.regime)
    decision = decide_again(view, item, proposal, now)
    codes: tuple[str, ...] = ("marks-differ",)
    state = "blocked"
    if isinstance(decision, Deny):
        codes = decision.codes
    elif len(outgoing.approvals) < Proposal.of(decision, label, view.party).officers:
        codes = ("approval-missing",)  # the regime asks for more officers than it did
    elif decision.legs == proposal.legs:
        state, codes = ("ready" if outgoing.state == "blocked" else outgoing.state), ()
    if set(proposal.path[1:]) & view.held_to:
        state, codes = "blocked", ("on-hold",)
    changed = replace(outgoing, state=state, codes=codes)
    if (state, codes) != (outgoing.state, outgoing.codes):
        changed = replace(changed, since=now)
    event_name = "blocked" if state == "blocked" else "dispatch"
    entry = _entry(
        event_name, item.id, release=event.release, to=proposal.to, codes=list(codes) or None
    )
    return Effects(_with_outgoing(item, index, changed), (entry,))


def _taken(view: View, event: Taken, now: str) -> Effects:
    item = _existing(view)
    index, outgoing = _released(item, event.release)
    if outgoing.outbox is None:
        return Effects(item)  # its result was faster
    if event.have_bytes < item.manifest.ciphertext_bytes:
        changed = replace(outgoing, received_bytes=event.have_bytes)
    elif outgoing.state == "ready":
        changed = replace(outgoing, received_bytes=0, state="sent", since=now)
    else:
        changed = replace(outgoing, received_bytes=0)
    return Effects(_with_outgoing(item, index, changed))


_HANDLERS: dict[type, Callable[[View, Any, str], Effects]] = {
    Draft: _draft,
    Offer: _offer,
    Approve: _approve,
    Decline: _decline,
    Arrive: _arrive,
    Complete: _complete,
    Result: _result,
    Dispatch: _dispatch,
    Taken: _taken,
}

"""What leaves: an item's way to one recipient, from its proposal to the signed release and back.

Pure functions of the item and the facts of a `View`; `relto.exchange.step` is what calls them.
"""

from dataclasses import replace
from typing import Any

from relto import envelope as dsse
from relto.certificates import decode_certificate
from relto.clauses import Citation
from relto.decisions import Allow, Deny
from relto.envelope import Envelope
from relto.errors import CallerError
from relto.events import Denied, Effects, NotYet, Refused, Send, View
from relto.explanations import needs
from relto.holdings import holding_of
from relto.instants import moment
from relto.items import Incoming, Item, Outgoing, Proposal
from relto.labels import Label
from relto.questions import Question
from relto.records import CHAIN_MAX, Manifest, Receipt, Record, Refusal, Release, decode_record
from relto.trust import Certificates

__all__ = [
    "add_outgoing",
    "chain_of",
    "decide_again",
    "entry_of",
    "pass_back",
    "propose",
    "refuse_upstream",
    "require_item",
    "sign_record",
    "sign_release",
    "with_incoming",
    "with_outgoing",
]

OUTGOING_MAX = 256  # parties that one item is offered to from one node


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
    holding = holding_of(item, label, view.engine.regime, view.party)
    return Question(now, view.party, to, label, holding)


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
    entry = entry_of(
        "decide", item.id, to=to, decision="allow", cites=sorted(set(proposal.basis.values())),
        officers=proposal.officers, regime=view.engine.regime.digest,
    )  # fmt: skip
    effects = replace(effects, item=item, journal=(*effects.journal, entry))
    if proposal.officers == 0:
        return sign_release(view, effects, len(item.outgoing) - 1, now)
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


def sign_release(view: View, effects: Effects, index: int, now: str) -> Effects:
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
    release = sign_record(view, record)
    outgoing = replace(outgoing, state="ready", since=now, release=release)
    item = replace(
        item,
        outgoing=(*item.outgoing[:index], outgoing, *item.outgoing[index + 1 :]),
        certificates=item.certificates.with_others(Certificates.of([view.certificate])),
    )
    entry = entry_of("release", item.id, release=release.record_id, to=proposal.to)
    send = Send(proposal.path[1], outgoing.precedence, release=release.record_id)
    return replace(
        effects, item=item, journal=(*effects.journal, entry), send=(*effects.send, send)
    )


def refuse_upstream(
    view: View, effects: Effects, release: str, codes: tuple[str, ...], now: str
) -> Effects:
    """Our refusal to pass on what an incoming release asked for, signed, back along its path."""
    item = effects.item
    assert item is not None  # noqa: S101  # every caller has one
    incoming = item.incoming_by(release)
    assert incoming is not None  # noqa: S101  # it is what we refuse to continue
    refusal = sign_record(view, Refusal(item.id, view.party, chain_of(incoming), codes, now))
    item = with_incoming(item, replace(incoming, later=(*incoming.later, refusal)))
    item = replace(
        item, certificates=item.certificates.with_others(Certificates.of([view.certificate]))
    )
    entry = entry_of("refuse", item.id, release=release, codes=list(codes))
    send = Send(incoming.record.sender, incoming.record.precedence, result=refusal)
    return replace(
        effects, item=item, journal=(*effects.journal, entry), send=(*effects.send, send)
    )


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


def entry_of(event: str, item: str, **more: Any) -> dict[str, Any]:
    """What the journal keeps of an event to an item; what is None is left out."""
    return {"event": event, "item": item, **{k: v for k, v in more.items() if v is not None}}


def require_item(view: View) -> Item:
    """The item of the view. Raises CallerError if there is none."""
    if view.item is None:
        raise CallerError("no such item here; see relto inbox and relto review list")
    return view.item


def sign_record(view: View, record: Record) -> Envelope:
    """The record under our node's signature. Raises NotYet while nobody would believe it."""
    at = str(record.to_json()["at"])
    certificate = decode_certificate(view.certificate)
    if not certificate.not_valid_before_utc <= moment(at) <= certificate.not_valid_after_utc:
        raise NotYet(
            f"our clock says {at}, when our node's certificate is not valid; see relto doctor"
        )
    return dsse.sign(record.type(), record.encode(), [view.signer])


def chain_of(incoming: Incoming) -> tuple[str, ...]:
    """The releases that brought an item here, the last one last: what a result names."""
    return (*incoming.record.prior, incoming.id)


def with_incoming(item: Item, incoming: Incoming) -> Item:
    """The item with `incoming` in place of the one of its id, or added."""
    others = tuple(i for i in item.incoming if i.id != incoming.id)
    return replace(item, incoming=(*others, incoming))


def with_outgoing(item: Item, index: int, outgoing: Outgoing) -> Item:
    """The item with `outgoing` in the place of that number."""
    return replace(item, outgoing=(*item.outgoing[:index], outgoing, *item.outgoing[index + 1 :]))

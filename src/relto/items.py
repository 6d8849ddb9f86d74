"""An item at one node, as it is kept: what came in, what goes out, and where each stands.

These are the node's own documents. Nothing here decides or signs; `relto.exchange` does.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from relto import canonical
from relto.decisions import Allow, Leg
from relto.envelope import SIGNATURES_MAX, Envelope, Signature
from relto.errors import StoreBroken
from relto.labels import Label, Words, decode_label
from relto.records import Manifest, Release, decode_record
from relto.trust import Certificates

__all__ = ["Incoming", "Item", "Outgoing", "Proposal"]

ITEM_BYTES_MAX = 4 * 1024 * 1024

_UNSIGNED = (Signature("0" * 64, b"\0"),)  # to read a manifest, signed or not yet

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an officer approves: recipient, path, marks and citations. Any change is another."""

    to: str
    path: tuple[str, ...]
    legs: tuple[Leg, ...]
    basis: Mapping[str, str]
    officers: int

    @classmethod
    def of(cls, allow: Allow, label: Label, party: str) -> "Proposal":
        """The proposal of a decision, with the officers that `party` itself needs."""
        officers = next((r.officers for r in allow.review if r.party == party), 0)
        sources = [source.item for source in label.sources]
        basis = dict(zip(sources, allow.by_source, strict=True))
        return cls(allow.path[-1], allow.path, allow.legs, basis, officers)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The way of an item from here to one party.

    `state` is one of: review (officers must approve), ready (to be sent), sent (the next node
    has it), with-hub (the hub holds it durably), delivered (the destination's receipt is here),
    refused (by a party on the path), declined (by our own officer), blocked (the decision no
    longer holds). `answers` is the incoming release that this continues, at a hub.
    """

    proposal: Proposal
    precedence: str
    state: str
    since: str
    approvals: tuple[Envelope, ...] = ()
    release: Envelope | None = None
    prior: tuple[Envelope, ...] = ()
    outbox: int | None = None
    codes: tuple[str, ...] = ()
    results: tuple[Envelope, ...] = ()
    answers: str | None = None
    received_bytes: int = 0  # of the ciphertext, by the next node, when it is sent in ranges

    @property
    def release_id(self) -> str | None:
        return None if self.release is None else self.release.record_id

    @property
    def is_open(self) -> bool:
        return self.state not in ("delivered", "refused", "declined")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A release that brought the item here, or was refused. `state`: receiving, held, refused."""

    release: Envelope
    state: str
    since: str
    prior: tuple[Envelope, ...] = ()
    approvals: tuple[Envelope, ...] = ()
    result: Envelope | None = None  # our own receipt or refusal
    later: tuple[Envelope, ...] = ()  # those of the parties behind us, passed back

    @property
    def id(self) -> str:
        return self.release.record_id

    @property
    def record(self) -> Release:
        return decode_record(self.release, Release)

    @property
    def prior_records(self) -> tuple[Release, ...]:
        return tuple(decode_record(prior, Release) for prior in self.prior)


@dataclass(frozen=True, slots=True)
class Item:
    """An item here. `key` is wrapped under the storage key; None for a hub that does not read.

    `basis` is source -> receipts, as `decide` takes them. `stored` says where the ciphertext is:
    row, blob, or nothing yet.
    """

    id: str
    manifest_payload: bytes
    manifest_signatures: tuple[Signature, ...]
    precedence: str
    at: str
    made_here: bool
    key: bytes | None = None
    stored: str = ""
    held_as: str | None = None
    basis: Mapping[str, list[Json]] = field(default_factory=dict)
    sealed_keys: Mapping[str, bytes] = field(default_factory=dict)
    certificates: Certificates = field(default_factory=Certificates)
    incoming: tuple[Incoming, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()

    @property
    def manifest(self) -> Manifest:
        return decode_record(Envelope(Manifest.type(), self.manifest_payload, _UNSIGNED), Manifest)

    @property
    def manifest_envelope(self) -> Envelope:
        """Raises CallerError while nobody has signed it."""
        return Envelope(Manifest.type(), self.manifest_payload, self.manifest_signatures)

    def with_manifest_signatures(self, signatures: Iterable[Signature]) -> "Item":
        """The item with those that its manifest has not yet, as long as there is room for them."""
        found = {s.keyid: s for s in (*self.manifest_signatures, *signatures)}
        found |= {s.keyid: s for s in self.manifest_signatures}  # the first of a key stays
        return replace(self, manifest_signatures=tuple(found.values())[:SIGNATURES_MAX])

    def manifest_with(self, release: Envelope, approvals: Iterable[Envelope]) -> Envelope:
        """The manifest as it goes with its maker's `release`: signed by those who approved that
        one, or by the node where nobody had to. Who else signed it did so for another release,
        of which this one's receivers learn nothing (rule 6).
        """
        named = decode_record(release, Release).approvals
        of_officers = [a for a in approvals if a.record_id in named]
        keys = [s.keyid for e in of_officers or [release] for s in e.signatures]
        found = {s.keyid: s for s in self.manifest_signatures}
        fitting = tuple(found[key] for key in dict.fromkeys(keys) if key in found)
        return Envelope(Manifest.type(), self.manifest_payload, fitting or self.manifest_signatures)

    def outgoing_by(self, release: str) -> Outgoing | None:
        """The way on which that release of ours goes, if there is one."""
        return next((o for o in self.outgoing if o.release_id == release), None)

    def incoming_by(self, release: str) -> Incoming | None:
        """What that release of another node brought, if it came here."""
        return next((i for i in self.incoming if i.id == release), None)

    def records_for(self, outgoing: Outgoing) -> tuple[Envelope, ...]:
        """All that shows one release of ours: manifest, prior releases and it, their approvals."""
        assert outgoing.release is not None  # noqa: S101  # asked only of what was released
        prior = {p.record_id for p in outgoing.prior}
        brought = (a for i in self.incoming if i.id in prior for a in i.approvals)
        return self._records((*outgoing.prior, outgoing.release), (*brought, *outgoing.approvals))

    def records_of(self, incoming: Incoming) -> tuple[Envelope, ...]:
        """The same of a release that came here."""
        return self._records((*incoming.prior, incoming.release), incoming.approvals)

    def _records(
        self, chain: tuple[Envelope, ...], approvals: tuple[Envelope, ...]
    ) -> tuple[Envelope, ...]:
        each_once = {a.record_id: a for a in approvals}
        return (self.manifest_with(chain[0], approvals), *chain, *each_once.values())

    def label(self, words: Words) -> Label:
        return decode_label({"id": self.id, **self.manifest.label}, words)

    @property
    def state(self) -> str:
        """For lists: review, made, receiving, received, passing (unread, at a hub), refused."""
        if self.made_here:
            return "made" if any(o.release for o in self.outgoing) else "review"
        states = {i.state for i in self.incoming}
        if "held" in states or (not states and self.outgoing):
            return "received" if self.key is not None else "passing"
        return "receiving" if "receiving" in states else "refused"

    def encode(self) -> bytes:
        return canonical.encode(
            {
                "format": "relto-item/1",
                "id": self.id,
                "manifest": _b64(self.manifest_payload),
                "signatures": [[s.keyid, _b64(s.sig)] for s in self.manifest_signatures],
                "precedence": self.precedence,
                "at": self.at,
                "made_here": self.made_here,
                "stored": self.stored,
                "basis": dict(self.basis),
                "sealed_keys": {party: _b64(key) for party, key in self.sealed_keys.items()},
                "certificates": {k: _b64(der) for k, der in self.certificates.by_keyid.items()},
                "incoming": [_incoming_json(i) for i in self.incoming],
                "outgoing": [_outgoing_json(o) for o in self.outgoing],
                **_given(key=None if self.key is None else _b64(self.key), held_as=self.held_as),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "Item":
        """Raises StoreBroken: what this node wrote itself, it can read."""
        try:
            v: Any = canonical.decode(data, size_bytes_max=ITEM_BYTES_MAX)
            return cls(
                id=v["id"],
                manifest_payload=_bytes(v["manifest"]),
                manifest_signatures=tuple(Signature(k, _bytes(s)) for k, s in v["signatures"]),
                precedence=v["precedence"],
                at=v["at"],
                made_here=v["made_here"],
                key=_bytes(v["key"]) if "key" in v else None,
                stored=v["stored"],
                held_as=v.get("held_as"),
                basis=v["basis"],
                sealed_keys={p: _bytes(k) for p, k in v["sealed_keys"].items()},
                certificates=Certificates({k: _bytes(d) for k, d in v["certificates"].items()}),
                incoming=tuple(_incoming(i) for i in v["incoming"]),
                outgoing=tuple(_outgoing(o) for o in v["outgoing"]),
            )
        except Exception as e:
            raise StoreBroken(f"a stored item cannot be read: {e}") from e


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _given(**values: Any) -> Json:
    """Absent, never null."""
    return {key: value for key, value in values.items() if value is not None}


def _envelopes(envelopes: tuple[Envelope, ...]) -> list[Json]:
    return [e.to_json() for e in envelopes]


def _read_envelopes(values: list[Json]) -> tuple[Envelope, ...]:
    return tuple(Envelope.from_json(v) for v in values)


def _incoming_json(i: Incoming) -> Json:
    return {
        "release": i.release.to_json(),
        "state": i.state,
        "since": i.since,
        "prior": _envelopes(i.prior),
        "approvals": _envelopes(i.approvals),
        "later": _envelopes(i.later),
        **_given(result=None if i.result is None else i.result.to_json()),
    }


def _incoming(v: Json) -> Incoming:
    return Incoming(
        Envelope.from_json(v["release"]),
        v["state"],
        v["since"],
        _read_envelopes(v["prior"]),
        _read_envelopes(v["approvals"]),
        Envelope.from_json(v["result"]) if "result" in v else None,
        _read_envelopes(v["later"]),
    )


def _outgoing_json(o: Outgoing) -> Json:
    return {
        "to": o.proposal.to,
        "path": list(o.proposal.path),
        "legs": [[leg.sender, leg.receiver, leg.mark, leg.protected_by] for leg in o.proposal.legs],
        "basis": dict(o.proposal.basis),
        "officers": o.proposal.officers,
        "precedence": o.precedence,
        "state": o.state,
        "since": o.since,
        "approvals": _envelopes(o.approvals),
        "prior": _envelopes(o.prior),
        "codes": list(o.codes),
        "results": _envelopes(o.results),
        "received_bytes": o.received_bytes,
        **_given(
            release=None if o.release is None else o.release.to_json(),
            outbox=o.outbox,
            answers=o.answers,
        ),
    }


def _outgoing(v: Json) -> Outgoing:
    legs = tuple(Leg(*leg) for leg in v["legs"])
    proposal = Proposal(v["to"], tuple(v["path"]), legs, v["basis"], v["officers"])
    return Outgoing(
        proposal,
        v["precedence"],
        v["state"],
        v["since"],
        _read_envelopes(v["approvals"]),
        Envelope.from_json(v["release"]) if "release" in v else None,
        _read_envelopes(v["prior"]),
        v.get("outbox"),
        tuple(v["codes"]),
        _read_envelopes(v["results"]),
        v.get("answers"),
        v["received_bytes"],
    )

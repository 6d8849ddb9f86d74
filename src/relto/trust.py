"""Whose signature counts: certificates under the CAs that the agreements name (DESIGN §6, keys).

Pure: certificates and instants are arguments. The sender of a TLS session is never believed to
be the author of a record; only its signature says who that is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from relto import envelope as dsse
from relto.certificates import (
    REMEMBERED,
    Identity,
    decode_certificate,
    fingerprint,
    identity_of,
    verify_leaf,
)
from relto.envelope import Envelope, PublicKey, keyid
from relto.errors import PeerError
from relto.instants import moment
from relto.records import Record, decode_record
from relto.regime import Regime
from relto.tables import quoted

__all__ = ["CERTIFICATES_MAX", "Certificates", "Trust", "Verified"]

CERTIFICATES_MAX = 64  # carried by one hop message


@dataclass(frozen=True)
class Certificates:
    """Certificates (DER) by the key that they are for. They vouch for nothing by being here."""

    by_keyid: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, ders: Iterable[bytes], *, most: int = CERTIFICATES_MAX) -> "Certificates":
        """Raises PeerError if one is not a certificate, or there are more than `most`."""
        found: dict[str, bytes] = {}
        for der in ders:
            found[_keyid_of(der)] = der
            if len(found) > most:
                raise PeerError(f"more than {most} certificates")
        return cls(found)

    def with_others(self, others: "Certificates") -> "Certificates":
        return Certificates({**others.by_keyid, **self.by_keyid})

    def for_envelopes(self, envelopes: Iterable[Envelope]) -> "Certificates":
        """Those that the signatures of `envelopes` need."""
        needed = dict.fromkeys(s.keyid for e in envelopes for s in e.signatures)
        # In their order: the one in which we came to know them tells of other releases.
        return Certificates({k: self.by_keyid[k] for k in needed if k in self.by_keyid})

    def for_signers(self, signers: "Iterable[Verified]") -> "Certificates":
        """Those that vouched for signatures that hold: what else was shown is not kept, since it
        would stand in the place of the true certificate of that key."""
        needed = {signer.keyid for signer in signers}
        return Certificates({k: d for k, d in self.by_keyid.items() if k in needed})


@dataclass(frozen=True, slots=True)
class Verified:
    """Who signed: the role and, for officers, the name; `keyid` tells two officers apart."""

    role: str
    name: str | None
    keyid: str


@lru_cache(maxsize=REMEMBERED)
def _keyid_of(der: bytes) -> str:
    return keyid(decode_certificate(der).public_key())


@lru_cache(maxsize=REMEMBERED)
def _identity(der: bytes) -> Identity:
    return identity_of(decode_certificate(der))


class Verifies(Protocol):
    """`relto.envelope.verify`: the payload, or PeerError."""

    def __call__(
        self, envelope: Envelope, public_key: PublicKey, *, payload_type: str
    ) -> bytes: ...


class Trust:
    """The CAs of the parties, as the agreements name them by fingerprint.

    `verifies` checks one signature; a simulation that signs with cheap keys brings its own.
    """

    def __init__(
        self, cas: Mapping[str, bytes], *, exercise: bool, verifies: Verifies = dsse.verify
    ) -> None:
        self.cas = dict(cas)
        self.exercise = exercise
        self.verifies = verifies

    @classmethod
    def under(
        cls,
        regime: Regime,
        cas: Iterable[bytes],
        *,
        exercise: bool,
        verifies: Verifies = dsse.verify,
    ) -> "Trust":
        """Trust in those of `cas` (DER) whose fingerprint an agreement states for their party.

        Raises PeerError for a CA that no agreement names, or that one names differently.
        """
        stated: dict[str, set[str]] = {}
        for agreement in regime.agreements.values():
            for party, value in agreement.ca.items():
                stated.setdefault(party, set()).add(value)
        found: dict[str, bytes] = {}
        for der in cas:
            certificate = decode_certificate(der)
            party = identity_of(certificate).party
            if stated.get(party) != {fingerprint(certificate)}:
                raise PeerError(
                    f"CA of {quoted(party)} has the fingerprint {fingerprint(certificate)}, which "
                    "the agreements do not state for it alone; compare it by voice, then correct "
                    "ca in the agreements or the CA file"
                )
            found[party] = der
        return cls(found, exercise=exercise, verifies=verifies)

    def verify(
        self,
        envelope: Envelope,
        kind: type[Record],
        *,
        party: str,
        roles: tuple[str, ...],
        at: str,
        certificates: Certificates,
    ) -> tuple[Verified, ...]:
        """Everyone of `party` in one of `roles` who validly signed the envelope; at least one.

        Raises:
            PeerError: the CA of `party` is not known, or nobody did.
        """
        # (1) The party's CA, by fingerprint in an agreement that we hold.
        ca = self.cas.get(party)
        if ca is None:
            raise PeerError(f"no CA of {quoted(party)} is known here; the agreements name none")
        found: list[Verified] = []
        fault = f"nobody of {party} in the role {' or '.join(roles)} signed the {kind.NAME}"
        for signature in envelope.signatures:
            # (2) A certificate for the key, under that CA, valid when the record says it was made.
            der = certificates.by_keyid.get(signature.keyid)
            if der is None:
                continue
            try:
                identity = _identity(der)
                if identity.party != party or identity.role not in roles:
                    continue
                certificate = verify_leaf(
                    der, ca=ca, party=party, role=identity.role, at=moment(at)
                )
                if identity.exercise != self.exercise:
                    raise PeerError("an exercise never mixes with the real")
                # (3) The signature itself.
                self.verifies(envelope, certificate.public_key(), payload_type=kind.type())
            except PeerError as e:
                fault = str(e)
                continue
            found.append(Verified(identity.role, identity.name, signature.keyid))
        if not found:
            raise PeerError(fault)
        return tuple(found)

    def verify_node(
        self, envelope: Envelope, kind: type[Record], *, party: str, certificates: Certificates
    ) -> tuple[Verified, ...]:
        """A record that the node of `party` signs: releases, receipts, refusals, node keys."""
        record = decode_record(envelope, kind)
        at = str(record.to_json()["at"])
        return self.verify(
            envelope, kind, party=party, roles=("node",), at=at, certificates=certificates
        )

"""A release with all that it needs: the manifest, prior releases, approvals, certificates.

What arrives is verified here, signature by signature, before anything is done with it: pure
functions of the message and of whom we trust.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from relto.clauses import Citation
from relto.envelope import Envelope
from relto.errors import PeerError
from relto.hop import Hop
from relto.labels import Label
from relto.records import Approval, Manifest, Release, decode_record
from relto.trust import Certificates, Trust, Verified

__all__ = ["Consignment", "verify_consignment"]


@dataclass(frozen=True, slots=True)
class Consignment:
    """One item on one leg, all signatures verified.

    `officers` are the names of the sender's officers who approved exactly this release;
    `manifest_roles` the roles in which the maker's people signed the manifest.
    """

    item: str
    manifest: Manifest
    manifest_envelope: Envelope
    manifest_roles: frozenset[str]
    release: Release
    release_envelope: Envelope
    prior: tuple[Release, ...]
    prior_envelopes: tuple[Envelope, ...]
    approval_envelopes: tuple[Envelope, ...]
    officers: frozenset[str]
    certificates: Certificates
    key: bytes | None
    sealed_key: bytes | None
    ciphertext: bytes | None

    def holding_of_sender(self, label: Label, knows: Callable[[str], bool]) -> dict[str, Any]:
        """How the sender holds the item, as the enclosed prior releases say.

        Where none is shown for a source, the signed release's own citation stands for it. Where
        only releases by agreements that we do not know are shown, no agreement of ours brought it.
        """
        sender = self.release.sender
        brought = [prior for prior in self.prior if sender in prior.path[1:]]
        basis: dict[str, list[dict[str, Any]]] = {}
        for source in label.sources:
            if source.originator == sender:
                continue
            shown = [p.basis[source.item] for p in brought if source.item in p.basis]
            citations = [citation for citation in shown if knows(citation)]
            if shown and not citations:
                continue  # it came under what we do not know: not under what we are in
            stated = citations or [self.release.basis[source.item]]
            basis[source.item] = [Citation.parse(c).as_basis() for c in dict.fromkeys(stated)]
        holding: dict[str, Any] = {"basis": basis}
        if sender != label.maker:
            marks = [leg.mark for p in brought for leg in p.legs if leg.receiver == sender]
            if not marks:
                raise PeerError(f"no prior release shows how {sender} came to hold the item")
            holding["held_as"] = marks[0]
        return holding


def verify_consignment(hop: Hop, trust: Trust) -> Consignment:
    """The consignment in a hop message. Raises PeerError at the first thing that does not hold."""
    by_type: dict[str, list[Envelope]] = {}
    for record in hop.records:
        by_type.setdefault(record.payload_type, []).append(record)
    manifests = by_type.pop(Manifest.type(), [])
    releases = by_type.pop(Release.type(), [])
    approvals = by_type.pop(Approval.type(), [])
    if by_type or len(manifests) != 1 or not releases:
        raise PeerError("a consignment has one manifest, its releases and their approvals")
    # (1) The manifest: signed by the maker's officer, or its node. Its digest is the item's id.
    manifest = decode_record(manifests[0], Manifest)
    item = manifests[0].record_id
    signed = trust.verify(
        manifests[0],
        Manifest,
        party=manifest.maker,
        roles=("officer", "node"),
        at=manifest.at,
        certificates=hop.certificates,
    )
    signers = list(signed)
    good = {signer.keyid for signer in signed}  # what else is there vouches for nothing
    signatures = tuple(s for s in manifests[0].signatures if s.keyid in good)
    manifest_envelope = replace(manifests[0], signatures=signatures)
    # (2) The release is the last; those before it brought the item to its sender.
    decoded = [decode_record(envelope, Release) for envelope in releases]
    release, prior = decoded[-1], tuple(decoded[:-1])
    if release.prior != tuple(e.record_id for e in releases[:-1]):
        raise PeerError("the prior releases enclosed are not those that the release names")
    for envelope, each in zip(releases, decoded, strict=True):
        if each.item != item:
            raise PeerError("a release is of another item than the manifest")
        signers += trust.verify_node(
            envelope, Release, party=each.sender, certificates=hop.certificates
        )
    if prior and prior[0].sender != manifest.maker:
        raise PeerError("the chain of releases does not begin with the maker")
    if not prior and release.sender != manifest.maker:
        raise PeerError(f"no prior release shows how {release.sender} came to hold the item")
    # (3) Approvals: each by an officer of the releasing party, for exactly that release.
    officers, approvers = _verify_approvals(approvals, releases, decoded, trust, hop.certificates)
    # (4) What rides along is of this item and no other.
    for part in (hop.keys, hop.sealed_keys, hop.ciphertexts):
        if part.keys() - {item}:
            raise PeerError("a key or ciphertext is of another item than the manifest")
    return Consignment(
        item,
        manifest,
        manifest_envelope,
        frozenset(v.role for v in signed),
        release,
        releases[-1],
        prior,
        tuple(releases[:-1]),
        tuple(approvals),
        officers,
        hop.certificates.for_signers([*signers, *approvers]),
        hop.keys.get(item),
        hop.sealed_keys.get(item),
        hop.ciphertexts.get(item),
    )


def _verify_approvals(
    approvals: list[Envelope],
    envelopes: list[Envelope],
    releases: list[Release],
    trust: Trust,
    certificates: Certificates,
) -> tuple[frozenset[str], list[Verified]]:
    """The names of the last release's officers, and everyone whose approval of a release holds.

    Every approval belongs to some release.

    By name, not by key: one person with two keys is one officer.
    """
    named = {approval: release for release in releases for approval in release.approvals}
    officers: set[str] = set()
    signers: list[Verified] = []
    for envelope in approvals:
        release = named.get(envelope.record_id)
        if release is None:
            raise PeerError("an approval that no release names")
        approval = decode_record(envelope, Approval)
        if not approval.is_for(release.sender, release.item, release):
            raise PeerError("an approval is for another path, mark or citation than its release")
        verified = trust.verify(
            envelope,
            Approval,
            party=approval.party,
            roles=("officer",),
            at=approval.at,
            certificates=certificates,
        )
        signers += verified
        if approval.officer not in {v.name for v in verified}:
            raise PeerError("an approval is signed by another officer than it names")
        if release is releases[-1]:
            officers.add(approval.officer)
    enclosed = {e.record_id for e in approvals}
    if not set(releases[-1].approvals) <= enclosed:
        raise PeerError("an approval that the release names is not enclosed")
    return frozenset(officers), signers

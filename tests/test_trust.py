"""Whose signature counts: a certificate under the CA that an agreement names, in the right role."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from relto.envelope import Envelope, sign
from relto.errors import PeerError
from relto.keys import fingerprint, make_ca
from relto.records import Approval, Receipt, Refusal
from relto.regime import Regime
from relto.trust import CERTIFICATES_MAX, Certificates, Trust, Verified
from steps import LEGS, NOW, trust_of
from world import OFFICERS, VALIDITY, der, engine_of, keys_of, person

ITEM = "a" * 64
RECEIPT = Receipt(ITEM, "KOR", ("1" * 64,), NOW)


def approval(officer: str) -> Approval:
    return Approval("KOR", officer, ITEM, "JPN", ("KOR", "USA", "JPN"), LEGS, {ITEM: "a/1"}, NOW)


def regime() -> Regime:
    return engine_of("tisa", "KOR").regime


def certificates(*ders: bytes) -> Certificates:
    return Certificates.of(ders)


# The CAs


def test_a_ca_is_trusted_by_the_fingerprint_in_the_agreements() -> None:
    trust = trust_of("KOR")
    assert trust.cas == {party: keys_of(party).ca_der for party in OFFICERS}


def test_a_ca_that_no_agreement_states_is_refused() -> None:
    other = keys_of("KOR", generation=1)
    with pytest.raises(PeerError, match=fingerprint(other.ca)):
        Trust.under(regime(), [other.ca_der], exercise=True)
    key = ec.generate_private_key(ec.SECP256R1())
    now = VALIDITY[0].replace(year=2026)
    stranger = make_ca("AUS", key=key, now=now, exercise=True, validity=VALIDITY)
    with pytest.raises(PeerError, match="AUS"):
        Trust.under(regime(), [der(stranger)], exercise=True)


def test_agreements_that_name_different_cas_of_a_party_are_refused() -> None:
    agreements = dict(regime().agreements)
    agreement = agreements["tisa-2014"]
    wrong = {**agreement.ca, "KOR": fingerprint(keys_of("KOR", generation=1).ca)}
    agreements["tisa-2014"] = replace(agreement, ca=wrong)
    divided = replace(regime(), agreements=agreements)
    for generation in (0, 1):
        with pytest.raises(PeerError, match="alone"):
            Trust.under(divided, [keys_of("KOR", generation=generation).ca_der], exercise=True)


def test_a_ca_that_is_not_given_is_not_trusted() -> None:
    trust = Trust.under(regime(), [keys_of("USA").ca_der], exercise=True)
    envelope = keys_of("KOR").node.sign(RECEIPT)
    with pytest.raises(PeerError, match="no CA"):
        trust.verify_node(
            envelope, Receipt, party="KOR",
            certificates=certificates(keys_of("KOR").node.certificate),
        )  # fmt: skip


def test_bytes_that_are_no_certificate_are_refused() -> None:
    with pytest.raises(PeerError):
        Trust.under(regime(), [b"hello"], exercise=True)
    with pytest.raises(PeerError):
        certificates(b"hello")


# Signatures


def verify_receipt(
    envelope: Envelope, shown: Certificates, *, party: str = "KOR", exercise: bool = True
) -> None:
    cas = [keys_of(p).ca_der for p in OFFICERS]
    trust = Trust.under(regime(), cas, exercise=exercise)
    trust.verify_node(envelope, Receipt, party=party, certificates=shown)


def test_a_node_signs_receipts() -> None:
    node = keys_of("KOR").node
    verify_receipt(node.sign(RECEIPT), certificates(node.certificate))


KOR = keys_of("KOR")
OTHER = person(KOR.ca, KOR.ca_key, "node", words="other")
BAD: dict[str, Callable[[], tuple[Envelope, Certificates]]] = {
    "no certificate": lambda: (KOR.node.sign(RECEIPT), Certificates()),
    "another party's node": lambda: (
        keys_of("USA").node.sign(RECEIPT), certificates(keys_of("USA").node.certificate)
    ),
    "an officer": lambda: (
        KOR.officers["kim"].sign(RECEIPT), certificates(KOR.officers["kim"].certificate)
    ),
    "a node under another CA of that name": lambda: (
        keys_of("KOR", generation=1).node.sign(RECEIPT),
        certificates(keys_of("KOR", generation=1).node.certificate),
    ),
    "another certificate than the key's": lambda: (
        KOR.node.sign(RECEIPT),
        Certificates({KOR.node.signer.keyid: OTHER.certificate}),
    ),
    "the CA itself": lambda: (KOR.node.sign(RECEIPT), certificates(KOR.ca_der)),
    "a signature over another record": lambda: (
        Envelope(
            Receipt.type(), replace(RECEIPT, at="2015-01-05T00:00:01Z").encode(),
            KOR.node.sign(RECEIPT).signatures,
        ),
        certificates(KOR.node.certificate),
    ),
    "a signature over the same bytes as another kind": lambda: (
        Envelope(
            Receipt.type(), RECEIPT.encode(),
            sign(Refusal.type(), RECEIPT.encode(), [KOR.node.signer]).signatures,
        ),
        certificates(KOR.node.certificate),
    ),
    "a record before the certificate's time": lambda: (
        KOR.node.sign(replace(RECEIPT, at="2013-12-31T23:59:59Z")),
        certificates(KOR.node.certificate),
    ),
    "a record after the certificate's time": lambda: (
        KOR.node.sign(replace(RECEIPT, at="2036-01-01T00:00:01Z")),
        certificates(KOR.node.certificate),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_signature_that_does_not_hold_is_refused(case: str) -> None:
    envelope, shown = BAD[case]()
    with pytest.raises(PeerError):
        verify_receipt(envelope, shown)


def test_an_exercise_never_counts_for_the_real() -> None:
    node = keys_of("KOR").node
    with pytest.raises(PeerError, match="exercise"):
        verify_receipt(node.sign(RECEIPT), certificates(node.certificate), exercise=False)


def test_the_role_and_the_party_are_both_looked_at() -> None:
    kim = keys_of("KOR").officers["kim"]
    trust = trust_of("KOR")
    envelope, shown = kim.sign(approval("kim")), certificates(kim.certificate)

    def verified(party: str, *roles: str) -> tuple[Verified, ...]:
        return trust.verify(
            envelope, Approval, party=party, roles=roles, at=NOW, certificates=shown
        )  # fmt: skip

    assert verified("KOR", "officer") == (Verified("officer", "kim", kim.signer.keyid),)
    assert verified("KOR", "node", "officer")
    for party, role in (("USA", "officer"), ("KOR", "node"), ("KOR", "tls"), ("KOR", "signing")):
        with pytest.raises(PeerError):
            verified(party, role)


def test_everyone_who_signed_validly_is_named_and_the_others_are_not() -> None:
    kim, lee = (keys_of("KOR").officers[name] for name in ("kim", "lee"))
    smith = keys_of("USA").officers["smith"]
    record = approval("kim")
    signers = [kim.signer, smith.signer, lee.signer]
    envelope = sign(Approval.type(), record.encode(), signers)
    shown = certificates(kim.certificate, smith.certificate, lee.certificate)
    found = trust_of("KOR").verify(
        envelope, Approval, party="KOR", roles=("officer",), at=NOW, certificates=shown
    )
    assert [v.name for v in found] == ["kim", "lee"]
    some = trust_of("KOR").verify(
        envelope, Approval, party="KOR", roles=("officer",), at=NOW,
        certificates=certificates(lee.certificate),
    )  # fmt: skip
    assert [v.name for v in some] == ["lee"]


# Certificates


def test_those_that_are_needed_are_picked_out() -> None:
    all_ = certificates(*(keys_of(p).node.certificate for p in OFFICERS))
    envelope = keys_of("KOR").node.sign(RECEIPT)
    picked = all_.for_envelopes([envelope])
    assert list(picked.by_keyid) == [keys_of("KOR").node.signer.keyid]
    assert all_.for_envelopes([]).by_keyid == {}


def test_what_is_known_is_not_replaced_by_what_comes_later() -> None:
    keyid = keys_of("KOR").node.signer.keyid
    known = Certificates({keyid: b"first"})
    assert known.with_others(Certificates({keyid: b"second", "x": b"y"})).by_keyid == {
        keyid: b"first", "x": b"y",
    }  # fmt: skip


def test_there_is_a_limit_to_how_many_are_carried() -> None:
    ca, key = keys_of("KOR").ca, keys_of("KOR").ca_key
    many = [
        person(ca, key, "officer", f"o{i}", words=f"o{i}").certificate
        for i in range(CERTIFICATES_MAX + 1)
    ]
    assert len(certificates(*many[:-1]).by_keyid) == CERTIFICATES_MAX
    with pytest.raises(PeerError, match="more than 64"):
        certificates(*many)

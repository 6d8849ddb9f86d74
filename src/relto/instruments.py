"""An instrument: the terms of an agreement, who signed them, and all that was done with them since.

It goes from party to party as one file, or piece by piece between nodes, and each piece vouches for
itself. Two copies become one by `merged`; what they show is worked out anew each time by
`check_instrument`, from signatures alone. Pure (docs/spec/agreement.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from relto import canonical
from relto import envelope as dsse
from relto.certificates import decode_certificate, fingerprint, identity_of
from relto.clauses import Agreement
from relto.envelope import Envelope, Signature, from_base64, to_base64
from relto.errors import CallerError, PeerError
from relto.fields import as_hex, as_list, as_object, as_text, require_keys
from relto.lives import Life, moved
from relto.moves import Deposit, Move
from relto.ports import Signer
from relto.records import decode_record
from relto.tables import quoted
from relto.terms import Terms, Words, agreement_of, agreement_of_extract, extract_of
from relto.trust import Certificates, Trust

__all__ = [
    "INSTRUMENT_BYTES_MAX",
    "Checked",
    "Instrument",
    "Paper",
    "Pillar",
    "check_instrument",
    "check_pillar",
    "decode_held",
    "deposited",
    "made",
    "merged",
    "merged_held",
]

FORMAT = "relto-instrument/1"
PILLAR_FORMAT = "relto-pillar/1"
INSTRUMENT_BYTES_MAX = 16 * 1024 * 1024
RECORDS_MAX = 10_000  # moves of one version, and as many deposits
SIGNATURES_MAX = 1_000  # of the terms
CERTIFICATES_MAX = 2_000  # of the signers and their CAs
BASE64_CHARS_MAX = 16 * 1024  # of one signature or certificate
_DEPTH_MAX = 32
_RECORDS = ("moves", "deposits", "certificates")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Instrument:
    """Nothing in it is verified yet. Deposits are in the order of their numbers."""

    terms: Terms
    signatures: tuple[Signature, ...] = ()
    moves: tuple[Envelope, ...] = ()
    deposits: tuple[Envelope, ...] = ()
    certificates: tuple[bytes, ...] = ()  # DER, those of the CAs among them

    @property
    def id(self) -> str:
        """The agreement's id, the same for all its versions."""
        return self.terms.id

    @property
    def digest(self) -> str:
        """What names this version of the agreement: SHA-256 of its terms."""
        return canonical.digest(self.terms.to_json())

    def encode(self) -> bytes:
        """The file: canonical JSON."""
        signatures = [signature.to_json() for signature in self.signatures]
        head: dict[str, Any] = {
            "format": FORMAT,
            "terms": self.terms.to_json(),
            "signatures": signatures,
        }
        return canonical.encode({**head, **_records_json(self)})

    @classmethod
    def decode(cls, data: bytes) -> "Instrument":
        """Raises PeerError for what is not exactly such a file."""
        found = decode_held(data)
        if not isinstance(found, cls):
            raise PeerError("it is an extract of an agreement, without its terms")
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Instrument":
        """The instrument that a file's data say. Raises PeerError."""
        require_keys(found, "instrument", "format", "terms", "signatures", *_RECORDS)
        signatures = as_list(found["signatures"], "signatures", SIGNATURES_MAX)
        return cls(
            Terms.from_json(as_object(found["terms"], "terms")),
            tuple(Signature.from_json(s) for s in signatures),
            *_records(found),
        )


@dataclass(frozen=True, slots=True)
class Pillar:
    """What a party holds of an agreement that it is not in, but that its own ones stand on.

    Nothing in it is verified yet. That the extract is of those terms is the word of whoever pinned
    its digest: our own agreement does.
    """

    extract: Mapping[str, Any]
    terms: str
    moves: tuple[Envelope, ...] = ()
    deposits: tuple[Envelope, ...] = ()
    certificates: tuple[bytes, ...] = ()

    @property
    def id(self) -> str:
        return str(self.extract["id"])

    def encode(self) -> bytes:
        """The file: canonical JSON."""
        head: dict[str, Any] = {
            "format": PILLAR_FORMAT,
            "extract": dict(self.extract),
            "terms": self.terms,
        }
        return canonical.encode({**head, **_records_json(self)})

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Pillar":
        """What a file's data say. Raises PeerError."""
        require_keys(found, "pillar", "format", "extract", "terms", *_RECORDS)
        extract = as_object(found["extract"], "extract")
        as_text(extract.get("id"), "id")
        return cls(extract, as_hex(found["terms"], "terms"), *_records(found))

    @classmethod
    def of(cls, instrument: Instrument, agreement: Agreement, words: Words) -> "Pillar":
        """What of an instrument, and of the agreement in it, may go to those who stand on it."""
        extract = extract_of(agreement, words.pins_of(agreement))
        records = (instrument.moves, instrument.deposits, instrument.certificates)
        return cls(extract, instrument.digest, *records)


Paper = Instrument | Pillar
"""What a party holds of an agreement that was signed: the whole, or what it may know."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What an instrument shows: what was agreed, and where it stands after its latest deposit."""

    agreement: Agreement
    digest: str
    life: Life
    history: tuple[tuple[Deposit, Move], ...]  # in the order of deposits
    waiting: tuple[Move, ...]  # moves that the depositary has not deposited yet
    cas: Mapping[str, bytes]  # party -> its CA (DER), by the fingerprint that the terms state
    exercise: bool


def decode_held(data: bytes) -> Paper:
    """What a file holds of an agreement. Raises PeerError for what is not exactly such a file."""
    value = canonical.decode(data, size_bytes_max=INSTRUMENT_BYTES_MAX, depth_max=_DEPTH_MAX)
    found = as_object(value, "file")
    form = found.get("format")
    if form == FORMAT:
        return Instrument.from_json(found)
    if form == PILLAR_FORMAT:
        return Pillar.from_json(found)
    raise PeerError(f"a file of format {quoted(form)}, not {FORMAT} or {PILLAR_FORMAT}")


def check_instrument(instrument: Instrument, words: Words) -> Checked:
    """Every signature, every deposit and every move of an instrument, checked.

    Raises PeerError for the first thing in it that does not hold: a file with one false record in
    it is not believed in part.
    """
    agreement = agreement_of(instrument.terms, words)
    return _Check(instrument, agreement, instrument.digest).run()


def check_pillar(pillar: Pillar, words: Words) -> Checked:
    """The same of what we hold of an agreement that we are not in, but for who signed its terms.

    That its extract is the one that others pin is for `words`, made with it.
    """
    return _Check(pillar, agreement_of_extract(pillar.extract, words), pillar.terms).run()


def made(
    instrument: Instrument, move: Move, signer: Signer, certificates: Iterable[bytes]
) -> Instrument:
    """The instrument with a party's own move, and with its signature of the terms if it signs."""
    envelope = dsse.sign(Move.type(), move.encode(), [signer])
    signatures = instrument.signatures
    if move.move == "signed":
        signed = dsse.sign(Terms.type(), instrument.terms.encode(), [signer])
        signatures = _together(signatures, signed.signatures)
    return replace(
        instrument,
        signatures=signatures,
        moves=(*instrument.moves, envelope),
        certificates=_together(instrument.certificates, certificates),
    )


def deposited(
    instrument: Instrument, words: Words, signer: Signer, at: str
) -> tuple[Instrument, tuple[tuple[Move, str], ...]]:
    """The depositary takes in every move that waits and is legal now; and those that are not.

    They are taken in the order of the file. Raises PeerError if the instrument does not hold.
    """
    checked = check_instrument(instrument, words)
    agreement, life = checked.agreement, checked.life
    by_move = {decode_record(e, Move): e.record_id for e in instrument.moves}
    refused: list[tuple[Move, str]] = []
    for move in checked.waiting:
        try:
            life = moved(life, move, at)
        except PeerError as e:
            refused.append((move, str(e)))
            continue
        previous = instrument.deposits[-1].record_id if instrument.deposits else ""
        deposit = Deposit(
            agreement.depositary, agreement.id, checked.digest, len(instrument.deposits) + 1,
            previous, by_move[move], at,
        )  # fmt: skip
        envelope = dsse.sign(Deposit.type(), deposit.encode(), [signer])
        instrument = replace(instrument, deposits=(*instrument.deposits, envelope))
    return instrument, tuple(refused)


def merged(ours: Instrument, theirs: Instrument) -> Instrument:
    """One instrument of two copies.

    Raises CallerError for copies of different terms, and PeerError where the depositary has signed
    two stories: both are kept by whoever holds the two files.
    """
    if ours.digest != theirs.digest:
        raise CallerError(
            f"these are different terms of {ours.terms.id} and {theirs.terms.id}: {ours.digest} "
            f"and {theirs.digest}"
        )
    longer = _longer(ours, theirs)
    known = {e.record_id for e in ours.moves}
    return replace(
        ours,
        signatures=_together(ours.signatures, theirs.signatures),
        moves=(*ours.moves, *(e for e in theirs.moves if e.record_id not in known)),
        deposits=longer,
        certificates=_together(ours.certificates, theirs.certificates),
    )


def merged_held(ours: Paper, theirs: Paper) -> Paper:
    """The same of what two have of one agreement, whole or extracts. Raises as `merged` does."""
    if isinstance(ours, Instrument) and isinstance(theirs, Instrument):
        return merged(ours, theirs)
    if isinstance(ours, Instrument) or isinstance(theirs, Instrument):
        raise CallerError("one is whole and the other an extract; who is a party keeps the whole")
    if (ours.extract, ours.terms) != (theirs.extract, theirs.terms):
        raise CallerError(f"these are extracts of different terms: {ours.id}, {theirs.id}")
    moves = {e.record_id: e for e in (*ours.moves, *theirs.moves)}
    return replace(
        ours,
        moves=tuple(moves.values()),
        deposits=_longer(ours, theirs),
        certificates=_together(ours.certificates, theirs.certificates),
    )


def _longer(ours: Paper, theirs: Paper) -> tuple[Envelope, ...]:
    """The chain that continues the other. Raises PeerError where neither does."""
    longer, shorter = ours.deposits, theirs.deposits
    if len(longer) < len(shorter):
        longer, shorter = shorter, longer
    for number, (a, b) in enumerate(zip(longer, shorter, strict=False), start=1):
        if a.record_id != b.record_id:
            raise PeerError(
                f"the depositary signed two different deposits {number}: {a.record_id} and "
                f"{b.record_id}; keep both files, they show it"
            )
    return longer


def _together(ours: Iterable[T], theirs: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*ours, *theirs)))


def _cas(agreement: Agreement, ders: Iterable[bytes]) -> dict[str, bytes]:
    """The CA of each party that is here, by the fingerprint that the terms state."""
    found = {}
    for der in ders:
        certificate = decode_certificate(der)
        identity = identity_of(certificate)
        if identity.role != "ca":
            continue
        if agreement.ca.get(identity.party) != fingerprint(certificate):
            raise PeerError(
                f"the CA of {quoted(identity.party)} in the file has the fingerprint "
                f"{fingerprint(certificate)}, which the terms do not state for it"
            )
        found[identity.party] = der
    return found


def _exercise(cas: Iterable[bytes]) -> bool:
    kinds = {identity_of(decode_certificate(der)).exercise for der in cas}
    if len(kinds) > 1:
        raise PeerError("CAs for an exercise stand beside real ones; an exercise never mixes")
    return True in kinds


class _Check:
    """The check of one instrument, or of what is held of one."""

    def __init__(self, instrument: Paper, agreement: Agreement, digest: str) -> None:
        self.instrument = instrument
        self.agreement = agreement
        self.digest = digest
        self.cas = _cas(self.agreement, instrument.certificates)
        self.exercise = _exercise(self.cas.values())
        self.trust = Trust(self.cas, exercise=self.exercise)
        self.certificates = Certificates.of(instrument.certificates, most=CERTIFICATES_MAX)

    def run(self) -> Checked:
        # (1) Each move is signed by its party, and who says that it signed has signed the terms.
        waiting: dict[str, Move] = {}
        for envelope in self.instrument.moves:
            move = self._move(envelope)
            if envelope.record_id in waiting:
                raise PeerError(f"{move.move} of {move.party} stands in the file twice")
            waiting[envelope.record_id] = move
        # (2) The depositary's chain has no gap, and each move in it is legal where it stands.
        life = Life(self.agreement)
        history: list[tuple[Deposit, Move]] = []
        previous = ""
        for number, envelope in enumerate(self.instrument.deposits, start=1):
            deposit = self._deposit(envelope)
            if (deposit.number, deposit.previous) != (number, previous):
                raise PeerError(f"deposit {deposit.number} does not follow deposit {number - 1}")
            deposited_move = waiting.pop(deposit.move, None)
            if deposited_move is None:
                raise PeerError(
                    f"deposit {number} is of no move in the file, or of one a second time"
                )
            life = moved(life, deposited_move, deposit.at)
            history.append((deposit, deposited_move))
            previous = envelope.record_id
        return Checked(
            self.agreement,
            self.digest,
            life,
            tuple(history),
            tuple(waiting.values()),
            self.cas,
            self.exercise,
        )

    def _move(self, envelope: Envelope) -> Move:
        move = decode_record(envelope, Move)
        what = f"{move.move} of {move.party}"
        if (move.agreement, move.terms) != (self.agreement.id, self.digest):
            raise PeerError(f"{what} is about other terms than these")
        self._require_signed(envelope, Move, move.party, move.at, what)
        if move.move == "signed" and isinstance(self.instrument, Instrument):
            self._require_terms_signed(self.instrument, move)
        return move

    def _require_terms_signed(self, instrument: Instrument, move: Move) -> None:
        """Who says that it signed has signed these very terms, with a key that was valid then."""
        payload = instrument.terms.encode()
        fault = "there is no signature of these terms by it in the file"
        for signature in instrument.signatures:
            envelope = Envelope(Terms.type(), payload, (signature,))
            try:
                self._require_signed(envelope, Terms, move.party, move.at, "terms")
            except PeerError as e:
                fault = str(e)
                continue
            return
        raise PeerError(f"{move.party} says that it signed, but {fault}")

    def _deposit(self, envelope: Envelope) -> Deposit:
        deposit = decode_record(envelope, Deposit)
        what = f"deposit {deposit.number}"
        depositary = self.agreement.depositary
        stated = (deposit.party, deposit.agreement, deposit.terms)
        if stated != (depositary, self.agreement.id, self.digest):
            raise PeerError(f"{what} is not by the depositary, {depositary}, of these terms")
        self._require_signed(envelope, Deposit, deposit.party, deposit.at, what)
        return deposit

    def _require_signed(
        self,
        envelope: Envelope,
        kind: type[Terms | Move | Deposit],
        party: str,
        at: str,
        what: str,
    ) -> None:
        """By the signing key of the party, under its CA, at the instant that the record names."""
        try:
            self.trust.verify(
                envelope, kind,
                party=party, roles=("signing",), at=at, certificates=self.certificates,
            )  # fmt: skip
        except PeerError as e:
            raise PeerError(f"{what}: {e}") from e


def _records_json(held: Paper) -> dict[str, Any]:
    return {
        "moves": [envelope.to_json() for envelope in held.moves],
        "deposits": [envelope.to_json() for envelope in held.deposits],
        "certificates": [to_base64(der) for der in held.certificates],
    }


def _records(
    found: Mapping[str, Any],
) -> tuple[tuple[Envelope, ...], tuple[Envelope, ...], tuple[bytes, ...]]:
    ders = as_list(found["certificates"], "certificates", CERTIFICATES_MAX)
    return (
        tuple(Envelope.from_json(e) for e in as_list(found["moves"], "moves", RECORDS_MAX)),
        tuple(Envelope.from_json(e) for e in as_list(found["deposits"], "deposits", RECORDS_MAX)),
        tuple(_der(der) for der in ders),
    )


def _der(value: object) -> bytes:
    if not isinstance(value, str) or len(value) > BASE64_CHARS_MAX:
        raise PeerError("certificate is not base64")
    try:
        return from_base64(value, what="certificate")
    except PeerError as e:
        raise PeerError(f"certificate is not base64: {e}") from e

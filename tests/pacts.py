"""Three parties with signing keys, and an agreement of theirs to be signed."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from regime_texts import PACT, files
from relto.certificates import fingerprint
from relto.instruments import Instrument, Pillar, check_instrument, deposited, made
from relto.issuing import issue, make_ca
from relto.keys import FileSigner
from relto.moves import Move
from relto.signed import draft_terms, words_of
from relto.terms import agreement_of

__all__ = ["MADE", "Capital", "Party", "Table", "day"]

MADE = datetime(2020, 1, 1, tzinfo=UTC)
NAMES = ("JPN", "KOR", "USA")


def day(number: int) -> str:
    return f"2020-01-{number:02}T00:00:00Z"


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Party:
    """A party's signing key, with its certificate and its CA's."""

    name: str
    signer: FileSigner
    certificate: bytes
    ca: bytes
    ca_key: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, name: str, *, exercise: bool = False, made: datetime = MADE) -> "Party":
        ca_key = ec.generate_private_key(ec.SECP256R1())
        key = ec.generate_private_key(ec.SECP256R1())
        ca = make_ca(name, key=ca_key, now=made, exercise=exercise)
        leaf = issue(ca=ca, ca_key=ca_key, public_key=key.public_key(), role="signing", now=made)
        return cls(name, FileSigner(key), _der(leaf), _der(ca), ca_key)

    @property
    def fingerprint(self) -> str:
        """Of its CA, as agreements state it."""
        return fingerprint(x509.load_der_x509_certificate(self.ca))

    def officer(self, name: str) -> "Party":
        """An officer of the party, whose key is vouched for by the same CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        ca = x509.load_der_x509_certificate(self.ca)
        leaf = issue(
            ca=ca, ca_key=self.ca_key, public_key=key.public_key(),
            role="officer", name=name, now=MADE,
        )  # fmt: skip
        return Party(self.name, FileSigner(key), _der(leaf), self.ca, self.ca_key)


class Table:
    """The table that they sit at: one instrument, to which each party adds its moves.

    Of the pact of three, with CAs of their own; or of another agreement in `texts`, which states
    the CAs of `parties`.
    """

    def __init__(
        self,
        life: str = 'begins = "copies"',
        *,
        of: str = "pact",
        texts: dict[str, bytes] | None = None,
        parties: dict[str, Party] | None = None,
    ) -> None:
        self.id = of
        self.parties = parties or {name: Party.of(name) for name in NAMES}
        if texts is None:
            stated = ", ".join(f'{n} = "{p.fingerprint}"' for n, p in self.parties.items())
            texts = files(
                (PACT, "\n[[clause]]", f"ca = {{ {stated} }}\n[life]\n{life}\n\n[[clause]]")
            )
        self.files = texts
        self.words = words_of(self.files)
        self.instrument = Instrument(draft_terms(self.files, of))
        agreement = agreement_of(self.instrument.terms, self.words)
        self.depositary = agreement.depositary
        # The depositary signs first.
        self.signers = sorted(agreement.parties, key=lambda p: (p != self.depositary, p))
        self._seq = 0

    def move(
        self, name: str, move: str, at: str, effective: str = "", *, by: Party | None = None
    ) -> "Table":
        """The move of a party, by its key or by another."""
        party = by or self.parties[name]
        self._seq += 1
        record = Move(name, self.id, self.instrument.digest, move, self._seq, at, effective)
        certificates = (party.certificate, party.ca)
        self.instrument = made(self.instrument, record, party.signer, certificates)
        return self

    def deposit(self, at: str, *, by: Party | None = None) -> tuple[str, ...]:
        """The depositary takes in what waits; the words of what it refuses."""
        depositary = by or self.parties[self.depositary]
        self.instrument, refused = deposited(self.instrument, self.words, depositary.signer, at)
        return tuple(words for _, words in refused)

    def deposit_all(self, at: str) -> Instrument:
        """The instrument with all that waits deposited, nothing of it refused."""
        refused = self.deposit(at)
        assert refused == ()
        return self.instrument

    def signed(self) -> "Table":
        """Opened on the 1st, signed and deposited on the days up to the 4th."""
        self.move(self.depositary, "opened", day(1)).deposit(day(1))
        for number, name in enumerate(self.signers, start=5 - len(self.signers)):
            self.move(name, "signed", day(number)).deposit(day(number))
        return self

    def without(self, **fields: object) -> Instrument:
        """A copy of the instrument with some of its lists in another state."""
        return replace(self.instrument, **fields)  # type: ignore[arg-type]


class Capital:
    """Four agreements signed by all, as the regime folder of one party holds them."""

    def __init__(self) -> None:
        self.keys = {name: Party.of(name) for name in ("AUS", "JPN", "KOR", "USA")}
        texts = files()
        for name, parties in (
            ("pact", ("JPN", "KOR", "USA")),
            ("ko-us", ("KOR", "USA")),
            ("jp-us", ("JPN", "USA")),
            ("au-us", ("AUS", "USA")),
        ):
            path = f"agreements/{name}.toml"
            stated = ", ".join(f'{p} = "{self.keys[p].fingerprint}"' for p in parties)
            text = texts[path].decode()
            lines = [line for line in text.splitlines() if not line.startswith("ca = ")]
            more = f'ca = {{ {stated} }}\n[life]\nbegins = "copies"\n\n[[clause]]'
            texts[path] = "\n".join(lines).replace("[[clause]]", more, 1).encode()
        self.texts = texts
        self.words = words_of(texts)
        self.instruments = {
            name: self._signed(name) for name in ("pact", "ko-us", "jp-us", "au-us")
        }

    def _signed(self, name: str) -> Instrument:
        table = Table(of=name, texts=self.texts, parties=self.keys)
        return table.signed().instrument

    def folder(self, *whole: str, pillars: tuple[str, ...] = ()) -> dict[str, bytes]:
        """The folder of a party that is in the agreements `whole`."""
        found = {
            f: data
            for f, data in self.texts.items()
            if not f.startswith(("agreements/", "timeline"))
        }
        for name in whole:
            found[f"signed/{name}.json"] = self.instruments[name].encode()
        for name in pillars:
            found[f"signed/{name}.json"] = self.pillar(name).encode()
        return found

    def pillar(self, name: str) -> Pillar:
        checked = check_instrument(self.instruments[name], self.words)
        return Pillar.of(self.instruments[name], checked.agreement, self.words)

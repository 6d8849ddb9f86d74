"""A journal as auditors get it: lines of canonical JSON, and what they show by themselves.

    {"format":"relto-journal/1","party":"KOR"}
    {"entry":{...},"link":"affb...","number":1,"salt":"0000..."}        one for each entry
    {"certificate":"MIIB...","head":{DSSE envelope of a journal-head}}

Pure, a line at a time: a journal of any length is written and checked in the same memory.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from relto import canonical
from relto import envelope as dsse
from relto.certificates import decode_certificate, identity_of
from relto.envelope import Envelope
from relto.errors import PeerError
from relto.marks import is_party_code
from relto.ports import ENTRY_BYTES_MAX, JOURNAL_START, SALT_BYTES, JournalRow, journal_link
from relto.records import JournalHead, decode_record
from relto.tables import quoted
from relto.trust import Certificates, Trust

__all__ = [
    "LINE_BYTES_MAX",
    "CheckedJournal",
    "first_line",
    "last_line",
    "row_line",
    "verify_journal",
]

FORMAT = "relto-journal/1"
LINE_BYTES_MAX = ENTRY_BYTES_MAX + 16 * 1024
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class CheckedJournal:
    """What a journal has shown: whose it is, how long, and the head that its node signed.

    `marked` is the link after the entry that was asked for. `vouched` says whether a CA stands
    behind the key that signed the head.
    """

    party: str
    entries: int
    link: bytes
    at: str
    keyid: str
    vouched: bool
    marked: bytes | None


def first_line(party: str) -> bytes:
    """The line that begins a journal, with its line feed."""
    return canonical.encode({"format": FORMAT, "party": party}) + b"\n"


def row_line(row: JournalRow) -> bytes:
    """An entry with its number, salt and link."""
    line = {
        "entry": canonical.decode(row.entry, size_bytes_max=ENTRY_BYTES_MAX),
        "link": row.link.hex(),
        "number": row.number,
        "salt": row.salt.hex(),
    }
    return canonical.encode(line) + b"\n"


def last_line(head: Envelope, certificate: bytes) -> bytes:
    """The line that ends a journal: the head as the node signed it, and who vouches for its key."""
    shown = base64.b64encode(certificate).decode("ascii")
    return canonical.encode({"certificate": shown, "head": head.to_json()}) + b"\n"


def verify_journal(
    lines: Iterable[bytes], *, ca: bytes | None = None, mark: int | None = None
) -> CheckedJournal:
    """What a journal shows, once all of it holds.

    Args:
        lines: the lines of the file, each with its line feed, none longer than `LINE_BYTES_MAX`.
        ca: the party's CA (DER). Without it the head's signature is checked against the
            certificate beside it, and nobody vouches for that one.
        mark: the number of an entry whose link is wanted too.

    Raises:
        PeerError: the first line that does not hold, by its number.
    """
    rest = enumerate(lines, 1)
    # (1) Whose journal it is.
    party = _party_of(_decoded(rest, "format", "party"))
    # (2) Every entry continues the chain from the start, without a gap.
    link, entries, marked = JOURNAL_START, 0, JOURNAL_START if mark == 0 else None
    for number, line in rest:
        value = _object(number, line)
        if "head" in value:
            break
        row = _row(number, value)
        link = journal_link(link, salt=row.salt, entry=row.entry)
        if (row.number, row.link) != (entries + 1, link):
            raise PeerError(f"line {number}: the chain breaks at entry {entries + 1}")
        entries += 1
        if entries == mark:
            marked = link
    else:
        raise PeerError("the file ends before the signed head: it was cut off")
    if next(rest, None) is not None:
        raise PeerError(f"line {number + 1}: something follows the signed head")
    # (3) The head is of this chain, and signed by the party's node.
    if value.keys() != {"certificate", "head"}:
        raise PeerError(f"line {number}: the last line has a certificate and a head, no more")
    certificate = _base64(number, value["certificate"])
    envelope = Envelope.from_json(value["head"])
    head = decode_record(envelope, JournalHead)
    if (head.party, head.entries, head.link) != (party, entries, link.hex()):
        raise PeerError(f"line {number}: the signed head is not the head of this chain")
    public = decode_certificate(certificate)
    if ca is None:
        dsse.verify(envelope, public.public_key(), payload_type=JournalHead.type())
    else:
        trust = Trust({party: ca}, exercise=identity_of(decode_certificate(ca)).exercise)
        trust.verify_node(
            envelope, JournalHead, party=party, certificates=Certificates.of([certificate])
        )
    keyid = dsse.keyid(public.public_key())
    return CheckedJournal(party, entries, link, head.at, keyid, ca is not None, marked)


def _decoded(rest: Iterator[tuple[int, bytes]], *names: str) -> dict[str, Any]:
    number, line = next(rest, (1, b""))
    value = _object(number, line)
    if value.keys() != set(names):
        raise PeerError(f"line {number}: not a journal that relto journal export wrote")
    return value


def _object(number: int, line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise PeerError(f"line {number}: cut off, or longer than {LINE_BYTES_MAX} bytes")
    try:
        value = canonical.decode(line[:-1], size_bytes_max=LINE_BYTES_MAX)
    except PeerError as e:
        raise PeerError(f"line {number}: {e}") from e
    if not isinstance(value, dict):
        raise PeerError(f"line {number}: not an object")
    return value


def _party_of(value: dict[str, Any]) -> str:
    if value["format"] != FORMAT:
        raise PeerError(f"format {quoted(value['format'])} is not {FORMAT}: use the relto it is of")
    party = value["party"]
    if not isinstance(party, str) or not is_party_code(party):
        raise PeerError(f"line 1: {quoted(party)} is not a party's code")
    return party


def _row(number: int, value: dict[str, Any]) -> JournalRow:
    if value.keys() != {"entry", "link", "number", "salt"}:
        raise PeerError(f"line {number}: not an entry with link, number and salt")
    return JournalRow(
        value["number"] if type(value["number"]) is int else 0,
        canonical.encode(value["entry"]),
        _hash(number, value["salt"], SALT_BYTES),
        _hash(number, value["link"], _HASH_BYTES),
    )


def _hash(number: int, value: object, size: int) -> bytes:
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != size or data.hex() != value:
        raise PeerError(f"line {number}: not {2 * size} hexadecimal digits where they belong")
    return data


def _base64(number: int, value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise PeerError(f"line {number}: not base64 where the certificate belongs") from None

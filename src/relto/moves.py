"""The signed records of an agreement's life: a party's move, and its deposit by the depositary.

A party moves (signs, withdraws, gives notice); the depositary deposits each move under the next
number of one chain. The chain is the order that counts: it settles whether a withdrawal came
before the last signature, and from when a period of notice runs (docs/spec/agreement.md).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from relto.agreements import is_agreement_id
from relto.errors import PeerError
from relto.fields import as_hex, as_instant, as_number, as_party, require_keys
from relto.records import Record
from relto.tables import quoted

__all__ = ["MOVES", "Deposit", "Move"]

MOVES = (
    "opened",
    "signed",
    "withdrawn",
    "notified",
    "suspended",
    "resumed",
    "termination-notified",
    "termination-suspended",
    "termination-resumed",
    "notice-withdrawn",
)


@dataclass(frozen=True, slots=True)
class Move(Record):
    """What a party does to an agreement. `effective` is set for a notice of termination alone."""

    NAME: ClassVar[str] = "lifecycle"

    party: str
    agreement: str
    terms: str  # the digest of the version that it is about
    move: str
    seq: int
    at: str
    effective: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "party": self.party,
            "agreement": self.agreement,
            "terms": self.terms,
            "move": self.move,
            "seq": self.seq,
            "at": self.at,
            **({"effective": self.effective} if self.effective else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        move = data.get("move")
        if move not in MOVES:
            raise PeerError(f"move is {quoted(move)}; there are {', '.join(MOVES)}")
        is_notice = move == "termination-notified"
        more = ("effective",) if is_notice else ()
        require_keys(data, "lifecycle", *_KEYS, "move", "seq", *more)
        return cls(
            *_frame(data),
            move,
            as_number(data["seq"], "seq"),
            as_instant(data["at"]),
            as_instant(data["effective"]) if is_notice else "",
        )


@dataclass(frozen=True, slots=True)
class Deposit(Record):
    """The depositary has received a move, and gives it its place.

    `number` counts from 1 without gaps, and `previous` is the deposit before it (absent in the
    first), so that a depositary that tells two stories has signed both.
    """

    NAME: ClassVar[str] = "deposit"

    party: str
    agreement: str
    terms: str
    number: int
    previous: str
    move: str  # the record's id
    at: str

    def to_json(self) -> dict[str, Any]:
        return {
            "party": self.party,
            "agreement": self.agreement,
            "terms": self.terms,
            "number": self.number,
            **({"previous": self.previous} if self.previous else {}),
            "move": self.move,
            "at": self.at,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        number = as_number(data.get("number"), "number")
        if number == 0:
            raise PeerError("number of a deposit is 0; they count from 1")
        more = ("previous",) if number > 1 else ()
        require_keys(data, "deposit", *_KEYS, "number", "move", *more)
        return cls(
            *_frame(data),
            number,
            as_hex(data["previous"], "previous") if number > 1 else "",
            as_hex(data["move"], "move"),
            as_instant(data["at"]),
        )


_KEYS = ("party", "agreement", "terms", "at")


def _frame(data: dict[str, Any]) -> tuple[str, str, str]:
    agreement = data["agreement"]
    if not isinstance(agreement, str) or not is_agreement_id(agreement):
        raise PeerError(f"agreement is {quoted(agreement)}, which is no id of one")
    return as_party(data["party"], "party"), agreement, as_hex(data["terms"], "terms")

"""How two peers find out that they do not hold the same agreements: only those they share.

Pure. Each side says, of the agreements that bind both and have ever begun, the digest of the
terms and whether it holds them in force. A draft, and what binds only one of the two, is never
named (DESIGN §6: peers compare the agreements they share, not more).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relto import canonical
from relto.agreements import is_agreement_id
from relto.errors import PeerError
from relto.instants import is_instant, moment
from relto.regime import Regime

__all__ = ["Standing", "Standings", "differences", "standings"]

STANDINGS_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Standing:
    """One agreement as a node holds it: the digest of its terms, and whether it is in force."""

    digest: str
    in_force: bool


@dataclass(frozen=True, slots=True)
class Standings:
    """What one node tells another: its clock's whole second, and the agreements of both."""

    at: str
    agreements: Mapping[str, Standing]

    def encode(self) -> bytes:
        agreements: dict[str, canonical.Json] = {
            name: {"digest": s.digest, "in_force": s.in_force}
            for name, s in self.agreements.items()
        }
        return canonical.encode({"agreements": agreements, "at": self.at})

    @classmethod
    def decode(cls, data: bytes) -> "Standings":
        """Raises PeerError if the bytes are anything else."""
        value: Any = canonical.decode(data, size_bytes_max=STANDINGS_BYTES_MAX)
        if not isinstance(value, dict) or value.keys() != {"agreements", "at"}:
            raise PeerError("standings are an object with agreements and at")
        at, agreements = value["at"], value["agreements"]
        if not isinstance(at, str) or not is_instant(at):
            raise PeerError("standings have no instant")
        if not isinstance(agreements, dict):
            raise PeerError("agreements of standings are no object")
        return cls(at, {name: _standing(name, s) for name, s in agreements.items()})


def _standing(name: str, value: Any) -> Standing:
    if not is_agreement_id(name):
        raise PeerError("standings name what is no agreement")
    if not isinstance(value, dict) or value.keys() != {"digest", "in_force"}:
        raise PeerError(f"the standing of {name} is an object with digest and in_force")
    digest, in_force = value["digest"], value["in_force"]
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise PeerError(f"the standing of {name} has no digest")
    if not isinstance(in_force, bool):
        raise PeerError(f"the standing of {name} does not say whether it is in force")
    return Standing(digest, in_force)


def standings(regime: Regime, one: str, other: str, at: str) -> Standings:
    """The agreements of a regime that bind both parties and have ever been in force by `at`."""
    now = moment(at)
    begun = {e.agreement for e in regime.timeline.events if e.event == "in-force" and e.at <= now}
    in_force = regime.timeline.in_force_at(at)
    return Standings(
        at,
        {
            a.id: Standing(regime.agreement_digests[a.id], a.id in in_force)
            for a in regime.agreements.values()
            if a.id in begun and {one, other} <= a.parties
        },
    )


def differences(ours: Standings, theirs: Standings) -> tuple[str, ...]:
    """One line for each agreement that the two do not hold alike, by its id."""
    found = []
    for name in sorted({*ours.agreements, *theirs.agreements}):
        here, there = ours.agreements.get(name), theirs.agreements.get(name)
        if here is None:
            found.append(f"{name} has begun there, and not here")
        elif there is None:
            found.append(f"{name} has begun here, and not there")
        elif here.digest != there.digest:
            found.append(f"{name} has other terms there ({there.digest[:16]}…, not "
                         f"{here.digest[:16]}…)")  # fmt: skip
        elif here.in_force != there.in_force:
            found.append(f"{name} is in force {'here' if here.in_force else 'there'} alone")
    return tuple(found)

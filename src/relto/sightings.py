"""What a node saw of its peers when it last asked them: link, certificate, clock, agreements.

Nothing is decided by it. It is for the people who look after the node (`relto doctor`, metrics),
so that they learn of a link that is down before an item waits for it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from relto.certificates import decode_certificate
from relto.comparing import Standings, differences, standings
from relto.courier import Courier
from relto.errors import PeerError
from relto.instants import instant, moment
from relto.links import LinkError
from relto.node import Node

__all__ = ["Sighting", "Sightings"]

ASK_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """One peer. `error` says why it was not reached; then only its certificate may be known.

    `offset_s` is how far its clock is ahead of ours, half a second more or less. `differences`
    are the agreements that it does not hold as we do; None if it cannot be asked for them.
    """

    party: str
    error: str = ""
    certificate_ends: str | None = None
    offset_s: float | None = None
    differences: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        shown = {
            "party": self.party,
            "error": self.error or None,
            "certificate_ends": self.certificate_ends,
            "offset_s": None if self.offset_s is None else round(self.offset_s, 1),
            "differences": None if self.differences is None else list(self.differences),
        }
        return {key: value for key, value in shown.items() if value is not None}


class Sightings:
    """Asks every connected peer, all at once. `latest` is what the last asking gave."""

    def __init__(self, node: Node, couriers: Mapping[str, Courier]) -> None:
        self.node = node
        self.couriers = couriers
        self.latest: dict[str, Sighting] = {}

    async def look(self) -> None:
        """Ask them all anew."""
        found = await asyncio.gather(*(self._ask(p, c) for p, c in self.couriers.items()))
        self.latest = {sighting.party: sighting for sighting in found}

    async def _ask(self, party: str, courier: Courier) -> Sighting:
        clock = self.node.clock
        asked_at = clock.now()
        try:
            response = await courier.calls.link.request(
                "GET", "/relto/v1/agreements", timeout_s=ASK_TIMEOUT_S
            )
            theirs = Standings.decode(response.body) if response.status == 200 else None
        except (LinkError, PeerError) as e:
            return Sighting(party, str(e), _ends(courier.certificate))
        ends = _ends(courier.certificate)
        if theirs is None:  # an older node, that knows no such request
            return Sighting(party, certificate_ends=ends)
        halfway = asked_at + (clock.now() - asked_at) / 2
        # Its instant is the past whole second: on average half a second ago.
        offset = moment(theirs.at) + timedelta(milliseconds=500) - halfway
        ours = standings(self.node.engine.regime, self.node.party, party, clock.instant())
        return Sighting(party, "", ends, offset.total_seconds(), differences(ours, theirs))


def _ends(certificate: bytes) -> str | None:
    """The last instant of a certificate (DER), if one was shown that can be read."""
    try:
        return instant(decode_certificate(certificate).not_valid_after_utc)
    except PeerError:
        return None

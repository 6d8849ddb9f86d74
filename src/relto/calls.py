"""Calls: what a node asks of one peer's node. Hop messages, ranges of ciphertext, keys of the week.

Bytes leave only under a live lease; what the peer says is only an optimisation.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relto.errors import PeerError
from relto.hop import Hop, seal_hop
from relto.instants import moment
from relto.links import LinkError
from relto.node import Node
from relto.ports import Answer, Link
from relto.records import NodeKey, decode_record
from relto.seal import HpkePublicKey

__all__ = ["Calls", "Said"]

log = logging.getLogger("relto.calls")

WAIT_MS = 5_000  # for an answer to what needs no lease
NODE_KEY_BYTES_MAX = 64 * 1024
RENEW_MS = 3_600_000  # from one asking for the peer's own key to the next
RENEW_AGAIN_MS = 5_000  # when it did not give one
AFTER_S_MAX = 300  # a peer that asks us to come back later than that is asked then all the same


@dataclass(frozen=True, slots=True)
class Said:
    """What a peer said of one part: accepted, refused, retry or stale-key.

    `have` is how many bytes of the ciphertext it has then; -1 where it does not say. `after_s` is
    after how many seconds it asks us to come back, at most `AFTER_S_MAX`; 0 where it does not say.
    `is_whole`: it said so of the whole message, before or after it looked at its parts.
    """

    word: str
    have: int = -1
    words: str = ""  # for people
    after_s: int = 0
    is_whole: bool = False

    @classmethod
    def of(cls, body: Any) -> "Said":
        """Raises PeerError."""
        word, have = (body.get("status"), body.get("have", -1)) if type(body) is dict else ("", -1)
        if word not in _WORDS or type(have) is not int or have < -1:
            raise PeerError("the peer's answer is none that we know")
        return cls(word, have, _WORDS[word], _after_s(body))

    @classmethod
    def by_status(cls, answer: Answer) -> "Said":
        """Of every part, where the message as a whole was answered so."""
        word = {400: "refused", 409: "stale-key", 503: "retry"}.get(answer.status, "unknown")
        words = f"answered {answer.status}; {_WORDS.get(word, 'it gave no reason')}"
        return cls(word, -1, words, _after_s(_body(answer)), is_whole=True)


_WORDS = {
    "accepted": "it has it",
    "refused": "it refused the message",
    "retry": "it takes it later",
    "stale-key": "the key that it was sealed to is gone",
}


class Calls:
    """Asks one peer over the link to its node. `error` says why it could not be reached last."""

    def __init__(self, node: Node, peer: str, link: Link) -> None:
        self.node = node
        self.peer = peer
        self.link = link
        self.error = ""
        self._keys: dict[str, HpkePublicKey] = {}
        self._renew_at_ms = 0

    @property
    def knows_key(self) -> bool:
        """Whether something can be sealed to the peer without asking it for its key first."""
        return self.peer in self._keys

    def forget_keys(self) -> None:
        """Ask for the parties' keys anew: after the clock was set."""
        self._keys.clear()
        self._renew_at_ms = 0

    async def post(self, parts: Sequence[bytes], lease_until_ms: int) -> list[Said]:
        """Seal and post a hop message under a lease; what is said of each part.

        Raises LinkError.
        """
        for fresh in (False, True):
            key = await self.key_of(self.peer, fresh=fresh)
            sealed = seal_hop(parts, sender=self.node.party, recipient=self.peer, key=key)
            answer = await self._ask("POST", "/relto/v1/hop", sealed, lease_until_ms=lease_until_ms)
            if answer.status != 409:
                break
        if answer.status != 200:
            return [Said.by_status(answer)] * len(parts)
        said = _body(answer).get("parts")
        if not isinstance(said, list) or len(said) != len(parts):
            raise PeerError(f"{self.peer} does not say what it did with each part of a message")
        return [Said.of(each) for each in said]

    async def _ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        query: str = "",
        lease_until_ms: int = 0,
    ) -> Answer:
        """One request to the peer. With a lease, bytes leave only while it lives."""
        wait_ms = WAIT_MS
        if lease_until_ms:
            wait_ms = lease_until_ms - self.node.clock.monotonic_ms()
            if wait_ms <= 0:
                raise LinkError("the lease ran out before the bytes could leave")
        try:
            return await self.link.request(
                method, target, body, timeout_s=wait_ms / 1000, query=query
            )
        except LinkError as e:
            raise self._down(e) from None

    def _down(self, error: LinkError) -> LinkError:
        """The peer was not reached, so that its courier calls before it sends anything more."""
        if not self.error:
            log.warning("link-down", extra={"peer": self.peer, "why": str(error)})
        self.error = str(error)
        return error

    async def key_of(self, party: str, *, fresh: bool = False) -> HpkePublicKey:
        """The HPKE key of the week of a party, announced by its node, asked for at our peer's."""
        now = self.node.clock.now()
        known = self._keys.get(party)
        if known is not None and not fresh:
            return known
        response = await self._ask("GET", f"/relto/v1/node-key/{party}")
        if response.status != 200 or len(response.body) > NODE_KEY_BYTES_MAX:
            if party == self.peer:  # nothing can be sent to it: no row need try by itself
                raise self._down(LinkError(f"it gives no key of its own: {response.status}"))
            raise PeerError(f"{self.peer} gives no key of {party}")
        hop = Hop.decode(response.body)
        record = decode_record(hop.records[0], NodeKey)
        signers = self.node.trust.verify_node(
            hop.records[0], NodeKey, party=party, certificates=hop.certificates
        )
        if record.party != party or moment(record.expires) <= now:
            raise PeerError(f"the key of {party} at {self.peer} has expired")
        await self.node.note_key(party, record.seq, relayed=party != self.peer)
        key = HpkePublicKey(bytes.fromhex(record.key), self.node.suite)
        if party == self.peer:
            announced = Hop(hop.records[:1], hop.certificates.for_signers(signers))
            await self.node.keep_peer_key(party, announced.encode(), record.expires)
            self._renew_at_ms = self.node.clock.monotonic_ms() + RENEW_MS
        self._keys[party] = key
        return key

    async def renew_key(self) -> int:
        """Ask for the peer's own key every hour, whoever needs it or not; milliseconds until then.

        What we tell others of it is this, never the peer's answer of the moment: that would show
        whether it is there (rule 6).
        """
        wait_ms = self._renew_at_ms - self.node.clock.monotonic_ms()
        if wait_ms > 0:
            return wait_ms
        try:
            await self.key_of(self.peer, fresh=True)
        except (LinkError, PeerError):
            self._renew_at_ms = self.node.clock.monotonic_ms() + RENEW_AGAIN_MS
        return self._renew_at_ms - self.node.clock.monotonic_ms()

    async def send_range(self, release: str, offset: int, data: bytes, lease_until_ms: int) -> Said:
        """A range of the ciphertext that a release told the peer to expect. Raises LinkError."""
        answer = await self._ask(
            "POST", f"/relto/v1/ciphertext/{release}", data, query=f"offset={offset}",
            lease_until_ms=lease_until_ms,
        )  # fmt: skip
        return Said.of(_body(answer)) if answer.status == 200 else Said.by_status(answer)


def _after_s(body: Mapping[str, Any]) -> int:
    after_s = body.get("after_s", 0)
    return min(AFTER_S_MAX, after_s) if type(after_s) is int and after_s > 0 else 0


def _body(answer: Answer) -> Mapping[str, Any]:
    try:
        value = json.loads(answer.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

"""A running node keeps to what was signed: it takes in what people and peers bring, and gives.

An instrument that came is in the store and in the journal before anything is decided by it, and
everything in flight is decided by it from then on: each dispatch decides anew. What a peer shows is
believed as far as signatures go, and merged with what is here; nothing is ever taken away.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from relto.courier import Courier
from relto.decisions import Engine
from relto.errors import CallerError, PeerError
from relto.instruments import Instrument, Pillar, check_instrument, decode_held, merged_held
from relto.links import LinkError
from relto.node import LISTING_MAX, Node
from relto.ports import Link, Reader, Transaction
from relto.regime import Regime, closure
from relto.signed import FOLDER, check_folder
from relto.terms import Words

__all__ = ["KIND", "Agreeing", "joined", "kept"]

log = logging.getLogger("relto.agreeing")

KIND = "agreement"  # of documents in the store
PAPER_BYTES_MAX = 1024 * 1024  # of one instrument that a running node takes in
ASK_TIMEOUT_S = 10.0
REFUSED_MS = 3_600_000  # until a peer that gave nothing is asked again


def kept(reader: Reader) -> dict[str, bytes]:
    """What the node has taken in since it was given its folder, by agreement."""
    found: dict[str, bytes] = {}
    after = ""
    while rows := reader.listing(KIND, after=after, limit=LISTING_MAX):
        after = rows[-1].cursor
        found |= {row.key: row.body for row in rows}
    return found


def joined(files: Mapping[str, bytes], papers: Mapping[str, bytes]) -> dict[str, bytes]:
    """A folder's files with what was taken in since. Raises PeerError for two stories of one."""
    found = dict(files)
    for name, data in papers.items():
        here = found.get(f"{FOLDER}{name}.json")
        found[f"{FOLDER}{name}.json"] = data if here is None else _together(here, data)
    return found


class Agreeing:
    """The signed agreements of one node. Where the folder has none, there is nothing to take."""

    def __init__(self, node: Node, files: Mapping[str, bytes]) -> None:
        self.node = node
        self._files = dict(files)
        self._alone = asyncio.Lock()
        self._later_ms: dict[tuple[str, str], int] = {}  # until when a peer is not asked for it
        regime, _ = check_folder(files)
        assert regime is not None  # noqa: S101  # the node was opened with it
        self._regime = regime
        self._words = self._words_of(regime)

    @property
    def names(self) -> tuple[str, ...]:
        """The agreements that are held as signed."""
        return tuple(
            sorted(f[len(FOLDER) : -len(".json")] for f in self._files if f.startswith(FOLDER))
        )

    def paper(self, name: str) -> bytes:
        """The file of an agreement as it is held here. Raises CallerError."""
        data = self._files.get(f"{FOLDER}{name}.json")
        if data is None:
            there = ", ".join(self.names) or "none"
            raise CallerError(f"no signed agreement {name} here; there are {there}")
        return data

    async def take(self, data: bytes, by: str) -> dict[str, Any]:
        """Take in what somebody brings of an agreement; what the node holds of it then.

        Raises PeerError for what does not hold, and CallerError where nothing is signed here.
        """
        if not self.names:
            raise CallerError("this node decides by a draft: its regime folder has nothing signed")
        if len(data) > PAPER_BYTES_MAX:
            raise CallerError(f"a file of {len(data)} bytes; a node takes {PAPER_BYTES_MAX}")
        held = decode_held(data)
        name = held.id if isinstance(held, Pillar) else held.terms.id
        async with self._alone:
            before = self._files.get(f"{FOLDER}{name}.json")
            files = await asyncio.to_thread(joined, self._files, {name: data})
            after = files[f"{FOLDER}{name}.json"]
            if after != before:
                await self._decide_by(name, files, after, by)
        deposits = len(decode_held(after).deposits)
        return {"agreement": name, "deposits": deposits, "new": after != before}

    async def _decide_by(self, name: str, files: dict[str, bytes], data: bytes, by: str) -> None:
        regime, problems = await asyncio.to_thread(check_folder, files)
        if regime is None:
            raise PeerError(str(problems.errors[0]))
        engine = await asyncio.to_thread(lambda: Engine(closure(regime, self.node.party)))
        entry = {
            "event": "agreement", "agreement": name, "terms": regime.agreement_digests[name],
            "deposits": len(decode_held(data).deposits), "regime": regime.digest, "by": by,
        }  # fmt: skip

        def job(tx: Transaction) -> None:
            tx.put(KIND, name, data)
            self.node.journal(tx, entry, self.node.clock.instant())

        await self.node.submit(job)
        self.node.engine = engine
        self._files, self._regime, self._words = files, regime, self._words_of(regime)
        log.info("deciding", extra={"party": self.node.party, "regime": regime.digest})
        self.node.wake(self.node.carriers)

    def _words_of(self, regime: Regime) -> Words:
        return Words.among(self._files, regime.schemes, regime.vocabulary, regime.agreements)

    # between nodes

    def give(self, peer: str, name: str, have: str) -> bytes:
        """What a peer may have of an agreement; empty if it has the same. Raises PeerError.

        A party of it gets all; who is in an agreement that stands on it gets what that pins.
        """
        data = self._files.get(f"{FOLDER}{name}.json")
        agreement = self._regime.agreements.get(name)
        held = None if data is None else decode_held(data)
        if agreement is None or data is None or not isinstance(held, Instrument):
            raise PeerError("no such agreement of the peer")
        if peer not in agreement.parties:
            if not any(
                peer in a.parties and name in self._stands_on(a.id)
                for a in self._regime.agreements.values()
            ):
                raise PeerError("no such agreement of the peer")
            checked = check_instrument(held, self._words)
            pins = {p: self._words.extract_digests[p] for p in agreement.rests_on}
            data = Pillar.of(held, checked, pins).encode()
        return b"" if hashlib.sha256(data).hexdigest() == have else data

    def _stands_on(self, name: str) -> frozenset[str]:
        """What a signed agreement pins."""
        data = self._files.get(f"{FOLDER}{name}.json")
        held = None if data is None else decode_held(data)
        return frozenset(held.terms.pillars) if isinstance(held, Instrument) else frozenset()

    async def ask_all(self, couriers: Mapping[str, Courier]) -> None:
        """Ask every connected peer, one after the other."""
        for peer, courier in couriers.items():
            await self.ask(peer, courier.calls.link)

    async def ask(self, peer: str, link: Link) -> None:
        """Ask a peer what it has of each agreement here that it may have too.

        What it shows that does not hold is in the log, and changes nothing.
        """
        now_ms = self.node.clock.monotonic_ms()
        for name in self.names:
            if peer not in self._regime.agreements[name].parties:
                continue
            if self._later_ms.get((peer, name), 0) > now_ms:
                continue
            have = hashlib.sha256(self.paper(name)).hexdigest()
            try:
                response = await link.request(
                    "GET", f"/relto/v1/instrument/{name}",
                    timeout_s=ASK_TIMEOUT_S, query=f"have={have}",
                )  # fmt: skip
                if response.status != 200:  # it decides by a draft, or is older than we are
                    self._later_ms[peer, name] = now_ms + REFUSED_MS
                elif response.body:
                    await self.take(response.body, peer)
            except LinkError:
                return
            except (PeerError, CallerError) as e:
                log.warning("agreement-refused", extra={"peer": peer, "why": str(e)})


def _together(ours: bytes, theirs: bytes) -> bytes:
    return merged_held(decode_held(ours), decode_held(theirs)).encode()

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
from relto.instruments import Instrument, Paper, Pillar, decode_held, merged_held
from relto.links import LinkError
from relto.node import LISTING_MAX, Node
from relto.ports import Link, Reader, Transaction
from relto.regime import Regime, closure
from relto.signed import FOLDER, check_folder, file_of
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
        here = found.get(file_of(name))
        if here is not None:
            data = merged_held(decode_held(here), decode_held(data)).encode()
        found[file_of(name)] = data
    return found


class Agreeing:
    """The signed agreements of one node. Where the folder has none, there is nothing to take."""

    def __init__(self, node: Node, files: Mapping[str, bytes], regime: Regime) -> None:
        """`files` are those of the folder that the node was opened with, and `regime` is theirs."""
        self.node = node
        self._files = dict(files)
        self._regime = regime
        self._words = Words.of(files, regime)
        signed = (data for file, data in files.items() if file.startswith(FOLDER))
        self._papers = {paper.id: paper for paper in map(decode_held, signed)}
        self._alone = asyncio.Lock()
        self._later_ms: dict[tuple[str, str], int] = {}  # until when a peer is not asked for it

    @property
    def names(self) -> tuple[str, ...]:
        """The agreements that are held as signed."""
        return tuple(sorted(self._papers))

    def paper(self, name: str) -> bytes:
        """The file of an agreement as it is held here. Raises CallerError."""
        if name not in self._papers:
            there = ", ".join(self.names) or "none"
            raise CallerError(f"no signed agreement {name} here; there are {there}")
        return self._files[file_of(name)]

    async def take(self, data: bytes, by: str) -> dict[str, Any]:
        """Take in what somebody brings of an agreement; what the node holds of it then.

        Raises PeerError for what does not hold, and CallerError where nothing is signed here.
        """
        if not self.names:
            raise CallerError("this node decides by a draft: its regime folder has nothing signed")
        if len(data) > PAPER_BYTES_MAX:
            raise CallerError(f"a file of {len(data)} bytes; a node takes {PAPER_BYTES_MAX}")
        brought = decode_held(data)
        async with self._alone:
            before = self._papers.get(brought.id)
            after = brought if before is None else merged_held(before, brought)
            if after != before:
                await self._decide_by(after, by)
        return {
            "agreement": after.id, "deposits": len(after.deposits), "new": after != before,
        }  # fmt: skip

    async def _decide_by(self, paper: Paper, by: str) -> None:
        data = paper.encode()
        files = {**self._files, file_of(paper.id): data}
        regime, problems = await asyncio.to_thread(check_folder, files)
        if regime is None:
            raise PeerError(str(problems.errors[0]))
        engine = await asyncio.to_thread(lambda: Engine(closure(regime, self.node.party)))
        entry = {
            "event": "agreement", "agreement": paper.id,
            "terms": regime.agreement_digests[paper.id], "deposits": len(paper.deposits),
            "regime": regime.digest, "by": by,
        }  # fmt: skip

        def job(tx: Transaction) -> None:
            tx.put(KIND, paper.id, data)
            self.node.journal(tx, entry, self.node.clock.instant())

        await self.node.submit(job)
        self.node.engine = engine
        self._files, self._regime, self._words = files, regime, Words.of(files, regime)
        self._papers[paper.id] = paper
        log.info("deciding", extra={"party": self.node.party, "regime": regime.digest})
        self.node.wake(self.node.carriers)

    # between nodes

    def give(self, peer: str, name: str, have: str) -> bytes:
        """What a peer may have of an agreement; empty if it has the same. Raises PeerError.

        A party of it gets all; who is in an agreement that stands on it gets what that pins.
        """
        paper = self._papers.get(name)
        if not isinstance(paper, Instrument) or not self._may_know(peer, name):
            raise PeerError("no such agreement of the peer")
        agreement = self._regime.agreements[name]
        if peer in agreement.parties:
            data = self.paper(name)
        else:
            data = Pillar.of(paper, agreement, self._words).encode()
        return b"" if hashlib.sha256(data).hexdigest() == have else data

    def _may_know(self, peer: str, name: str) -> bool:
        """Whether a peer is in an agreement, or in one that was signed here and pins it."""
        agreements = self._regime.agreements
        return peer in agreements[name].parties or any(
            isinstance(paper, Instrument)
            and name in paper.terms.pillars
            and peer in agreements[paper.id].parties
            for paper in self._papers.values()
        )

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

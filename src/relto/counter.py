"""The counter: what a node answers its own people, over its Unix socket.

Requests and answers are JSON, payloads ride behind a JSON head. The node drafts, and officers
sign on their own side: no officer's key ever comes here.
"""

import base64
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from relto.agreeing import Agreeing
from relto.alarms import alarms
from relto.courier import Courier
from relto.deriving import derive
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError, StoreFull
from relto.events import Approve, Decline, Offer, Refused
from relto.explanations import banner
from relto.framing import framed, read_head, read_object
from relto.holds import Holds
from relto.instants import is_instant, moment
from relto.items import Item, Outgoing, Proposal
from relto.journals import row_line
from relto.links import Head, PeerCredentials, Request, Response, Stream
from relto.node import LISTING_MAX, Node
from relto.payloads import Payload
from relto.ports import Reader
from relto.quotas import half_sent, kept_of
from relto.records import PRECEDENCES, Approval, JournalHead, Manifest, decode_record
from relto.showing import Showing
from relto.sightings import Sightings
from relto.tables import quoted
from relto.trust import Certificates

__all__ = ["BUSY", "Counter", "is_streamed"]

log = logging.getLogger("relto.counter")

EXPORT_PAGE_BYTES = 1024 * 1024  # and what one read of EXPORT_ROWS adds to it
EXPORT_ROWS = 50

Json = dict[str, Any]


BUSY = Response(503, b'{"error": "too many ask at once; come back later"}')
"""What is told whom the node's own people leave no place to ask."""


def is_streamed(head: Head) -> bool:
    """Whether the counter takes a request's body as a stream."""
    return (head.method, head.path) == ("POST", "/drafts")


class Counter:
    """Handles the requests of a node's own people."""

    def __init__(
        self, node: Node, couriers: Mapping[str, Courier], agreeing: Agreeing | None = None
    ) -> None:
        """`agreeing` is there where the node decides by what was signed."""
        self.node = node
        self.agreeing = agreeing
        self.couriers = couriers
        self.sightings = Sightings(node, couriers)
        self.showing = Showing(node)
        self.holds = Holds(node)
        self._routes: list[
            tuple[str, re.Pattern[str], Callable[..., Awaitable[Json | bytes | Response]]]
        ] = [
            ("GET", re.compile(r"/status\Z"), self._status),
            ("GET", re.compile(r"/sightings\Z"), self._sightings),
            ("GET", re.compile(r"/items\Z"), self._items),
            ("GET", re.compile(r"/items/([0-9a-f]{4,64})\Z"), self._item),
            ("GET", re.compile(r"/items/([0-9a-f]{4,64})/payload\Z"), self._payload),
            ("POST", re.compile(r"/items/([0-9a-f]{4,64})/offer\Z"), self._offer),
            ("POST", re.compile(r"/drafts\Z"), self._draft),
            ("GET", re.compile(r"/reviews\Z"), self._reviews),
            ("GET", re.compile(r"/reviews/([0-9a-f]{4,64})/([A-Z0-9_]+)\Z"), self._review),
            (
                "POST",
                re.compile(r"/reviews/([0-9a-f]{4,64})/([A-Z0-9_]+)/approve\Z"),
                self._approve,
            ),
            ("POST", re.compile(r"/reviews/([0-9a-f]{4,64})/([A-Z0-9_]+)/refuse\Z"), self._refuse),
            ("POST", re.compile(r"/holds/draft\Z"), self._draft_hold),
            ("POST", re.compile(r"/holds\Z"), self._hold),
            ("POST", re.compile(r"/clock\Z"), self._clock),
            ("POST", re.compile(r"/agreements\Z"), self._take_agreement),
            ("GET", re.compile(r"/agreements/([A-Za-z0-9._-]{1,64})\Z"), self._agreement),
            ("GET", re.compile(r"/journal\Z"), self._journal),
            ("POST", re.compile(r"/backup\Z"), self._backup),
            ("POST", re.compile(r"/journal/export\Z"), self._export),
            ("GET", re.compile(r"/journal/export/([0-9]{1,15})\Z"), self._exported),
        ]

    async def handle(self, request: Request) -> Response:
        """One request: 200 with the answer, 409 for what cannot be, 503 for come back later."""
        try:
            who = self._person(request)
            for method, pattern, handler in self._routes:
                match = pattern.match(request.path)
                if match and method == request.method:
                    answer = await handler(request, who, *match.groups())
                    if isinstance(answer, Response):
                        return answer
                    if isinstance(answer, bytes):
                        return Response(200, answer, "application/octet-stream")
                    return _response(200, answer)
            raise CallerError(f"no such request: {request.method} {quoted(request.path)}")
        except Refused as e:
            refusals = [
                {
                    "to": denied.to,
                    "reasons": [
                        {"code": r.code, **_given(cites=r.cites, source=r.source)}
                        for r in denied.deny.reasons
                    ],
                    "needs": list(denied.needs),
                }
                for denied in e.refusals
            ]
            return _response(409, {"error": str(e), "refusals": refusals})
        except StoreFull as e:
            return _response(503, {"error": str(e)})
        except (CallerError, PeerError) as e:
            return _response(409, {"error": str(e)})

    def _person(self, request: Request) -> str:
        """The socket's peer by uid: someone the configuration names, or the node's own user."""
        assert isinstance(request.peer, PeerCredentials)  # noqa: S101  # a Unix link has no other
        uid = request.peer.uid
        name = self.node.config.people.get(uid)
        if name is None and uid == os.getuid():
            name = "operator"
        if name is None:
            raise CallerError(f"uid {uid} is nobody's here; name it under [people]")
        return name

    # reading

    async def _status(self, request: Request, who: str) -> Json:
        node = self.node
        with node.store.read() as reader:
            states = ("made", "review", "received", "receiving", "passing", "refused")
            counts = {state: reader.count("item", state) for state in states}
            reviews = reader.count("review", "waiting")
            holds = sorted(node.held_to(reader))
            head, link = reader.journal_head()
            late = [alarm.to_json() for alarm in alarms(reader)]
            peers = [
                {
                    "party": party,
                    "waiting": reader.outbox_count(party),
                    "link": courier.calls.error or "ok",
                    "asked": party not in node.unasked,
                    "missing": reader.count("missing", party),
                    **self._quota(reader, party),
                }
                for party, courier in sorted(self.couriers.items())
            ]
        return {
            "party": node.party,
            "exercise": node.trust.exercise,
            "clock": node.clock.instant(),
            "regime": node.engine.regime.digest,
            "in_force": sorted(node.engine.regime.timeline.in_force_at(node.clock.instant())),
            "items": counts,
            "reviews": reviews,
            "holds": holds,
            "late": late,
            "peers": peers,
            "journal": {"entries": head, "link": link.hex()},
            "ballast": node.store.ballast_held,
            "behind": node.behind,
            "twin": node.twin,
        }

    def _quota(self, reader: Reader, party: str) -> Json:
        """What a peer has of what it may have, and the limits that it reached of late."""
        quota, kept = self.node.config.quota, kept_of(reader, party)
        return {
            "kept": {"items": kept.items, "bytes": kept.size_bytes},
            "kept_max": {"items": quota.items_max, "bytes": quota.bytes_max},
            "half_sent": len(half_sent(reader, party)),
            "limits": self.node.quotas.reached_lately(party),
        }

    async def _sightings(self, request: Request, who: str) -> Json:
        """Every connected peer, asked now."""
        await self.sightings.look()
        latest = self.sightings.latest
        return {"peers": [latest[party].to_json() for party in sorted(latest)]}

    async def _items(self, request: Request, who: str) -> Json:
        options = _query(request.query, {"state", "after", "limit"})
        limit = min(int(options.get("limit", "50")), LISTING_MAX)
        with self.node.store.read() as reader:
            rows = reader.listing(
                "item", state=options.get("state"), after=options.get("after", ""), limit=limit
            )
        items = [self.showing.summary(Item.decode(row.body)) for row in rows]
        await self._seen(who, [item["id"] for item in items])
        return {"items": items, **_given(next=rows[-1].cursor if len(rows) == limit else None)}

    async def _seen(self, who: str, items: list[str]) -> None:
        """Titles are content: who is about to see them is journaled first (rule 4)."""
        if items:
            entry = {"event": "show", "by": who, "items": items}
            await self.node.submit(
                lambda tx: self.node.journal(tx, entry, self.node.clock.instant())
            )

    def _find(self, prefix: str) -> Item:
        """The item whose id begins so; people type the first digits."""
        if len(prefix) == 64:
            return self.node.item(prefix)
        found = None
        after = ""
        with self.node.store.read() as reader:
            while rows := reader.listing("item", after=after, limit=LISTING_MAX):
                after = rows[-1].cursor
                for row in rows:
                    if row.key.startswith(prefix):
                        if found is not None:
                            raise CallerError(f'more than one item begins with "{prefix}"')
                        found = row.body
        if found is None:
            raise CallerError("no such item here; see relto inbox and relto review list")
        return Item.decode(found)

    async def _item(self, request: Request, who: str, prefix: str) -> Json:
        item = self._find(prefix)
        await self._seen(who, [item.id])
        return self.showing.whole(item)

    async def _payload(self, request: Request, who: str, prefix: str) -> Response:
        item = self._find(prefix)
        payload, body = await self.node.read_payload(item, who)
        summary = {**self.showing.summary(item), "header": dict(payload.header)}
        return Response(200, framed(summary, b""), "application/octet-stream", body)

    async def _journal(self, request: Request, who: str) -> Json:
        options = _query(request.query, {"after", "limit"})
        with self.node.store.read() as reader:
            rows = reader.journal(
                _number(options.get("after", "0"), "after"), int(options.get("limit", "200"))
            )
        return {
            "entries": [
                {"number": row.number, "link": row.link.hex(), **json.loads(row.entry)}
                for row in rows
            ]
        }

    async def _export(self, request: Request, who: str) -> Json:
        """The signed head of an export; its entries are asked for page by page."""
        head = await self.node.export_journal(who)
        return {
            "party": self.node.party,
            "entries": decode_record(head, JournalHead).entries,
            "head": head.to_json(),
            "certificate": _b64(self.node.secrets.certificate),
        }

    async def _exported(self, request: Request, who: str, export: str) -> bytes:
        """A page of lines of the journal, up to the entry of an export of the same person."""
        after = _number(_query(request.query, {"after"}).get("after", "0"), "after")
        last = int(export)
        lines: list[bytes] = []
        with self.node.store.read() as reader:
            found = reader.journal(last - 1, 1) if last else []
            entry = json.loads(found[0].entry) if found else {}
            if (entry.get("event"), entry.get("by")) != ("export", who):
                raise CallerError("no export of yours ends there; run relto journal export")
            size = 0
            while after < last and size < EXPORT_PAGE_BYTES:
                for row in reader.journal(after, min(EXPORT_ROWS, last - after)):
                    lines.append(row_line(row))
                    size += len(lines[-1])
                after += min(EXPORT_ROWS, last - after)
        return b"".join(lines)

    async def _backup(self, request: Request, who: str) -> Json:
        """The node's own user is about to copy the store: into the journal before it happens."""
        assert isinstance(request.peer, PeerCredentials)  # noqa: S101  # a Unix link has no other
        if request.peer.uid != os.getuid():
            raise CallerError("only the user that the node runs as can copy its store")
        entry = {"event": "backup", "by": who}
        await self.node.submit(lambda tx: self.node.journal(tx, entry, self.node.clock.instant()))
        return {"party": self.node.party, "at": self.node.clock.instant()}

    # writing

    async def _draft(self, request: Request, who: str) -> Json:
        head, body = await _unframed(request)
        given = ("label", "header", "to", "precedence", "from")
        if not set(given[:4]) <= head.keys() <= set(given):
            raise CallerError(f"a draft has the keys {', '.join(given)}")
        precedence = _precedence(head["precedence"])
        if not isinstance(head["label"], dict) or not isinstance(head["header"], dict):
            raise CallerError("label and header of a draft are objects")
        label, basis = self._label(head["label"], _texts(head.get("from", []), "from"))
        payload = Payload(head["header"], b"")
        to = tuple(_texts(head["to"], "to"))
        if not to:
            raise CallerError("nobody to share with; name parties with --rel-to")
        for party in to:
            if party not in self.node.engine.regime.parties:
                raise CallerError(f"unknown party {quoted(party)}")
        urgency = PRECEDENCES.index(precedence)
        with self.node.turns.at_work(urgency):
            if urgency:
                await self.node.turns.wait(urgency)
            effects = await self.node.draft(label, payload, body, to, precedence, basis, who)
            assert effects.item is not None  # noqa: S101  # a draft makes one
        await self.node.turns.wait(len(PRECEDENCES))  # sending it goes before telling of it
        return self.showing.summary(effects.item, title=str(payload.header["title"]))

    def _label(self, given: Json, sources: list[str]) -> tuple[Json, dict[str, list[Json]]]:
        """The label of our own item, with the sources that it was built from (DESIGN §3)."""
        keys = ("mark", "releasable_to", "kind", "topics", "about")
        if not set(keys) <= given.keys() <= {*keys, "exercise"}:
            raise CallerError(f"a label has the keys {', '.join(keys)}")
        label = {
            **given,
            "originator": self.node.party,
            **{key: sorted(_texts(given[key], key)) for key in keys[1:2] + keys[3:]},
        }
        if not sources:
            return label, {}
        return derive(
            self.node.engine.regime, self.node.party, label, [self._find(s) for s in sources]
        )

    async def _offer(self, request: Request, who: str, prefix: str) -> Json:
        item = self._find(prefix)
        body = read_object(request.body)
        precedence = _precedence(body.get("precedence", item.precedence))
        event = Offer(str(body.get("to", "")), precedence, who)
        if event.to not in self.node.engine.regime.parties:
            raise CallerError(f"unknown party {quoted(event.to)}")
        effects = await self.node.happen(item.id, event)
        assert effects.item is not None  # noqa: S101  # it was found
        return self.showing.summary(effects.item)

    async def _reviews(self, request: Request, who: str) -> Json:
        with self.node.store.read() as reader:
            rows = reader.listing("review", state="waiting", limit=LISTING_MAX)
        reviews = []
        for row in rows:
            item_id, _, to = row.key.partition(":")
            item = self.node.item(item_id)
            outgoing = next((o for o in item.outgoing if _waits(o, to)), None)
            if outgoing is None:
                continue  # approved meanwhile
            reviews.append(
                {
                    **self.showing.summary(item),
                    "review_to": to,
                    "officers": outgoing.proposal.officers,
                    "approved_by": self.showing.approvers(item, outgoing),
                }
            )
        await self._seen(who, [review["id"] for review in reviews])
        return {"reviews": reviews}

    def _waiting(self, prefix: str, to: str) -> tuple[Item, Proposal]:
        item = self._find(prefix)
        outgoing = next((o for o in item.outgoing if _waits(o, to)), None)
        if outgoing is None:
            raise CallerError(f"nothing to {to} waits for review in this item")
        return item, outgoing.proposal

    async def _review(self, request: Request, who: str, prefix: str, to: str) -> Json:
        """What an officer sees and, if named, signs: approval and, for our own item, manifest."""
        item, proposal = self._waiting(prefix, to)
        officer = _query(request.query, {"officer"}).get("officer", "")
        approval = Approval(
            self.node.party,
            officer,
            item.id,
            to,
            proposal.path,
            proposal.legs,
            proposal.basis,
            self.node.clock.instant(),
        )
        engine = self.node.engine
        label = item.label(engine.regime)
        held = item.held_as or label.mark
        await self._seen(who, [item.id])
        return {
            **self.showing.summary(item),
            "label": {"id": item.id, **item.manifest.label},
            **({"approval": _b64(approval.encode())} if officer else {}),
            **({"manifest": _b64(item.manifest_payload)} if item.made_here else {}),
            "officers": proposal.officers,
            "path": list(proposal.path),
            "leg_marks": [leg.mark for leg in proposal.legs],
            "marks": [banner(engine, m) for m in (held, *(leg.mark for leg in proposal.legs))],
            "protected_by": [leg.protected_by for leg in proposal.legs],
            "articles": {
                cite: dict(clause.text)
                for cite in sorted(set(proposal.basis.values()))
                if (clause := engine.regime.clause(cite)) is not None
            },
        }

    async def _approve(self, request: Request, who: str, prefix: str, to: str) -> Json:
        item, proposal = self._waiting(prefix, to)
        self.node.require_asked(proposal.path[1])
        body = read_object(request.body)
        certificate = _from_b64(body.get("certificate"))
        approval = Envelope.from_json(body.get("approval", {}))
        manifest = Envelope.from_json(body["manifest"]) if "manifest" in body else None
        certificates = Certificates.of([certificate])
        record = decode_record(approval, Approval)
        if (record.item, record.to) != (item.id, to):
            raise CallerError("the approval is for another item or party")
        verified = self.node.trust.verify(
            approval,
            Approval,
            party=self.node.party,
            roles=("officer",),
            at=record.at,
            certificates=certificates,
        )
        if manifest is not None:
            self.node.trust.verify(
                manifest,
                Manifest,
                party=self.node.party,
                roles=("officer",),
                at=decode_record(manifest, Manifest).at,
                certificates=certificates,
            )
        event = Approve(approval, manifest, verified[0], certificate)
        effects = await self.node.happen(item.id, event)
        assert effects.item is not None  # noqa: S101  # it was found
        return self.showing.summary(effects.item)

    async def _refuse(self, request: Request, who: str, prefix: str, to: str) -> Json:
        item, proposal = self._waiting(prefix, to)
        self.node.require_asked(proposal.path[1])
        effects = await self.node.happen(item.id, Decline(to, who))
        assert effects.item is not None  # noqa: S101  # it was found
        return self.showing.summary(effects.item)

    async def _draft_hold(self, request: Request, who: str) -> Json:
        body = read_object(request.body)
        hold = self.holds.draft(str(body.get("to", "")), on=body.get("on") is not False)
        return {"hold": _b64(hold.encode())}

    async def _hold(self, request: Request, who: str) -> Json:
        body = read_object(request.body)
        envelope = Envelope.from_json(body.get("hold", {}))
        record = await self.holds.lay(envelope, _from_b64(body.get("certificate")))
        return {"to": record.to, "on": record.on}

    async def _take_agreement(self, request: Request, who: str) -> Json:
        return await self._papers().take(request.body, who)

    async def _agreement(self, request: Request, who: str, name: str) -> bytes:
        return self._papers().paper(name)

    def _papers(self) -> Agreeing:
        if self.agreeing is None:
            raise CallerError("this node decides by a draft: its regime folder has nothing signed")
        return self.agreeing

    async def _clock(self, request: Request, who: str) -> Json:
        at = str(read_object(request.body).get("at", ""))
        if not is_instant(at):
            raise CallerError(f"{quoted(at)} is not an instant such as 2015-01-05T00:00:00Z")
        await self.node.set_clock(moment(at), who)
        for courier in self.couriers.values():
            courier.calls.forget_keys()
            courier.wake()
        return {"clock": self.node.clock.instant()}


async def _unframed(request: Request) -> tuple[Json, Stream]:
    """The JSON head of a request, and a stream of what is behind it. Raises CallerError."""
    body = request.stream or Stream(len(request.body), _whole(request.body))
    head, size, rest = await read_head(body.pieces)
    return head, Stream(body.size_bytes - size, rest)


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


def _waits(outgoing: Outgoing, to: str) -> bool:
    return outgoing.proposal.to == to and outgoing.state == "review"


def _response(status: int, body: Json) -> Response:
    return Response(status, json.dumps(body, ensure_ascii=False).encode())


def _query(query: str, known: set[str]) -> dict[str, str]:
    found = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in known:
            raise CallerError(f"unknown option {quoted(key)}")
        found[key] = value
    if not 0 < _number(found.get("limit", "1"), "limit") <= LISTING_MAX:
        raise CallerError(f"limit is not a number from 1 to {LISTING_MAX}")
    return found


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise CallerError(f"{what} is {quoted(text)}, not a number")
    return int(text)


def _texts(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise CallerError(f"{what} is not a list of texts")
    return value


def _precedence(value: object) -> str:
    if value not in PRECEDENCES:
        raise CallerError(f"unknown precedence {quoted(value)}; there are {', '.join(PRECEDENCES)}")
    return str(value)


def _given(**values: Any) -> Json:
    return {key: value for key, value in values.items() if value is not None}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_b64(value: object) -> bytes:
    try:
        return base64.b64decode(str(value or ""), validate=True)
    except ValueError:
        raise CallerError("not base64 where a certificate belongs") from None

"""Items as people see them: where each stands, who signed what, by which article.

Every signature is verified anew each time it is shown.
"""

from collections.abc import Iterable
from typing import Any

from relto.alarms import is_late
from relto.envelope import Envelope
from relto.explanations import banner
from relto.items import Item, Outgoing
from relto.labels import Label
from relto.node import Node
from relto.records import Approval, Manifest, Receipt, Refusal, Release, decode_record

__all__ = ["Showing"]

Json = dict[str, Any]
_ON_ITS_WAY = ("ready", "sent", "blocked")  # no receipt says that the content is there


class Showing:
    """Renders the items of one node as JSON for its own people."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def summary(self, item: Item, *, title: str = "") -> Json:
        """An item in a few lines.

        `title` is that of an item made a moment ago: then nothing of it has to be looked up.
        """
        engine = self.node.engine
        label = item.label(engine.regime)
        held = item.held_as or label.mark
        return {
            "id": item.id,
            "state": item.state,
            "from": label.maker,
            "kind": label.kind,
            "mark": label.mark,
            "held_as": held,
            "banner": banner(engine, held),
            "precedence": item.precedence,
            "at": item.at,
            "to": [self._way(item, outgoing, is_new=bool(title)) for outgoing in item.outgoing],
            **({"exercise": True} if label.exercise else {}),
            **_given(title=title or self._title(item)),
        }

    def _title(self, item: Item) -> str | None:
        if item.key is None or item.stored != "row":
            return None
        return str(self.node.contents.payload(item).header["title"])

    def _way(self, item: Item, outgoing: Outgoing, *, is_new: bool) -> Json:
        """Where the item stands on its way to one party, as people see it."""
        late = False
        if outgoing.is_open and not is_new:
            with self.node.store.read() as reader:
                late = is_late(reader, item, outgoing, self.node.clock.instant())
        error = ""
        if outgoing.outbox is not None:
            error = self._outbox_error(outgoing, is_new=is_new)
        return {
            "to": outgoing.proposal.to,
            "state": outgoing.state,
            "since": outgoing.since,
            **(
                {"sent_bytes": outgoing.received_bytes, "of_bytes": item.manifest.ciphertext_bytes}
                if outgoing.received_bytes and outgoing.state in _ON_ITS_WAY
                else {}
            ),
            **({"late": True} if late else {}),
            **({"codes": list(outgoing.codes)} if outgoing.codes else {}),
            **({"undelivered_because": error} if error else {}),
        }

    def _outbox_error(self, outgoing: Outgoing, *, is_new: bool) -> str:
        assert outgoing.outbox is not None  # noqa: S101  # asked only then
        peer = outgoing.proposal.path[1]
        if peer not in self.node.carriers:
            return f"there is no line from here to {peer}: give its address in node.toml"
        if is_new:
            return ""
        with self.node.store.read() as reader:
            rows = reader.outbox_rows(peer, outgoing.outbox - 1, 1)
        return rows[0].error if rows and rows[0].number == outgoing.outbox else ""

    def _banners(self, item: Item, label: Label) -> list[Json]:
        """The mark in each party's hands, as that party stamps it."""
        engine = self.node.engine
        marks = {label.maker: label.mark}
        releases = [e for i in item.incoming for e in (*i.prior, i.release)]
        releases += [o.release for o in item.outgoing if o.release is not None]
        for envelope in releases:
            for leg in decode_record(envelope, Release).legs:
                marks.setdefault(leg.receiver, leg.mark)
        return [
            {"party": party, "mark": mark, "banner": banner(engine, mark)}
            for party, mark in marks.items()
        ]

    def _steps(self, item: Item, releases: Iterable[Envelope]) -> list[Json]:
        steps = []
        for envelope in releases:
            release = decode_record(envelope, Release)
            cites = sorted(set(release.basis.values()))
            steps.append(
                {
                    **self._signed(item, envelope),
                    "from": release.sender,
                    "to": release.to,
                    "path": list(release.path),
                    "marks": [leg.mark for leg in release.legs],
                    "cites": cites,
                    "articles": {
                        cite: dict(clause.text)
                        for cite in cites
                        if (clause := self.node.engine.regime.clause(cite)) is not None
                    },
                }
            )
        return steps

    def _signed(self, item: Item, envelope: Envelope) -> Json:
        """Who validly signed a record, verified anew each time it is shown."""
        kinds: tuple[type[Manifest] | type[Release] | type[Receipt] | type[Refusal], ...]
        kinds = (Manifest, Release, Receipt, Refusal)
        kind = next(k for k in kinds if k.type() == envelope.payload_type)
        record: Any = decode_record(envelope, kind)
        party = getattr(record, "maker", None) or getattr(record, "sender", None) or record.party
        verified = self.node.trust.verify(
            envelope,
            kind,
            party=party,
            roles=("officer", "node"),
            at=record.at,
            certificates=item.certificates,
        )
        return {
            "record": kind.NAME,
            "id": envelope.record_id,
            "party": party,
            "at": record.at,
            "signed_by": [v.name or v.role for v in verified],
            **_given(codes=list(record.codes) if isinstance(record, Refusal) else None),
        }

    def approvers(self, item: Item, outgoing: Outgoing) -> list[str]:
        names = []
        for approval in outgoing.approvals:
            record = decode_record(approval, Approval)
            verified = self.node.trust.verify(
                approval,
                Approval,
                party=record.party,
                roles=("officer",),
                at=record.at,
                certificates=item.certificates,
            )
            names += [v.name or "" for v in verified]
        return names

    def whole(self, item: Item) -> Json:
        """Everything that the node knows of an item, each signature verified anew."""
        engine = self.node.engine
        label = item.label(engine.regime)
        manifest = item.manifest
        steps = [s for i in item.incoming for s in self._steps(item, (*i.prior, i.release))]
        for outgoing in item.outgoing:
            if outgoing.release is not None:
                steps += self._steps(item, (outgoing.release,))
        answers = [
            self._signed(item, e)
            for e in _unique(
                (
                    *(r for i in item.incoming for r in (i.result, *i.later) if r is not None),
                    *(r for o in item.outgoing for r in o.results),
                )
            )
        ]
        return {
            **self.summary(item),
            "label": {"id": item.id, **manifest.label},
            "banners": self._banners(item, label),
            "manifest": self._signed(item, item.manifest_envelope)
            if item.manifest_signatures
            else {"at": manifest.at},
            "ciphertext": {
                "sha256": manifest.ciphertext_sha256,
                "bytes": manifest.ciphertext_bytes,
            },
            "basis": dict(item.basis),
            "path": _without_repeats(steps),
            "answers": answers,
        }


def _given(**values: Any) -> Json:
    return {key: value for key, value in values.items() if value is not None}


def _unique(envelopes: Iterable[Envelope]) -> list[Envelope]:
    return list({e.record_id: e for e in envelopes}.values())


def _without_repeats(steps: list[Json]) -> list[Json]:
    return list({step["id"]: step for step in steps}.values())

"""The same regime and the same questions for Cedar, by `cedarpy`, in several forms.

Cedar says allow or deny, nothing else. In `CLAUSES` and `SLICES` it finds itself which clause
permits; in `WAYS` and `KNOWN` that is looked up beforehand, as relto compiles it, and Cedar is left
with the tests that differ from question to question. Policies, entities and requests are made
before anything is timed; times are spans of seconds worked out by relto's own timeline.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import cedarpy

from relto.clauses import Agreement, Onward, Share, equivalences, leg_key, path_of
from relto.labels import words_of
from relto.regime import Regime

__all__ = ["CLAUSES", "KNOWN", "SLICES", "WAYS", "forms"]

CLAUSES = "a policy a clause"
SLICES = "a policy set a pair"
WAYS = "one policy, clauses as data"
KNOWN = "one policy, clauses and questions as data"

Data = dict[str, Any]
Asked = Callable[[], list[bool]]
FOREVER = 2**60  # seconds


def forms(regime: Regime, asked: Sequence[Data], few: int) -> dict[str, tuple[int, Asked]]:
    """For each form, how many of the questions it is asked, and what answers them.

    `CLAUSES`, whose time grows with the regime, is asked only the first `few`.
    """
    clauses, ways = _Clauses(regime), _Ways(regime, asked)
    return {
        CLAUSES: (few, clauses.whole(asked[:few])),
        SLICES: (len(asked), clauses.sliced(asked)),
        WAYS: (len(asked), ways.of_requests()),
        KNOWN: (len(asked), ways.of_known()),
    }


@dataclass(frozen=True, slots=True)
class _Passage:
    """A clause as it applies from one holder to one recipient."""

    agreement: Agreement
    article: str
    body: Share | Onward
    path: tuple[str, ...]
    own: bool  # for what the holder made, or for what it received
    turns: tuple[str, ...]
    held_as: tuple[str, ...]  # marks in the holder's hands with an equal mark on every leg

    @property
    def cites(self) -> str:
        return f"{self.agreement.id}/{self.article}"

    @property
    def pair(self) -> str:
        return f"{self.path[0]}>{self.path[-1]}"

    @property
    def hub(self) -> str | None:
        reads = isinstance(self.body, Share) and self.body.via_reads
        return self.path[1] if reads and len(self.path) == 3 else None

    @property
    def originators(self) -> frozenset[str]:
        return self.body.senders if isinstance(self.body, Share) else self.agreement.parties


def _passages(regime: Regime) -> Iterator[_Passage]:
    """All that ever is in force, by agreement and clause."""
    tables = {a.id: equivalences(a) for a in regime.agreements.values()}
    for agreement in regime.agreements.values():
        for clause in agreement.clauses:
            body = clause.body
            if not isinstance(body, Share | Onward):
                continue
            for path, own in _ways(body):
                legs = list(pairwise(path))
                guards = [body.protected_by.get(leg_key(*leg), agreement.id) for leg in legs]
                turns = regime.timeline.together([agreement.id, *guards])
                held_as = []
                for mark in regime.schemes[path[0]].marks:
                    name: str | None = mark.name
                    for guard, leg in zip(guards, legs, strict=True):
                        stamp = tables[guard].get(leg, {}).get(name or "")
                        name = None if stamp is None else stamp.name
                    if name is not None:
                        held_as.append(mark.name)
                if turns and held_as:
                    yield _Passage(
                        agreement, clause.article, body, path, own, turns, tuple(held_as)
                    )


def _ways(body: Share | Onward) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every path that the clause can take, and whether for a holder's own or what it received."""
    if isinstance(body, Onward):
        yield from (((by, to), False) for by in body.by for to in body.to if by != to)
        return
    for to in body.to:
        yield from ((path_of(a, body.via, to), True) for a in body.senders if a != to)
        if body.via is not None and body.via != to:
            yield (body.via, to), False


def _blind_hubs(regime: Regime) -> frozenset[str]:
    return frozenset(
        f"{c.body.via}:{a.id}/{c.article}"
        for a in regime.agreements.values()
        for c in a.clauses
        if isinstance(c.body, Share) and not c.body.via_reads
    )


class _Facts:
    """What a question says, as words."""

    def __init__(self, question: Data) -> None:
        item, holding = question["item"], question.get("holding", {})
        self.holder, self.to, self.item = question["holder"], question["to"], item
        self.own = self.holder == item["originator"]
        self.at = _seconds(question["at"])
        receipts = holding.get("basis", {}).get(item["id"], [])
        self.agreements = [receipt["agreement"] for receipt in receipts]
        self.basis = [f"{receipt['agreement']}/{receipt['article']}" for receipt in receipts]
        self.held_as = holding.get("held_as", item["mark"])
        self.readers = [*item["releasable_to"], item["originator"]]
        self.pair = f"{self.holder}>{self.to}"
        self.home = self.to in (self.holder, item["originator"])

    def blind(self, hubs: frozenset[str]) -> bool:
        """Whether the holder holds it only as a hub that does not read."""
        return bool(self.basis) and all(f"{self.holder}:{b}" in hubs for b in self.basis)


def _seconds(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())


def _spans(turns: tuple[str, ...]) -> list[tuple[int, int]]:
    seconds = [*map(_seconds, turns), FOREVER]
    return [(seconds[i], seconds[i + 1]) for i in range(0, len(turns), 2)]


def _uid(kind: str, name: str) -> Data:
    return {"type": kind, "id": name}


def _request(principal: Data, resource: str, context: Data | None = None) -> Data:
    request: Data = {
        "principal": principal,
        "action": _uid("Action", "release"),
        "resource": _uid("Item", resource),
    }
    if context is not None:
        request["context"] = json.dumps(context, separators=(",", ":"))
    return request


def _entities(made: Iterable[Data]) -> cedarpy.Entities:
    return cedarpy.Entities.from_json_str(
        json.dumps([{"attrs": {}, "parents": []} | e for e in made])
    )


def _answers(
    requests: list[Data], policies: cedarpy.PolicySet, entities: cedarpy.Entities
) -> list[bool]:
    return [r.allowed for r in cedarpy.is_authorized_batch(requests, policies, entities)]


# to == holder or originator; then who must be able to read, but for a hub that holds blindly
_FORBIDS = """
forbid(principal, action, resource) when { context.home };
forbid(principal, action, resource) unless { context.readers.containsAll(context.need) };
"""


class _Clauses:
    """A policy for each clause, for more than one where its legs have unlike lives.

    The principal is the move asked for; it lies in the group of every clause that opens it.
    """

    def __init__(self, regime: Regime) -> None:
        self.regime = regime
        self.passages = list(_passages(regime))
        self.blind_hubs = _blind_hubs(regime)
        groups: dict[str, list[Data]] = {}
        for passage in self.passages:
            for mark in passage.held_as:
                move = _move(passage.pair, mark, own=passage.own)
                groups.setdefault(move, []).append(_uid("Clause", _group(passage)))
        self.entities = _entities(
            {"uid": _uid("Move", move), "parents": parents} for move, parents in groups.items()
        )

    def whole(self, asked: Sequence[Data]) -> Asked:
        policies = self._policies(self.passages)
        requests = [self._request(_Facts(question)) for question in asked]
        return lambda: _answers(requests, policies, self.entities)

    def sliced(self, asked: Sequence[Data]) -> Asked:
        """Which set is looked up in the time that counts; of those with one pair, one batch."""
        by_pair: dict[str, list[_Passage]] = {}
        for passage in self.passages:
            by_pair.setdefault(passage.pair, []).append(passage)
        facts = [_Facts(question) for question in asked]
        pairs = [fact.pair for fact in facts]
        requests = [self._request(fact) for fact in facts]
        sets = {pair: self._policies(by_pair.get(pair, [])) for pair in set(pairs)}

        def answers() -> list[bool]:
            found = [False] * len(requests)
            places: dict[str, list[int]] = {}
            for place, pair in enumerate(pairs):
                places.setdefault(pair, []).append(place)
            for pair, its in places.items():
                batch = _answers([requests[place] for place in its], sets[pair], self.entities)
                for place, allowed in zip(its, batch, strict=True):
                    found[place] = allowed
            return found

        return answers

    def _policies(self, passages: list[_Passage]) -> cedarpy.PolicySet:
        policies = {_group(passage): _policy(passage, self.regime) for passage in passages}
        return cedarpy.PolicySet.from_str("\n".join([*policies.values(), _FORBIDS]))

    def _request(self, fact: _Facts) -> Data:
        item = fact.item
        context = {
            "home": fact.home,
            "own": fact.own,
            "at": fact.at,
            "originator": item["originator"],
            "mark": item["mark"],
            "readers": fact.readers,
            "need": [fact.to] if fact.blind(self.blind_hubs) else [fact.to, fact.holder],
            "kind": item["kind"],
            "topics": item["topics"],
            "about": item["about"],
            "basis": fact.basis,
            "agreements": fact.agreements,
        }
        move = _move(fact.pair, fact.held_as, own=fact.own)
        return _request(_uid("Move", move), "it", context)


def _move(pair: str, held_as: str, *, own: bool) -> str:
    return f"{'own' if own else 'passed'}:{pair}:{held_as}"


def _group(passage: _Passage) -> str:
    hub = "" if passage.hub is None or not passage.own else f" by {passage.hub}"
    return f"{passage.cites} {' '.join(passage.turns)}{hub}"


def _policy(passage: _Passage, regime: Regime) -> str:
    scope, body = passage.body.scope, passage.body
    spans = [f"(context.at >= {a} && context.at < {b})" for a, b in _spans(passage.turns)]
    tests = [f"({' || '.join(spans)})"]
    if scope.kinds is not None:
        tests.append(f"{_words(scope.kinds)}.contains(context.kind)")
    if scope.topics is not None:  # no topic at all is outside a clause that names topics
        covered = _words(_covered(scope.topics, regime))
        tests.append(f"!context.topics.isEmpty() && {covered}.containsAll(context.topics)")
    if scope.about is not None:
        about = _words(scope.about)
        tests.append(f"!context.about.isEmpty() && {about}.containsAll(context.about)")
    if scope.marks is not None:
        tests.append(f"{_words(scope.marks)}.contains(context.mark)")
    if isinstance(body, Share):
        received = f"context.basis.contains({json.dumps(passage.cites)})"
        if passage.own and passage.hub is not None:
            tests.append(f"context.readers.contains({json.dumps(passage.hub)})")
    else:
        received = f"context.agreements.contains({json.dumps(passage.agreement.id)})"
    tests.append(f"{_words(passage.originators)}.contains(context.originator)")
    tests.append(f"(context.own || {received})")
    group = f"Clause::{json.dumps(_group(passage))}"
    return f"permit(principal in {group}, action, resource) when {{ {' && '.join(tests)} }};"


def _words(names: Iterable[str]) -> str:
    return json.dumps(sorted(names))


def _covered(topics: Iterable[str], regime: Regime) -> list[str]:
    return words_of(regime.vocabulary.covered_by(topics), regime.vocabulary.topic_bits)


class _Ways:
    """One policy. The principal is an entity with all that this question can be tried by.

    What pair, originator, marks, kind and receipts settle is settled when it is made; left to
    Cedar are time, topics, subjects and readers.
    """

    def __init__(self, regime: Regime, asked: Sequence[Data]) -> None:
        self.regime = regime
        self.blind_hubs = _blind_hubs(regime)
        self.by_pair: dict[str, list[_Passage]] = {}
        for passage in _passages(regime):
            self.by_pair.setdefault(passage.pair, []).append(passage)
        self.facts = [_Facts(question) for question in asked]
        self.names = [_name(fact) for fact in self.facts]
        self.tries = {
            name: self._tries(f)
            for name, f in dict(zip(self.names, self.facts, strict=True)).items()
        }
        self.slots = max(map(len, self.tries.values()))
        self.ways = [
            {"uid": _uid("Way", name), "attrs": {f"c{i}": t for i, t in enumerate(tries)}}
            for name, tries in self.tries.items()
        ]

    def of_requests(self) -> Asked:
        policies, entities = self._policy("context"), _entities(self.ways)
        requests = [
            _request(_uid("Way", name), "it", _asked(fact))
            for name, fact in zip(self.names, self.facts, strict=True)
        ]
        return lambda: _answers(requests, policies, entities)

    def of_known(self) -> Asked:
        """The questions too are parsed beforehand: each is the resource, an entity."""
        policies = self._policy("resource")
        items = [
            {"uid": _uid("Item", str(i)), "attrs": _asked(f)} for i, f in enumerate(self.facts)
        ]
        entities = _entities([*self.ways, *items])
        requests = [_request(_uid("Way", name), str(i)) for i, name in enumerate(self.names)]
        return lambda: _answers(requests, policies, entities)

    def _policy(self, asked: str) -> cedarpy.PolicySet:
        tests = [
            f"(principal has c{i} && {asked}.at >= {c}.start && {asked}.at < {c}.end"
            f" && {asked}.readers.containsAll({c}.readers)"
            f" && {_inside(c, asked, 'topics')} && {_inside(c, asked, 'about')})"
            for i in range(self.slots)
            for c in [f"principal.c{i}"]
        ]
        permit = f"permit(principal, action, resource) when {{ {' || '.join(tests)} }};"
        return cedarpy.PolicySet.from_str(permit)

    def _tries(self, fact: _Facts) -> list[Data]:
        if fact.home:
            return []
        readers = [fact.to] if fact.blind(self.blind_hubs) else [fact.to, fact.holder]
        found: list[Data] = []
        for passage in self.by_pair.get(fact.pair, []):
            if not _may_try(passage, fact):
                continue
            scope = passage.body.scope
            limits: Data = {"readers": [*readers, *([passage.hub] if passage.hub else [])]}
            if scope.topics is not None:
                limits["topics"] = _covered(scope.topics, self.regime)
            if scope.about is not None:
                limits["about"] = sorted(scope.about)
            found += [{**limits, "start": a, "end": b} for a, b in _spans(passage.turns)]
        return found


def _name(fact: _Facts) -> str:
    """All that `_may_try` and the readers of `_tries` depend on."""
    item = fact.item
    own = (item["originator"], item["mark"], fact.held_as, item["kind"])
    return " ".join([fact.pair, *own, *sorted(fact.basis)])


def _may_try(passage: _Passage, fact: _Facts) -> bool:
    item, body, scope = fact.item, passage.body, passage.body.scope
    if not fact.own:
        by = fact.basis if isinstance(body, Share) else fact.agreements
        if (passage.cites if isinstance(body, Share) else passage.agreement.id) not in by:
            return False
    return (
        passage.own == fact.own
        and item["originator"] in passage.originators
        and fact.held_as in passage.held_as
        and (scope.kinds is None or item["kind"] in scope.kinds)
        and (scope.marks is None or item["mark"] in scope.marks)
    )


def _inside(clause: str, asked: str, words: str) -> str:
    inside = f"(!{asked}.{words}.isEmpty() && {clause}.{words}.containsAll({asked}.{words}))"
    return f"(!({clause} has {words}) || {inside})"


def _asked(fact: _Facts) -> Data:
    return {
        "at": fact.at,
        "readers": fact.readers,
        "topics": fact.item["topics"],
        "about": fact.item["about"],
    }

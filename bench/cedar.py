"""The same regime and the same questions for Cedar, by `cedarpy`: allow or deny, nothing else.

One policy a clause; what a policy tests lies in entities, parsed once. A question is the strings
that a program would have at hand: who, to whom, the label, the basis. Sets stand in entities
because Cedar builds a set that is written in a policy anew for each question.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

import cedarpy

from relto.clauses import Agreement, Onward, Share, equivalences, leg_key, path_of
from relto.labels import words_of
from relto.marks import Mark
from relto.regime import Regime

__all__ = ["Cedar", "request"]

# to == holder or originator; then who must be able to read: both, but for a hub that holds blindly
_FORBIDS = """
forbid(principal, action, resource) when { context.home };
forbid(principal, action, resource) unless {
  context.readers.contains(context.to) && (context.readers.contains(context.holder)
    || (!context.basis.isEmpty() && Hubs::"blind".clauses.containsAll(context.at_hub))) };
"""


class Cedar:
    """A regime as policies and entities, both parsed once."""

    def __init__(self, regime: Regime) -> None:
        self.regime = regime
        self.tables = {a.id: equivalences(a) for a in regime.agreements.values()}
        self.entities: list[dict[str, Any]] = []
        policies = [
            policy
            for agreement in regime.agreements.values()
            for clause in agreement.clauses
            if isinstance(clause.body, Share | Onward)
            for policy in self._policies(agreement, clause.article, clause.body)
        ]
        blind = [
            f"{c.body.via}:{a.id}/{c.article}"
            for a in regime.agreements.values()
            for c in a.clauses
            if isinstance(c.body, Share) and not c.body.via_reads
        ]
        self._entity("Hubs", "blind", {"clauses": blind})
        self.policies_count = len(policies) + 2
        self.policies = cedarpy.PolicySet.from_str("\n".join([*policies, _FORBIDS]))
        self.parsed = cedarpy.Entities.from_json_str(json.dumps(self.entities))

    def allowed(self, requests: list[dict[str, str]]) -> list[bool]:
        """The answers, by one batch call."""
        results = cedarpy.is_authorized_batch(requests, self.policies, self.parsed)
        return [result.allowed for result in results]

    def _entity(self, kind: str, name: str, attributes: Mapping[str, Any]) -> None:
        self.entities.append(
            {"uid": {"type": kind, "id": name}, "attrs": attributes, "parents": []}
        )

    def _policies(self, agreement: Agreement, article: str, body: Share | Onward) -> Iterator[str]:
        """One for the clause; more where its legs are protected by agreements of unlike lives."""
        cites = f"{agreement.id}/{article}"
        by_turns: dict[tuple[str, ...], list[str]] = {}
        for path, how in _ways(body):
            guards = [body.protected_by.get(leg_key(*leg), agreement.id) for leg in pairwise(path)]
            turns = self.regime.timeline.together([agreement.id, *guards])
            for mark in self.regime.schemes[path[0]].marks:
                if self._stamped(guards, path, mark):
                    move = f"{how}:{path[0]}>{path[-1]}:{mark.name}"
                    by_turns.setdefault(turns, []).append(move)
        for number, (turns, moves) in enumerate(by_turns.items()):
            if turns:
                yield self._policy(f"{cites}#{number}", cites, agreement, body, turns, moves)

    def _policy(
        self,
        name: str,
        cites: str,
        agreement: Agreement,
        body: Share | Onward,
        turns: tuple[str, ...],
        moves: list[str],
    ) -> str:
        scope = body.scope
        vocabulary = self.regime.vocabulary
        attributes: dict[str, Any] = {"moves": moves}
        itself = f"Clause::{json.dumps(name)}"
        # what rejects most questions comes first: Cedar stops at the first test that fails
        tests = [f"{itself}.moves.contains(context.move)", _within(turns)]
        if scope.kinds is not None:
            attributes["kinds"] = sorted(scope.kinds)
            tests.append(f"{itself}.kinds.contains(context.kind)")
        if scope.topics is not None:  # no topic at all is outside a clause that names topics
            covered = vocabulary.covered_by(scope.topics)
            attributes["topics"] = words_of(covered, vocabulary.topic_bits)
            tests.append(
                f"!context.topics.isEmpty() && {itself}.topics.containsAll(context.topics)"
            )
        if scope.about is not None:
            attributes["about"] = sorted(scope.about)
            tests.append(f"!context.about.isEmpty() && {itself}.about.containsAll(context.about)")
        if scope.marks is not None:
            attributes["marks"] = sorted(scope.marks)
            tests.append(f"{itself}.marks.contains(context.mark)")
        if isinstance(body, Share):
            attributes["from"] = sorted(body.senders)
            received = f"context.basis.contains({json.dumps(cites)})"
            if body.via is not None and body.via_reads:
                tests.append(f"context.readers.contains({json.dumps(body.via)})")
        else:
            attributes["from"] = sorted(agreement.parties)
            received = f"context.agreements.contains({json.dumps(agreement.id)})"
        tests.append(f"{itself}.from.contains(context.originator)")
        tests.append(f"(context.own || {received})")
        self._entity("Clause", name, attributes)
        return f"permit(principal, action, resource) when {{ {' && '.join(tests)} }};"

    def _stamped(self, guards: list[str], path: tuple[str, ...], mark: Mark) -> bool:
        name: str | None = mark.name
        for guard, leg in zip(guards, pairwise(path), strict=True):
            stamp = self.tables[guard].get(leg, {}).get(name or "")
            name = None if stamp is None else stamp.name
        return name is not None


def _ways(body: Share | Onward) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every path that the clause can take, and whether for a holder's own or what it received."""
    if isinstance(body, Onward):
        yield from (((by, to), "passed") for by in body.by for to in body.to if by != to)
        return
    for to in body.to:
        yield from ((path_of(a, body.via, to), "own") for a in body.senders if a != to)
        if body.via is not None and body.via != to:
            yield (body.via, to), "passed"


def _seconds(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())


def _within(turns: tuple[str, ...]) -> str:
    """Whether `context.at` lies after an odd number of turns."""
    spans = []
    for i in range(0, len(turns), 2):
        test = f"context.at >= {_seconds(turns[i])}"
        if i + 1 < len(turns):
            test += f" && context.at < {_seconds(turns[i + 1])}"
        spans.append(f"({test})")
    return f"({' || '.join(spans)})"


def request(question: dict[str, Any]) -> dict[str, str]:
    """The question as a request: strings, sets of strings and a number."""
    item, holder, to = question["item"], question["holder"], question["to"]
    holding = question.get("holding", {})
    own = holder == item["originator"]
    receipts = [
        (r["agreement"], r["article"]) for r in holding.get("basis", {}).get(item["id"], [])
    ]
    held_as = holding.get("held_as", item["mark"])
    context = {
        "move": f"{'own' if own else 'passed'}:{holder}>{to}:{held_as}",
        "holder": holder,
        "to": to,
        "home": to in (holder, item["originator"]),
        "own": own,
        "at": _seconds(question["at"]),
        "originator": item["originator"],
        "mark": item["mark"],
        "readers": [*item["releasable_to"], item["originator"]],
        "kind": item["kind"],
        "topics": item["topics"],
        "about": item["about"],
        "basis": [f"{agreement}/{article}" for agreement, article in receipts],
        "agreements": [agreement for agreement, _ in receipts],
        "at_hub": [f"{holder}:{agreement}/{article}" for agreement, article in receipts],
    }
    return {
        "principal": 'Node::"here"',
        "action": 'Action::"release"',
        "resource": 'Item::"it"',
        "context": json.dumps(context),
    }

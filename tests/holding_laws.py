"""What must be true of classes of items, as checks that tests and planted bugs share.

Decisions are asked as JSON, so that nothing here goes the way of the code that is checked.
"""

import copy
import random
from collections.abc import Iterator
from typing import Any

from pact_checks import Pact
from relto.decisions import Allow, Deny
from relto.holdings import class_of
from relto.items import Item
from relto.labels import KINDS
from relto.records import Manifest, digest_of
from strategies import known_topics, marks_of, random_instant, random_question, random_regime, text

__all__ = ["Case", "cases", "classes_decide_alike", "item_of", "names_do_not_count", "verdicts"]

Case = dict[str, Any]  # holder, item (its label, without id), held_as or None, basis
_LISTS = ("releasable_to", "topics", "about")


def cases(rng: random.Random, pact: Pact, count: int) -> Iterator[Case]:
    """Items that somebody holds, as random questions have them; the item itself is called `i1`."""
    found = 0
    while found < count:
        question = random_question(rng, pact.made)
        if pact.question(question) is None:
            continue
        label = {key: value for key, value in question["item"].items() if key != "id"}
        for entry in (label, *label.get("sources", ())):
            for key in _LISTS:
                entry[key] = sorted(entry[key])
        holding = question.get("holding", {})
        yield {
            "holder": question["holder"],
            "item": label,
            "held_as": holding.get("held_as"),
            "basis": holding.get("basis", {}),
        }
        found += 1


def item_of(case: Case, content: bytes = b"") -> Item:
    """The item as a node keeps it; other contents make another id."""
    manifest = Manifest(case["item"], content.hex().zfill(64), 1, "0" * 64, "2015-01-05T00:00:00Z")
    item = digest_of(manifest)
    basis = {item if key == "i1" else key: receipts for key, receipts in case["basis"].items()}
    made_here = case["item"]["originator"] == case["holder"]
    return Item(
        item, manifest.encode(), (), "ROUTINE", manifest.at, made_here,
        held_as=case["held_as"], basis=basis,
    )  # fmt: skip


def verdicts(pact: Pact, case: Case, instants: list[str]) -> list[object]:
    """Every decision about the item: to each party, at each instant, sources by their place."""
    sources = [source["item"] for source in case["item"].get("sources", ())]
    places = {name: place for place, name in enumerate(sources)}
    holding = {"basis": case["basis"]}
    if case["held_as"] is not None:
        holding["held_as"] = case["held_as"]
    found: list[object] = []
    for at in instants:
        for to in pact.made["schemes"]:
            asked = {
                "at": at, "holder": case["holder"], "to": to,
                "item": {"id": "i1", **case["item"]}, "holding": holding,
            }  # fmt: skip
            decision = pact.decide(asked)
            if isinstance(decision, Deny):
                found.append([(r.code, r.cites, places.get(r.source)) for r in decision.reasons])
            else:
                assert decision is None or isinstance(decision, Allow)
                found.append(decision)
    return found


def renamed(rng: random.Random, case: Case) -> Case:
    """The same built on other items."""
    other = copy.deepcopy(case)
    names = {"self": "self", "i1": "i1"}
    for source in other["item"].get("sources", ()):
        name = source["item"]
        source["item"] = names.setdefault(name, f"{rng.randrange(10**9)}")
    other["basis"] = {names[name]: receipts for name, receipts in other["basis"].items()}
    return other


def changed(rng: random.Random, pact: Pact, case: Case) -> Iterator[Case]:
    """The same with one thing other: each part of the label and of its sources, basis, mark."""
    made = pact.made
    parties = sorted(made["schemes"])
    choices = {
        "releasable_to": parties,
        "topics": known_topics(made["vocabulary"]),
        "about": made["vocabulary"]["subjects"],
    }
    entries = len(case["item"].get("sources", ()))
    for place in range(-1, entries):
        for key in ("originator", "mark", "kind", "held_as", "exercise", *_LISTS):
            other = copy.deepcopy(case)
            entry = other["item"] if place < 0 else other["item"]["sources"][place]
            if key in choices:
                known = set(entry[key])
                known ^= {rng.choice(choices[key])}
                entry[key] = sorted(known)
            elif key == "exercise":
                entry[key] = True
            elif key == "kind":
                entry[key] = rng.choice(KINDS)
            elif key == "originator":
                entry[key] = rng.choice(parties)
                entry["mark"] = rng.choice(marks_of(made["schemes"], entry[key]))
            elif key in entry:
                party = entry[key].partition(":")[0]
                entry[key] = rng.choice(marks_of(made["schemes"], party))
            yield other
    if entries:
        other = copy.deepcopy(case)
        rng.shuffle(other["item"]["sources"])
        yield other
    if case["held_as"] is not None:
        held_as = rng.choice(marks_of(made["schemes"], case["holder"]))
        yield case | {"held_as": held_as}
    names = [s["item"] for s in case["item"].get("sources", ())] or ["i1"]
    for name in case["basis"]:
        yield case | {"basis": {k: v for k, v in case["basis"].items() if k != name}}
        yield case | {"basis": case["basis"] | {name: case["basis"][name][:1]}}
        moved = {k: v for k, v in case["basis"].items() if k != name}
        yield case | {"basis": moved | {rng.choice(names): case["basis"][name]}}


def classes_decide_alike(seeds: range) -> None:
    """Of items that one holder has, those of one class have the same decisions, always."""
    compared = told_apart = 0
    for seed in seeds:
        rng = random.Random(seed)
        pact = Pact(random_regime(rng))
        instants = [text(random_instant(rng, pact.made)) for _ in range(2)]
        for case in cases(rng, pact, 4):
            of_class = class_of(item_of(case))
            right = verdicts(pact, case, instants)
            for other in (renamed(rng, case), *changed(rng, pact, case)):
                if class_of(item_of(other, b"other")) != of_class:
                    told_apart += 1
                    continue
                compared += 1
                assert verdicts(pact, other, instants) == right, f"seed {seed}: {case} and {other}"
    assert compared > len(seeds) * 4  # the renamed, and what a change left as it was
    assert told_apart > len(seeds) * 10


def names_do_not_count(seeds: range) -> None:
    """Other contents, and other ids of the items built upon, make no other class."""
    for seed in seeds:
        rng = random.Random(seed)
        pact = Pact(random_regime(rng))
        for case in cases(rng, pact, 4):
            other = renamed(rng, case)
            assert class_of(item_of(case)) == class_of(item_of(other, b"other")), f"seed {seed}"

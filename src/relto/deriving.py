"""Derived items: a label that keeps the policy of every source (DESIGN §3)."""

from typing import Any

from relto.errors import CallerError
from relto.items import Item
from relto.labels import SELF, words_of
from relto.regime import Regime

__all__ = ["derive"]

Json = dict[str, Any]


def derive(
    regime: Regime, party: str, label: Json, held: list[Item]
) -> tuple[Json, dict[str, list[Json]]]:
    """A derived item's sources, listed flat, and the maker's basis for each that is not its own."""
    own = {key: label[key] for key in ("originator", "mark", "releasable_to", "topics", "about")}
    exercise = {"exercise": True} if label.get("exercise") else {}
    sources: dict[str, Json] = {SELF: {"item": SELF, **own, **exercise}}
    basis: dict[str, list[Json]] = {}
    for item in held:
        if item.state not in ("received", "made"):
            raise CallerError(f"{item.id[:12]} is not held here to read, so nothing is built on it")
        inner = item.label(regime)
        for source in inner.sources:
            if source.originator == party:
                continue  # ours belongs to self
            name = item.id if source.item == SELF else source.item
            sources[name] = {
                "item": name,
                "originator": source.originator,
                "mark": source.mark,
                "releasable_to": sorted(source.readers),
                "topics": words_of(source.matter, regime.vocabulary.topic_bits),
                "about": words_of(source.matter, regime.vocabulary.subject_bits),
                "held_as": item.held_as or inner.mark,
                **exercise,
            }
            known = basis.setdefault(name, [])
            known += [e for e in item.basis.get(source.item, []) if e not in known]
    topics = sorted({t for s in sources.values() for t in s["topics"]})
    about = sorted({a for s in sources.values() for a in s["about"]})
    ordered = [sources.pop(SELF), *(sources[name] for name in sorted(sources))]
    return {**label, "topics": topics, "about": about, "sources": ordered}, basis

"""Properties and chains in words for people, in the reader's language."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

from relto.clauses import Citation
from relto.explanations import in_language
from relto.phrases import HEADINGS
from relto.proofs.chains import Chain, Step
from relto.proofs.phrases import CHAINS, KINDS, PROPERTIES
from relto.proofs.properties import (
    NAMES,
    HeldOnlyBy,
    OnlyThrough,
    Possible,
    Property,
    WithinScope,
)
from relto.proofs.proving import Idle, Proof, Verdict
from relto.regime import Regime

__all__ = ["account", "begun", "marked", "stepped", "story", "words"]


def words(one: Property, language: str) -> str:
    """The property in one sentence: its own words if it has any, else made from its form."""
    if one.text:
        return in_language(one.text, language)
    form = one.form
    values: dict[str, str] = {}
    for field in fields(form):
        value = getattr(form, field.name)
        if value is not None:
            values[field.name] = ", ".join(sorted(value)) if isinstance(value, frozenset) else value
    if isinstance(form, WithinScope | Possible):
        named = [form.scope.marks, form.scope.kinds, form.scope.topics, form.scope.about]
        said = ["/".join(sorted(names)) for names in named if names is not None]
        values["scope"] = ", ".join(said) or in_language(PROPERTIES["any"], language)
    text = in_language(PROPERTIES[NAMES[type(form)]], language).format(**values)
    if isinstance(form, OnlyThrough) and form.unless_under:
        text += in_language(PROPERTIES["unless_under"], language).format(**values)
    if isinstance(form, HeldOnlyBy) and form.agreement is not None:
        text += in_language(PROPERTIES["held_under"], language).format(**values)
    return text


def account(proof: Proof, language: str) -> Iterator[str]:
    """Every verdict with the chain that breaks it, idle clauses, and what is not claimed."""
    for verdict in proof.verdicts:
        yield f"{_verdict(verdict, language)}  {verdict.property.id}"
        yield f"    {words(verdict.property, language)}"
        if verdict.chain is not None and not verdict.holds:
            yield from (f"    {line}" for line in story(proof.regime, verdict.chain, language))
    yield from (_idle(one, language) for one in proof.idle)
    yield in_language(CHAINS["claim"], language)


def _verdict(verdict: Verdict, language: str) -> str:
    if verdict.holds:
        return in_language(CHAINS["holds"], language)
    possible = isinstance(verdict.property.form, Possible)
    return in_language(CHAINS["impossible" if possible else "broken"], language)


def _idle(one: Idle, language: str) -> str:
    reason = "idle-no-move" if one.in_force else "idle-not-in-force"
    text = in_language(CHAINS["idle"], language).format(cites=one.cites)
    return f"{text} ({in_language(CHAINS[reason], language)})"


def story(regime: Regime, chain: Chain, language: str) -> Iterator[str]:
    """The chain step by step, numbered, each with its article and the mark as held."""
    yield f"1. {begun(regime, chain, language)}"
    before = chain.begins.holder
    for number, step in enumerate(chain.steps, 2):
        yield f"{number}. {stepped(regime, before, step, language)}"
        before = step.held.holder


def begun(regime: Regime, chain: Chain, language: str) -> str:
    """What the originator begins with."""
    source = chain.source
    label = [source.mark, *sorted(source.topics), *sorted(source.about)]
    return in_language(CHAINS["begins"], language).format(
        party=chain.originator,
        kind=in_language(KINDS[source.kind], language),
        label=", ".join(label),
        mark=marked(regime, chain.begins.mark),
    )


def stepped(regime: Regime, before: str, step: Step, language: str) -> str:
    """One step, taken by the party `before`."""
    values: Mapping[str, str] = {
        "at": step.at,
        "party": before,
        "to": step.held.holder,
        "kind": in_language(KINDS[step.kind], language),
        "mark": marked(regime, step.held.mark),
    }
    if step.move is None:
        return in_language(CHAINS["makes"], language).format(**values)
    end = step.move.path[-1]
    name = "gives" if end == step.held.holder else "hands" if step.held.reads else "carries"
    return in_language(CHAINS[name], language).format(
        cites=_cited(step.move.cites, language), guard=step.move.guards[0], end=end, **values
    )


def _cited(citation: str, language: str) -> str:
    named = Citation.parse(citation)
    if not named.how:
        return named.clause
    return f"{named.clause} ({in_language(HEADINGS[named.how], language)})"


def marked(regime: Regime, mark: str) -> str:
    """A mark with the banner that its own party writes, as explanations show it."""
    return f"{next(iter(regime.marks[mark].banner.values()))} ({mark})"

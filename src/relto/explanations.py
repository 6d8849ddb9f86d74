"""Decisions in words for people: the path with each mark as stamped, articles, duties, reviewers.

Articles are quoted in the reader's language where the agreement has them; marks are shown as
the party that stamps them writes them. What would change a refusal is said for each reason.
"""

from collections.abc import Iterator, Mapping

from relto.clauses import Citation, Onward, Share
from relto.decisions import Allow, Deny, Engine, Reason
from relto.labels import SELF
from relto.phrases import DUTIES, HEADINGS, LANGUAGES, NEEDS, REASONS, WORDS
from relto.questions import Question

SENTENCES_MAX = 10_000

__all__ = ["LANGUAGES", "banner", "explain", "in_language", "needs"]


def in_language(texts: Mapping[str, str], language: str) -> str:
    """The text in `language`; else in English; else in the first that there is."""
    return texts.get(language) or texts.get("en") or next(iter(texts.values()))


def banner(engine: Engine, mark: str) -> str:
    """A mark as its own party stamps it: the first language that its scheme gives.

    For a scheme that lists Korean first, `KOR:II` is 군사II급비밀.
    """
    return next(iter(engine.regime.marks[mark].banner.values()))


def explain(engine: Engine, question: Question, decision: Allow | Deny, language: str) -> str:
    """The account of a decision, some ten lines of text."""
    said = _Said(engine, question, language)
    return "\n".join(said.allow(decision) if isinstance(decision, Allow) else said.deny(decision))


def needs(engine: Engine, question: Question, deny: Deny, language: str = "en") -> list[str]:
    """What would change a refusal (DESIGN §4 (8)): one sentence a reason, without repeats."""
    said = _Said(engine, question, language)
    return list(dict.fromkeys(said.need(reason) for reason in deny.reasons))


class _Said:
    def __init__(self, engine: Engine, question: Question, language: str) -> None:
        self.engine = engine
        self.q = question
        self.language = language

    def _heading(self, name: str) -> str:
        return in_language(HEADINGS[name], self.language)

    def _head(self, verdict: str, path: tuple[str, ...]) -> Iterator[str]:
        label = self.q.label
        exercise = f"[{self._heading('exercise')}] " if label.exercise else ""
        yield f"{exercise}{' → '.join(path)}: {self._heading(verdict)}"
        held = self.q.holding.held_as or label.mark
        yield (
            f"  {self._heading('item')}: {label.id}, {label.kind}, {label.maker} "
            f"{banner(self.engine, label.mark)} ({label.mark})"
        )
        if held != label.mark:
            yield f"  {self._heading('held')}: {banner(self.engine, held)} ({held})"

    def allow(self, decision: Allow) -> Iterator[str]:
        yield from self._head("allowed", decision.path)
        held = self.q.holding.held_as or self.q.label.mark
        stamps = [self.q.label.mark, held, *(leg.mark for leg in decision.legs)]
        stamps = stamps[1:] if held == self.q.label.mark else stamps
        marks = " → ".join(banner(self.engine, mark) for mark in stamps)
        yield f"  {self._heading('path')}: {marks}"
        for leg in decision.legs:
            guard = self.engine.regime.agreements[leg.protected_by]
            yield (
                f"    {leg.sender} → {leg.receiver}: {self._heading('stamped')} "
                f"{banner(self.engine, leg.mark)} ({leg.mark}), {self._heading('protected')} "
                f"{guard.id} ({in_language(guard.title, self.language)})"
            )
        yield f"  {self._heading('articles')}:"
        for citation in decision.cites:
            yield f"    {citation}: {self._article(citation)}"
        yield f"  {self._heading('review')}:"
        if not decision.review:
            yield f"    {self._heading('no-review')}"
        for review in decision.review:
            yield "    " + self._heading("officers").format(
                party=review.party, count=review.officers
            )
        yield f"  {self._heading('duties')}:"
        if not decision.obligations:
            yield f"    {self._heading('none')}"
        for duty in decision.obligations:
            at_once = duty.duty == "report_compromise_within_h" and duty.value == 0
            phrase = DUTIES["report_compromise_at_once" if at_once else duty.duty]
            words = in_language(phrase, self.language).format(value=duty.value)
            yield f"    {duty.party}: {words} ({duty.cites})"

    def _article(self, citation: str) -> str:
        clause = self.engine.regime.clause(citation)
        words = "" if clause is None else in_language(clause.text, self.language)
        how = Citation.parse(citation).how
        return f"{words} [{self._heading(how)}]" if how else words

    def deny(self, deny: Deny) -> Iterator[str]:
        yield from self._head("refused", (self.q.holder, self.q.to))
        yield f"  {self._heading('why')}:"
        for reason in deny.reasons:
            yield f"    {self._reason(reason)}"
        yield f"  {self._heading('needs')}:"
        for need in needs(self.engine, self.q, deny, self.language):
            yield f"    {need}"

    def _reason(self, reason: Reason) -> str:
        words = self._fill(REASONS[reason.code], reason)
        derived = self.q.label.derived and reason.source
        where = f" ({self._heading('source')} {reason.source})" if derived else ""
        if reason.cites is None:
            return f"{reason.code}: {words}{where}"
        return f"{reason.code}: {words}{where}\n      {reason.cites}: {self._article(reason.cites)}"

    def need(self, reason: Reason) -> str:
        """What would change this reason, as one sentence."""
        return self._fill(NEEDS[reason.code], reason)

    def _fill(self, texts: Mapping[str, str], reason: Reason) -> str:
        template = in_language(texts, self.language)
        if "{" not in template:
            return template
        key = self._key(template, reason)
        cache = self.engine.sentences
        sentence = cache.get(key)
        if sentence is None:
            if len(cache) >= SENTENCES_MAX:
                cache.clear()
            sentence = cache[key] = self._filled(template, reason)
        return sentence

    def _key(self, template: str, reason: Reason) -> tuple[object, ...]:
        """All that the sentence depends on: what `_filled` reads, no more and no less."""
        label = self.q.label
        named = label.derived and reason.source
        return (
            template,
            reason.cites,
            named,
            named == label.id,  # the item's own list, which is no source
            next((s.originator for s in label.sources if s.item == named), label.maker),
            self.q.holder,
            self.q.to,
            label.kind,
            tuple(self._idle(reason)) if "{idle}" in template else (),
        )

    def _filled(self, template: str, reason: Reason) -> str:
        label = self.q.label
        source = next((s for s in label.sources if s.item == reason.source), None)
        others = label.derived and source is not None and source.item != SELF
        word, leave_out = WORDS["source" if others else "item"], WORDS["leave-out"]
        return template.format(
            originator=label.maker if source is None else source.originator,
            what=in_language(word, self.language).format(id=reason.source),
            leave_out=in_language(leave_out, self.language).format(id=reason.source)
            if others
            else "",
            holder=self.q.holder,
            to=self.q.to,
            kind=label.kind,
            cites=reason.cites,
            agreement=_agreement(reason.cites),
            covered=self._covered(reason),
            idle=", ".join(self._idle(reason)),
        )

    def _covered(self, reason: Reason) -> str:
        """What the clause names where the item fell outside it."""
        clause = self.engine.regime.clause(reason.cites) if reason.cites else None
        if clause is None or not isinstance(clause.body, Share | Onward):
            return ""
        scope = clause.body.scope
        names = {
            "outside-kind": scope.kinds,
            "outside-topic": scope.topics,
            "outside-subject": scope.about,
            "mark-not-covered": scope.marks,
        }.get(reason.code)
        return ", ".join(sorted(names or ()))

    def _idle(self, reason: Reason) -> list[str]:
        """The agreements that the clause needs, pillars counted, and that are not in force."""
        clause = self.engine.regime.clause(reason.cites) if reason.cites else None
        if clause is None or not isinstance(clause.body, Share | Onward):
            return []
        agreements = self.engine.regime.agreements
        waiting = [_agreement(reason.cites), *clause.body.protected_by.values()]
        needed: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += agreements[name].rests_on
        return sorted(name for name in needed if not self.engine.in_force(name, self.q.at))


def _agreement(citation: str | None) -> str:
    return "" if citation is None else Citation.parse(citation).agreement

"""A regime: agreements, schemes, vocabulary and timeline as they stand (DESIGN §2).

`check_regime` decodes the files of a folder and reports every error at once; `load_regime` is
for those who only want a sound regime. Reading the folder is an adapter's work.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from relto.agreements import Known, decode_agreement, is_agreement_id
from relto.canonical import digest as canonical_digest
from relto.clauses import Agreement, Citation, Clause, Equate, Onward, Share, leg_key
from relto.errors import RegimeError
from relto.marks import Mark, Scheme, decode_scheme
from relto.suspicions import suspicions
from relto.tables import Document, Problems, parse, quoted
from relto.timeline import Event, Timeline, decode_timeline, make_timeline
from relto.topics import Vocabulary, decode_vocabulary

__all__ = [
    "Regime",
    "as_if_in_force",
    "check_pillars",
    "check_protection",
    "check_regime",
    "closure",
    "decode_words",
    "load_regime",
    "parse_all",
    "pillars_of",
    "plain",
    "without_permissions",
]

FILES_MAX = 10_000


@dataclass(frozen=True)
class Regime:
    """The pact as data, sound and complete. `digest` names it: equal words, equal digest."""

    schemes: Mapping[str, Scheme]
    vocabulary: Vocabulary
    agreements: Mapping[str, Agreement]
    timeline: Timeline
    digest: str
    agreement_digests: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def marks(self) -> Mapping[str, Mark]:
        """Every mark by its name, such as `KOR:II`."""
        return {m.name: m for s in self.schemes.values() for m in s.marks}

    @cached_property
    def parties(self) -> frozenset[str]:
        return frozenset(self.schemes)

    @cached_property
    def _articles(self) -> Mapping[tuple[str, str], Clause]:
        return {
            (agreement.id, clause.article): clause
            for agreement in self.agreements.values()
            for clause in agreement.clauses
            if isinstance(clause.body, Share | Onward)
        }

    def knows_article(self, agreement: str, article: str) -> bool:
        """Whether the citation names a share or onward clause."""
        return (agreement, article) in self._articles

    def clause(self, citation: str) -> Clause | None:
        """The share or onward clause that a citation such as `tisa-2014/4` names.

        Citations of consents and of own information name the clause of their channel.
        """
        named = Citation.parse(citation)
        return self._articles.get((named.agreement, named.article))


def load_regime(files: Mapping[str, bytes]) -> Regime:
    """The regime in `files` (relative path -> bytes). Raises RegimeError with every error."""
    regime, problems = check_regime(files)
    if regime is None:
        raise RegimeError(tuple(problems.errors))
    return regime


def check_regime(
    files: Mapping[str, bytes], problems: Problems | None = None
) -> tuple[Regime | None, Problems]:
    """The regime, or None if there are errors; and everything found, errors and warnings.

    `problems` may already hold what the reader of the folder found.
    """
    problems = problems or Problems()
    documents = parse_all(files, problems)
    found_before = {p.file for p in problems.errors}
    names = sorted({*files, *found_before})
    schemes, broken, vocabulary = decode_words(documents, names, problems)

    ids = {stem for file in names if (stem := _stem(file, "agreements/")) is not None}
    if not ids:
        problems.error("agreements", 1, "no agreement; add one, such as agreements/tisa-2014.toml")
    known = Known(schemes, vocabulary, frozenset(ids), broken)
    agreements: dict[str, Agreement] = {}
    for agreement_id in sorted(ids):
        document = documents.get(f"agreements/{agreement_id}.toml")
        agreement = decode_agreement(document, agreement_id, known, problems) if document else None
        if agreement is not None:
            agreements[agreement_id] = agreement
    rests_on = check_pillars(agreements, documents, ids, problems)
    check_protection(agreements, documents, ids, problems)

    failed = frozenset(ids - agreements.keys())
    timeline = None
    if "timeline.toml" in documents or "timeline.toml" not in names:
        document = documents.get("timeline.toml")
        timeline = decode_timeline(document, rests_on, failed, problems)
    if problems.errors or vocabulary is None or timeline is None:
        return None, problems
    regime = Regime(
        schemes,
        vocabulary,
        agreements,
        timeline,
        _digest(documents),
        {a: canonical_digest(plain(documents[f"agreements/{a}.toml"].data)) for a in agreements},
    )
    for file, line, message in suspicions(schemes, vocabulary, agreements, timeline, documents):
        problems.warn(file, line, message)
    return regime, problems


def decode_words(
    documents: Mapping[str, Document], names: Iterable[str], problems: Problems
) -> tuple[dict[str, Scheme], frozenset[str], Vocabulary | None]:
    """What agreements speak of: schemes, parties whose scheme is in error, the vocabulary.

    `names` are all files of the folder, those among them that could not be read.
    """
    schemes: dict[str, Scheme] = {}
    broken: set[str] = set()
    for file in names:
        party = _stem(file, "schemes/")
        if party is None:
            continue
        document = documents.get(file)
        scheme = decode_scheme(document, party, problems) if document else None
        if scheme is None:
            broken.add(party)
        else:
            schemes[party] = scheme
    if not schemes and not broken:
        problems.error("schemes", 1, "no scheme; add one file a party, such as schemes/KOR.toml")
    vocabulary = None
    if "vocabulary.toml" in documents:
        vocabulary = decode_vocabulary(documents["vocabulary.toml"], problems)
    elif "vocabulary.toml" not in names:
        problems.error("vocabulary.toml", 1, "missing; add it with the keys topics and subjects")
    return schemes, frozenset(broken), vocabulary


def _stem(file: str, folder: str) -> str | None:
    if file.startswith(folder) and file.endswith(".toml"):
        return file[len(folder) : -len(".toml")]
    return None


def parse_all(files: Mapping[str, bytes], problems: Problems) -> dict[str, Document]:
    """The TOML files of a regime, parsed; a file that does not belong is an error or a warning."""
    if len(files) > FILES_MAX:
        problems.error("", 1, f"the folder holds more than {FILES_MAX} files; split the regime")
        return {}
    documents = {}
    for file in sorted(files):
        agreement = _stem(file, "agreements/")
        is_known = (
            file in ("vocabulary.toml", "timeline.toml")
            or _stem(file, "schemes/") is not None
            or agreement is not None
        )
        if agreement is not None and not is_agreement_id(agreement):
            problems.error(
                file,
                1,
                f"{quoted(agreement)} is no id of an agreement; use letters, "
                "digits, dots and hyphens in the file's name",
            )
        if is_known:
            document = parse(file, files[file], problems)
            if document is not None:
                documents[file] = document
        elif "/" in file or file.endswith(".toml"):
            problems.error(
                file,
                1,
                "no such file belongs to a regime; it has vocabulary.toml, timeline.toml, "
                "schemes/*.toml and agreements/*.toml: move it out of the folder",
            )
        else:
            problems.warn(file, 1, "is not part of the regime and was not read")
    return documents


def check_pillars(
    agreements: Mapping[str, Agreement],
    documents: Mapping[str, Document],
    ids: set[str],
    problems: Problems,
) -> dict[str, tuple[str, ...]]:
    """Report cycles of `rests_on`; returns it without what would make one."""
    rests_on = {a.id: a.rests_on for a in agreements.values()}
    sound: dict[str, tuple[str, ...]] = {}
    remaining = dict(rests_on)
    while remaining:
        ready = [a for a, pillars in remaining.items() if not any(p in remaining for p in pillars)]
        if not ready:
            break
        for a in ready:
            sound[a] = tuple(p for p in remaining.pop(a) if p in ids and p in rests_on)
    for a in sorted(remaining):
        if not _reaches_itself(a, rests_on):
            sound[a] = ()
            continue
        document = documents[f"agreements/{a}.toml"]
        problems.error(
            document.file,
            document.line(("rests_on",)),
            f"{a} rests on itself through {', '.join(p for p in rests_on[a] if p in remaining)}; "
            "break the circle",
        )
        sound[a] = ()
    return sound


def _reaches_itself(start: str, rests_on: Mapping[str, tuple[str, ...]]) -> bool:
    seen: set[str] = set()
    stack = list(rests_on[start])
    while stack:
        a = stack.pop()
        if a == start:
            return True
        if a not in seen:
            seen.add(a)
            stack.extend(rests_on.get(a, ()))
    return False


def check_protection(
    agreements: Mapping[str, Agreement],
    documents: Mapping[str, Document],
    ids: set[str],
    problems: Problems,
) -> None:
    """Each leg's protecting agreement is an agreement of both its ends."""
    for agreement in agreements.values():
        document = documents[agreement.file]
        for index, clause in enumerate(agreement.clauses):
            body = clause.body
            if not isinstance(body, Share | Onward):
                continue
            name = "share" if isinstance(body, Share) else "onward"
            for key, (a, b) in {leg_key(a, b): (a, b) for a, b in body.legs()}.items():
                protector = body.protected_by.get(key)
                guard = agreements.get(protector) if protector else None
                if guard is None or {a, b} <= guard.parties:
                    continue
                outside = sorted({a, b} - guard.parties)[0]
                problems.error(
                    document.file,
                    document.line(("clause", index, name, "protected_by", key)),
                    f"{quoted(protector)} protects {key}, but {outside} is no party of it; name an "
                    "agreement of both ends",
                )


def plain(value: Any) -> Any:
    """TOML data as JSON: instants become text in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def _digest(documents: Mapping[str, Document]) -> str:
    """SHA-256 of the canonical JSON of all files' data, by file name (docs/spec/regime.md)."""
    files = {file: plain(document.data) for file, document in documents.items()}
    return canonical_digest({"format": "relto-regime/1", "files": files})


def pillars_of(agreement: Agreement) -> tuple[str, ...]:
    """The other agreements that it rests on or is protected by, by their ids, sorted."""
    found = set(agreement.rests_on)
    for clause in agreement.clauses:
        if isinstance(clause.body, Share | Onward):
            found.update(clause.body.protected_by.values())
    return tuple(sorted(found - {agreement.id}))


def closure(regime: Regime, party: str) -> Regime:
    """What a node of `party` knows of the regime (DESIGN §6).

    Its own agreements in full; of those that underlie or protect them, where it is no party, an
    extract: parties, state and `equate` rows. Schemes and vocabulary are everyone's.
    """
    kept = {a.id: a for a in regime.agreements.values() if party in a.parties}
    waiting = list(kept.values())
    while waiting:
        for name in pillars_of(waiting.pop()):
            if name not in kept:
                extract = without_permissions(regime.agreements[name])
                kept[name] = extract
                waiting.append(extract)
    rests_on = {a.id: a.rests_on for a in kept.values()}
    events = [e for e in regime.timeline.events if e.agreement in kept]
    timeline, _ = make_timeline(events, rests_on)
    return replace(
        regime,
        agreements=kept,
        timeline=timeline,
        agreement_digests={a: regime.agreement_digests[a] for a in kept},
    )


def as_if_in_force(regime: Regime, agreement: Agreement, at: datetime) -> Regime:
    """The regime as it would be were `agreement` in force from `at` on, in the place of what has
    its id. It has no digest, since it is nobody's regime."""
    agreements = {**regime.agreements, agreement.id: agreement}
    rests_on = {a.id: a.rests_on for a in agreements.values()}
    others = [e for e in regime.timeline.events if e.agreement != agreement.id]
    timeline, _ = make_timeline([*others, Event(agreement.id, at, "in-force")], rests_on)
    return replace(regime, agreements=agreements, timeline=timeline, digest="")


def without_permissions(agreement: Agreement) -> Agreement:
    """What others than its parties know of an agreement: of its clauses, the equal marks."""
    rows = tuple(c for c in agreement.clauses if isinstance(c.body, Equate))
    return replace(agreement, clauses=rows)

"""A regime that was signed: its agreements are instruments, and their lives are its timeline.

The folder has `signed/<id>.json` for each agreement: whole where we are a party, a pillar where we
are not and our own stand on it. Agreements as TOML beside them are drafts, and permit nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from relto import canonical
from relto.agreements import Known, decode_agreement
from relto.clauses import Agreement, Onward, Share
from relto.errors import CallerError, PeerError, RegimeError
from relto.instruments import (
    Checked,
    Instrument,
    Paper,
    Pillar,
    check_instrument,
    check_pillar,
    decode_held,
)
from relto.lives import events_of
from relto.marks import Scheme
from relto.regime import (
    Regime,
    check_pillars,
    check_protection,
    check_regime,
    decode_words,
    parse_all,
    pillars_of,
    plain,
)
from relto.tables import Document, Problems, quoted
from relto.terms import Terms, Words, data_of, decode_extract, document_of
from relto.timeline import make_timeline
from relto.topics import Vocabulary

__all__ = [
    "FOLDER",
    "check_folder",
    "draft_terms",
    "file_of",
    "load_folder",
    "words_of",
]

FOLDER = "signed/"
_FORMAT = "relto-signed-regime/1"


def load_folder(files: Mapping[str, bytes], problems: Problems | None = None) -> Regime:
    """The regime in a folder's files, drafted or signed. Raises RegimeError with every error."""
    regime, found = check_folder(files, problems)
    if regime is None:
        raise RegimeError(tuple(found.errors))
    return regime


def check_folder(
    files: Mapping[str, bytes], problems: Problems | None = None
) -> tuple[Regime | None, Problems]:
    """The regime, or None if there are errors; and everything found, errors and warnings."""
    if any(file.startswith(FOLDER) for file in files):
        return _Signed(files, problems or Problems()).run()
    return check_regime(files, problems)


def file_of(agreement: str) -> str:
    """Where the folder has a signed agreement."""
    return f"{FOLDER}{agreement}.json"


def words_of(files: Mapping[str, bytes]) -> Words:
    """What terms may speak of in this folder. Raises RegimeError with every error."""
    return Words.of(files, load_folder(files))


def draft_terms(files: Mapping[str, bytes], agreement: str) -> Terms:
    """The terms of an agreement of the regime in `files` (relative path -> bytes).

    Raises RegimeError with every error of the regime, CallerError where it has no such agreement,
    or where the agreement states no fingerprints, without which no signature can be checked.
    """
    regime = load_folder(files)
    drafts = {name for name in regime.agreements if f"agreements/{name}.toml" in files}
    if agreement not in drafts:
        names = ", ".join(sorted(drafts)) or "none"
        raise CallerError(f"no draft of {quoted(agreement)} in this regime; there are {names}")
    found = regime.agreements[agreement]
    if not found.ca:
        raise CallerError(
            f"{agreement} states no fingerprints of its parties' CAs, so nobody could check who "
            "signs it; add ca to its file (relto keys show prints them)"
        )
    words = Words.of(files, regime)
    return Terms(
        data_of(files, found.file),
        words.vocabulary_digest,
        {party: words.scheme_digests[party] for party in sorted(_parties_named(found, regime))},
        {pillar: words.extract_digests[pillar] for pillar in pillars_of(found)},
    )


def _parties_named(agreement: Agreement, regime: Regime) -> set[str]:
    """Its parties, and those whose marks or receiving its clauses speak of."""
    found = set(agreement.parties)
    for clause in agreement.clauses:
        body = clause.body
        if isinstance(body, Onward):
            found |= body.to
        if isinstance(body, Share | Onward):
            found.update(regime.marks[mark].party for mark in body.scope.marks or ())
    return found


@dataclass(frozen=True, slots=True)
class _Held:
    """An agreement of the folder: what says so, and what it says."""

    file: str
    held: Paper | None  # None: a draft
    agreement: Agreement


class _Signed:
    def __init__(self, files: Mapping[str, bytes], problems: Problems) -> None:
        self.files = files
        self.problems = problems
        self.documents: dict[str, Document] = {}

    def run(self) -> tuple[Regime | None, Problems]:
        problems = self.problems
        toml = {f: data for f, data in self.files.items() if not f.startswith(FOLDER)}
        self.documents = parse_all(toml, problems)
        if "timeline.toml" in toml:
            problems.error(
                "timeline.toml",
                1,
                "stands beside signed agreements, whose own records say when they are in force; "
                "move it out of the folder",
            )
        names = sorted({*toml, *(p.file for p in problems.errors)})
        schemes, broken, vocabulary = decode_words(self.documents, names, problems)
        held = self._decoded()
        if problems.errors or vocabulary is None:
            return None, problems
        agreements = self._agreements(held, Known(schemes, vocabulary, frozenset(), broken))
        if problems.errors:
            return None, problems
        return self._regime(agreements, schemes, vocabulary), problems

    def _decoded(self) -> dict[str, tuple[str, Paper]]:
        """What the files hold, by agreement."""
        found: dict[str, tuple[str, Paper]] = {}
        for file in sorted(f for f in self.files if f.startswith(FOLDER)):
            data = self.files[file]
            try:
                held = decode_held(data)
            except PeerError as e:
                self.problems.error(file, 1, f"is no signed agreement: {e}")
                continue
            if file != file_of(held.id):
                self.problems.error(file, 1, f'is of {held.id}; name the file "{held.id}.json"')
            elif f"agreements/{held.id}.toml" in self.documents:
                self.problems.error(file, 1, "stands beside a draft of the same id; keep one")
            found[held.id] = (file, held)
        return found

    def _agreements(self, held: Mapping[str, tuple[str, Paper]], words: Known) -> dict[str, _Held]:
        """Every agreement of the folder, drafts too, decoded and checked against each other."""
        drafts = {
            file.removeprefix("agreements/").removesuffix(".toml"): document
            for file, document in self.documents.items()
            if file.startswith("agreements/")
        }
        names = frozenset({*held, *drafts})
        known = Known(words.schemes, words.vocabulary, names, words.broken)
        found: dict[str, _Held] = {}
        for name in sorted(names):
            if name in drafts:
                draft = decode_agreement(drafts[name], name, known, self.problems)
                if draft is not None:
                    found[name] = _Held(f"agreements/{name}.toml", None, draft)
                continue
            file, holding = held[name]
            agreement = self._agreement(file, holding, known)
            if agreement is not None:
                found[name] = _Held(file, holding, agreement)
        agreements = {name: each.agreement for name, each in found.items()}
        places = {
            f"agreements/{name}.toml": drafts.get(name) or Document(each.file, {}, {})
            for name, each in found.items()
        }
        check_pillars(agreements, places, set(names), self.problems)
        check_protection(agreements, places, set(names), self.problems)
        return found

    def _agreement(self, file: str, held: Paper, known: Known) -> Agreement | None:
        try:
            if isinstance(held, Instrument):
                document = document_of(held.terms, file)
                return decode_agreement(document, held.terms.id, known, self.problems)
            assert known.vocabulary is not None  # noqa: S101  # else nothing is decoded
            return decode_extract(held.extract, known.schemes, known.vocabulary, known.agreements)
        except PeerError as e:
            self.problems.error(file, 1, str(e))
            return None

    def _regime(
        self, held: Mapping[str, _Held], schemes: Mapping[str, Scheme], vocabulary: Vocabulary
    ) -> Regime | None:
        agreements = {name: each.agreement for name, each in held.items()}
        words = Words.among(self.files, schemes, vocabulary, agreements)
        self._check_pinned(held, words)
        checked = {name: self._checked(each, words) for name, each in held.items()}
        if len({each.exercise for each in checked.values() if each is not None}) > 1:
            self.problems.error(
                FOLDER.rstrip("/"), 1, "an exercise's agreements stand beside real ones; part them"
            )
        if self.problems.errors:
            return None
        events = [
            event for each in checked.values() if each is not None for event in events_of(each.life)
        ]
        rests_on = {a.id: a.rests_on for a in agreements.values()}
        timeline, _ = make_timeline(events, rests_on)
        states = {name: self._state(each, checked[name]) for name, each in held.items()}
        digest = canonical.digest(
            {
                "format": _FORMAT,
                "vocabulary": words.vocabulary_digest,
                "schemes": dict(words.scheme_digests),
                "agreements": states,
            }
        )
        digests = {name: state["terms"] for name, state in states.items()}
        return Regime(schemes, vocabulary, agreements, timeline, digest, digests)

    def _check_pinned(self, held: Mapping[str, _Held], words: Words) -> None:
        """Of an agreement that we are not in, only that extract is believed that others pin."""
        pinned: set[tuple[str, object]] = set()
        for each in held.values():
            if isinstance(each.held, Instrument):
                pinned.update(each.held.terms.pillars.items())
            elif isinstance(each.held, Pillar):
                pinned.update(each.held.extract["rests_on"].items())
        for name, each in held.items():
            is_pillar = isinstance(each.held, Pillar)
            if is_pillar and (name, words.extract_digests[name]) not in pinned:
                self.problems.error(
                    each.file, 1, "nothing signed here pins this extract; take it out of the folder"
                )

    def _checked(self, each: _Held, words: Words) -> Checked | None:
        try:
            if isinstance(each.held, Instrument):
                return check_instrument(each.held, words)
            if isinstance(each.held, Pillar):
                return check_pillar(each.held, words)
        except PeerError as e:
            self.problems.error(each.file, 1, str(e))
        return None

    def _state(self, each: _Held, checked: Checked | None) -> dict[str, str]:
        """What names an agreement and how far its life has come."""
        if checked is None or each.held is None:
            data = self.documents[each.file].data
            return {"terms": canonical.digest(plain(data))}
        deposits = each.held.deposits
        last = {"deposit": deposits[-1].record_id} if deposits else {}
        return {"terms": checked.digest, **last}

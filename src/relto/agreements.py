"""Decodes an agreement: a signed document of clauses, each with its article (DESIGN §2)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relto.clauses import (
    Agreement,
    Clause,
    Equate,
    Lasting,
    Onward,
    Protect,
    Scope,
    Share,
    Signatory,
    leg_key,
)
from relto.instants import instant
from relto.labels import KINDS
from relto.marks import Mark, Scheme
from relto.tables import Document, Problems, Table, quoted
from relto.topics import Vocabulary

__all__ = ["Known", "decode_agreement", "is_agreement_id"]

FORMAT = "relto-agreement/1"
AGREEMENT_KINDS = ("agreement", "arrangement")
CLAUSES_MAX = 512
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ARTICLE = re.compile(r"[^\s/](?:[^/]{0,62}[^\s/])?\Z")
BEGINNINGS = ("signature", "copies", "notifications", "date")
NOTICE_DAYS_MAX = 3_660
TERM_MONTHS_MAX = 1_200
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}\Z")


def is_agreement_id(text: str) -> bool:
    return _ID.match(text) is not None


@dataclass(frozen=True, slots=True)
class Known:
    """The words that clauses may use. What failed to load is `broken`, and not reported twice."""

    schemes: Mapping[str, Scheme]
    vocabulary: Vocabulary | None
    agreements: frozenset[str]
    broken: frozenset[str]


def decode_agreement(
    document: Document, agreement: str, known: Known, problems: Problems
) -> Agreement | None:
    """The agreement in `agreements/<id>.toml`, or None with its errors reported."""
    return _Decoder(document, agreement, known, problems).run()


class _Decoder:
    def __init__(
        self, document: Document, agreement: str, known: Known, problems: Problems
    ) -> None:
        self.top = Table(document, (), document.data, problems)
        self.document = document
        self.id = agreement
        self.known = known
        self.problems = problems
        self.parties: frozenset[str] = frozenset()
        self.articles: set[str] = set()
        self.rows: list[tuple[Mapping[str, tuple[Mark, ...]], Table, int]] = []

    def run(self) -> Agreement | None:
        errors_before = len(self.problems.errors)
        top = self.top
        top.only(
            *("format", "id", "kind", "parties", "depositary", "rests_on", "title", "ca"),
            *("supersedes", "life", "signatories", "clause"),
        )
        top.take_choice("format", [FORMAT])
        stated = top.take_text("id", f'the id that the file is named after, "{self.id}"')
        if stated is not None and stated != self.id:
            top.error("id", f'id = {quoted(stated)} but the file is named "{self.id}.toml"')
        kind = top.take_choice("kind", AGREEMENT_KINDS)
        self.parties = self._parties("parties", top, required=True)
        depositary = top.take_text("depositary", "a party of the agreement")
        if depositary is not None and self.parties and depositary not in self.parties:
            self._not_a_party(top, "depositary", depositary)
        rests_on = top.take_names("rests_on", "agreements") or ()
        for index, pillar in enumerate(rests_on):
            self._agreement_id(top, "rests_on", pillar, index=index)
        title = top.take_texts("title")
        ca = self._ca()
        supersedes = top.take_text(
            "supersedes",
            "the digest of the terms that these take the place of, 64 hexadecimal digits",
            accept=lambda v: bool(_DIGEST.match(v)),
            required=False,
        )
        lasting = self._lasting()
        signatories = self._signatories()
        tables = top.tables("clause", required=True, what="[[clause]] tables")
        if len(tables) > CLAUSES_MAX:
            top.error("clause", f"more than {CLAUSES_MAX} clauses; split the agreement")
        clauses = [self._clause(table) for table in tables[:CLAUSES_MAX]]
        self._check_rows()
        if len(self.problems.errors) > errors_before or kind is None or depositary is None:
            return None
        return Agreement(
            self.id,
            kind,
            self.parties,
            depositary,
            rests_on,
            title,
            ca,
            tuple(clause for clause in clauses if clause is not None),
            lasting,
            signatories,
            supersedes or "",
        )

    # names

    def _party_exists(self, table: Table, key: str, party: str, index: int | None) -> bool:
        if party in self.known.schemes or party in self.known.broken:
            return True
        names = ", ".join(sorted(self.known.schemes)) or "none"
        table.error(
            key,
            f"unknown party {quoted(party)} in {key}; parties with a scheme are {names}",
            index=index,
        )
        return False

    def _not_a_party(self, table: Table, key: str, party: str, index: int | None = None) -> None:
        names = ", ".join(sorted(self.parties))
        table.error(
            key,
            f"{quoted(party)} in {key} is no party of {self.id}; its parties are {names}",
            index=index,
        )

    def _parties(
        self, key: str, table: Table, *, required: bool, of_agreement: bool = False
    ) -> frozenset[str]:
        names = table.take_names(key, "parties", required=required) or ()
        for index, name in enumerate(names):
            if (
                self._party_exists(table, key, name, index)
                and of_agreement
                and self.parties
                and name not in self.parties
            ):
                self._not_a_party(table, key, name, index)
        return frozenset(names)

    def _agreement_id(self, table: Table, key: str, name: str, index: int | None = None) -> None:
        if name == self.id:
            table.error(key, f"{quoted(name)} in {key} is this agreement itself", index=index)
        elif name not in self.known.agreements:
            names = ", ".join(sorted(self.known.agreements))
            table.error(
                key, f"unknown agreement {quoted(name)} in {key}; there are {names}", index=index
            )

    def _mark(self, table: Table, key: str, name: str, index: int | None = None) -> Mark | None:
        party, colon, code = name.partition(":")
        if not colon:
            table.error(key, f"{quoted(name)} in {key} is no mark such as KOR:II", index=index)
            return None
        if not self._party_exists(table, key, party, index) or party in self.known.broken:
            return None
        return self._code(table, key, party, code, index)

    def _code(
        self, table: Table, key: str, party: str, code: str, index: int | None = None
    ) -> Mark | None:
        marks = self.known.schemes[party].marks
        for mark in marks:
            if mark.code == code:
                return mark
        names = ", ".join(m.name for m in marks)
        table.error(
            key,
            f"unknown mark {quoted(f'{party}:{code}')} in {key}; {party} has {names}",
            index=index,
        )
        return None

    def _ca(self) -> dict[str, str]:
        if "ca" not in self.top.data:
            return {}
        table = self.top.table("ca")
        if not isinstance(self.top.data["ca"], dict):
            return {}
        found = {}
        for party in table.data:
            if party not in self.parties:
                self._not_a_party(table, party, party)
            value = table.take_text(
                party,
                'a fingerprint such as "sha256:" and 64 hexadecimal digits',
                accept=lambda v: bool(_FINGERPRINT.match(v)),
            )
            if value is not None:
                found[party] = value
        for party in sorted(self.parties - table.data.keys()):
            table.error(
                None, f"ca has no fingerprint for {party}; add it, or leave ca out of a draft"
            )
        return found

    def _lasting(self) -> Lasting:
        """How it begins and ends: with the last signature, and by notice, if it does not say."""
        if "life" not in self.top.data:
            return Lasting()
        table = self.top.table("life")
        if not isinstance(self.top.data["life"], dict):
            return Lasting()
        table.only("begins", "begins_at", "notice_days", "term_months", "renews")
        begins = table.take_choice("begins", BEGINNINGS)
        is_dated = begins == "date"
        begins_at = table.take_instant("begins_at", required=is_dated)
        if begins is not None and not is_dated and "begins_at" in table.data:
            table.error(
                "begins_at", f'begins_at stands beside {quoted(begins)}; only "date" has it'
            )
        notice_days = table.take_number(
            "notice_days", f"a number of days, 0 to {NOTICE_DAYS_MAX}", 0, NOTICE_DAYS_MAX
        )
        term_months = table.take_number(
            "term_months", f"a number of months, 1 to {TERM_MONTHS_MAX}", 1, TERM_MONTHS_MAX
        )
        renews = table.take_bool("renews", default=False)
        if renews and term_months is None and "term_months" not in table.data:
            table.error("renews", "renews = true needs term_months, the months of a term")
        return Lasting(
            begins or BEGINNINGS[0],
            "" if begins_at is None else instant(begins_at),
            notice_days or 0,
            term_months,
            bool(renews),
        )

    def _signatories(self) -> dict[str, Signatory]:
        if "signatories" not in self.top.data:
            return {}
        table = self.top.table("signatories")
        found = {}
        for party in table.data:
            if party not in self.parties:
                self._not_a_party(table, party, party)
            inner = table.table(party)
            inner.only("name", "office")
            found[party] = Signatory(inner.take_texts("name"), inner.take_texts("office"))
        absent = ", ".join(sorted(self.parties - table.data.keys()))
        if found and absent:
            table.error(None, f"signatories has nobody for {absent}; add them, or leave all out")
        return found

    # clauses

    def _clause(self, table: Table) -> Clause | None:
        bodies = ("share", "onward", "equate", "protect")
        table.only("article", "text", *bodies)
        article = table.take_text(
            "article",
            'an article such as "4" or "4(2)", without a slash',
            accept=lambda a: bool(_ARTICLE.match(a)),
        )
        words = table.take_texts("text")
        present = [name for name in bodies if name in table.data]
        if len(present) != 1:
            found = ", ".join(present) or "none"
            table.error(None, f"a clause has exactly one of {', '.join(bodies)}; this has {found}")
            return None
        inner = table.table(present[0])
        body: Share | Onward | Equate | Protect
        if present[0] == "share":
            body = self._share(inner)
        elif present[0] == "onward":
            body = self._onward(inner)
        elif present[0] == "equate":
            body = self._equate(inner)
        else:
            body = self._protect(inner)
        if article is None:
            return None
        if present[0] in ("share", "onward"):
            if article in self.articles:
                table.error(
                    "article",
                    f"article {quoted(article)} stands twice among the share and onward clauses; "
                    "give one another number",
                )
            self.articles.add(article)
        return Clause(article, words, body, table.line)

    def _scope(self, table: Table) -> Scope:
        vocabulary = self.known.vocabulary
        about = table.take_names("about", "subjects")
        topics = table.take_names("topics", "topics")
        kinds = table.take_names("kinds", "kinds")
        marks = table.take_names("marks", "marks")
        lists: list[tuple[str, tuple[str, ...] | None, Mapping[str, int] | None]] = [
            ("about", about, vocabulary.subject_bits if vocabulary else None),
            ("topics", topics, vocabulary.topic_bits if vocabulary else None),
            ("kinds", kinds, dict.fromkeys(KINDS, 1)),
        ]
        for key, names, allowed in lists:
            for index, name in enumerate(names or ()):
                if allowed is not None and name not in allowed:
                    noun = {"about": "subject", "topics": "topic", "kinds": "kind"}[key]
                    where = ", ".join(KINDS) if key == "kinds" else "those in vocabulary.toml"
                    table.error(
                        key, f"unknown {noun} {quoted(name)} in {key}; use {where}", index=index
                    )
        for index, name in enumerate(marks or ()):
            self._mark(table, "marks", name, index)
        return Scope(
            None if about is None else frozenset(about),
            None if topics is None else frozenset(topics),
            None if kinds is None else frozenset(kinds),
            None if marks is None else frozenset(marks),
        )

    def _protected_by(
        self, table: Table, legs: Iterator[tuple[str, str]], *, known: bool, need_outside: bool
    ) -> dict[str, str]:
        """`known` is false where the clause's parties are in error, and so its legs too."""
        named = {leg_key(a, b): (a, b) for a, b in legs}
        found = {}
        if "protected_by" in table.data:
            inner = table.table("protected_by")
            for key in inner.data:
                agreement = inner.take_text(key, "the id of an agreement")
                if not named and not known:
                    continue
                if key not in named:
                    legs_text = ", ".join(sorted(named)) or "none"
                    inner.error(
                        key,
                        f"{quoted(key)} is no leg that the clause can take; its legs, ends in "
                        f"alphabetical order, are {legs_text}",
                    )
                elif agreement is not None:
                    if agreement != self.id:
                        self._agreement_id(inner, key, agreement)
                    found[key] = agreement
        if need_outside:
            for key, (a, b) in sorted(named.items()):
                if key not in found and not {a, b} <= self.parties:
                    outside = b if b not in self.parties else a
                    table.error(
                        None,
                        f"{outside} is no party of {self.id}, so leg {key} needs an agreement of "
                        "both ends in protected_by",
                    )
        return found

    def _share(self, table: Table) -> Share:
        table.only(
            "from",
            "to",
            "via",
            "via_reads",
            "protected_by",
            "about",
            "topics",
            "kinds",
            "marks",
            "consent",
            "release",
        )
        senders = self._parties("from", table, required=True, of_agreement=True)
        to = self._parties("to", table, required=True, of_agreement=True)
        via = table.take_text("via", "the hub, a party of the agreement", required=False)
        if via is not None and self.parties and via not in self.parties:
            self._not_a_party(table, "via", via)
        via_reads = table.take_bool("via_reads", default=True)
        if "via_reads" in table.data and via is None:
            table.error("via_reads", "via_reads stands without via; name the hub or leave it out")
        share = Share(
            senders,
            to,
            via,
            bool(via_reads),
            {},
            self._scope(table),
            table.take_choice("consent", ["label", "item"]) or "item",
            table.take_choice("release", ["review", "automatic"]) or "review",
        )
        protected = self._protected_by(
            table, share.legs(), known=bool(senders and to), need_outside=False
        )
        return Share(
            senders, to, via, share.via_reads, protected, share.scope, share.consent, share.release
        )

    def _onward(self, table: Table) -> Onward:
        table.only(
            "by", "to", "protected_by", "about", "topics", "kinds", "marks", "consent", "release"
        )
        by = self._parties("by", table, required=True, of_agreement=True)
        to = self._parties("to", table, required=True)
        legs = iter(sorted((a, b) for a in by for b in to if a != b))
        return Onward(
            by,
            to,
            self._protected_by(table, legs, known=bool(by and to), need_outside=True),
            self._scope(table),
            table.take_choice("consent", ["label", "item"]) or "item",
            table.take_choice("release", ["review", "automatic"]) or "review",
        )

    def _equate(self, table: Table) -> Equate:
        table.only("rows")
        value = table.data.get("rows")
        if not isinstance(value, list) or not value:
            table.error(
                "rows" if "rows" in table.data else None,
                'rows is not a list of rows such as { KOR = ["II"], USA = ["S"] }; add them',
            )
            return Equate(())
        rows = []
        for index, entry in enumerate(value):
            inner = Table(self.document, (*table.path, "rows", index), entry, self.problems)
            row: dict[str, tuple[Mark, ...]] = {}
            for party in inner.data:
                codes = inner.take_names(party, "codes of marks") or ()
                if not self._party_exists(inner, party, party, None):
                    continue
                if self.parties and party not in self.parties:
                    self._not_a_party(inner, party, party)
                    continue
                if party in self.known.broken:
                    continue
                marks = [self._code(inner, party, party, code) for code in codes]
                row[party] = tuple(mark for mark in marks if mark is not None)
            if isinstance(entry, dict) and len(entry) < 2:
                inner.error(None, "a row needs marks of at least two parties; add the other's")
            rows.append(row)
            self.rows.append((row, inner, len(self.rows)))
        return Equate(tuple(rows))

    def _check_rows(self) -> None:
        """A mark in at most one row for a pair of parties; no two rows in opposite orders.

        Rows of all equate clauses of the agreement count together.
        """
        by_pair: dict[tuple[str, str], list[tuple[tuple[Mark, ...], tuple[Mark, ...], Table]]] = {}
        for row, table, _ in self.rows:
            names = sorted(row)
            for i, a in enumerate(names):
                for b in names[i + 1 :]:
                    by_pair.setdefault((a, b), []).append((row[a], row[b], table))
        for (a, b), entries in by_pair.items():
            seen: dict[str, int] = {}
            ordered = []  # rows that repeat no mark, so no more than there are marks
            for marks_a, marks_b, table in entries:
                repeated = [mark.name for mark in (*marks_a, *marks_b) if mark.name in seen]
                for name in repeated:
                    table.error(
                        None,
                        f"{quoted(name)} already stands in the row for {a} and {b} at "
                        f"line {seen[name]}; a mark has at most one row for a pair",
                    )
                if marks_a and marks_b and not repeated:
                    ordered.append((marks_a, marks_b, table))
                for mark in (*marks_a, *marks_b):
                    seen.setdefault(mark.name, table.line)
            self._check_order(a, b, ordered)

    def _check_order(
        self, a: str, b: str, entries: list[tuple[tuple[Mark, ...], tuple[Mark, ...], Table]]
    ) -> None:
        for number, (these_a, these_b, table) in enumerate(entries):
            for other_a, other_b, other in entries[:number]:
                differences_a = [x.rank - y.rank for x in these_a for y in other_a]
                differences_b = [x.rank - y.rank for x in these_b for y in other_b]
                if any(p * q < 0 for p in differences_a for q in differences_b):
                    table.error(
                        None,
                        f"this row and the one at line {other.line} order the marks of {a} and "
                        f"{b} in opposite ways; correct one of them",
                    )

    def _protect(self, table: Table) -> Protect:
        table.only(
            "receipt_within_h",
            "return_or_destroy",
            "report_compromise_within_h",
            "two_person_from",
        )
        if not table.data:
            table.error(None, "a protect clause names at least one duty; add one")
        marks = table.take_names("two_person_from", "marks") or ()
        for index, name in enumerate(marks):
            mark = self._mark(table, "two_person_from", name, index)
            if mark is not None and self.parties and mark.party not in self.parties:
                self._not_a_party(table, "two_person_from", mark.party, index)
        return Protect(
            table.take_hours("receipt_within_h"),
            bool(table.take_bool("return_or_destroy", default=False)),
            table.take_hours("report_compromise_within_h"),
            marks,
        )

"""Loading a regime: every rule with its error, warnings on both sides, digests and closures."""
# ruff: noqa: E501  # a case a line

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pact_checks import asked
from regime_texts import FILES, JP_US, JPN, KO_US, KOR, PACT, TIMELINE, WORDS, files
from relto.clauses import Equate
from relto.decisions import Allow, Deny, Engine
from relto.errors import CallerError, QuestionError, RegimeError
from relto.questions import decode_question
from relto.regime import Regime, check_regime, closure, load_regime
from relto.stores.folder import read_folder
from relto.tables import FILE_BYTES_MAX, Problem
from strategies import random_regime, regime_files

SEEDS = st.integers(0, 2**32 - 1)
ROOT = Path(__file__).parent.parent


def sound(*changes: tuple[str, str, str]) -> Regime:
    return load_regime(files(*changes))


def errors(texts: dict[str, bytes]) -> list[Problem]:
    regime, problems = check_regime(texts)
    assert (regime is None) == bool(problems.errors)
    return problems.errors


def warnings(*changes: tuple[str, str, str]) -> list[str]:
    regime, problems = check_regime(files(*changes))
    assert regime is not None, problems.errors
    return [str(p) for p in problems.warnings]


def test_the_small_regime_is_sound_and_nothing_in_it_is_suspicious() -> None:
    regime = sound()
    assert warnings() == []
    assert regime.parties == {"AUS", "JPN", "KOR", "USA"}
    assert [m.rank for m in regime.schemes["JPN"].marks] == [0, 0, 1]
    assert set(regime.vocabulary.topic_bits) == {"missile", "missile.launch", "cyber"}
    assert regime.agreements["pact"].rests_on == ("ko-us", "jp-us")


# One change, one error: (what, file, old, new, line, part of the message)

INVALID: list[tuple[str, str, str, str, int, str]] = [
    # schemes
    ("unknown key", KOR, 'party = "KOR"', 'party = "KOR"\nnote = 1', 2, 'unknown key "note"'),
    ("no party", KOR, 'party = "KOR"\n', "", 1, 'missing key "party"; add'),
    ("another party", KOR, '"KOR"', '"PRK"', 1, '"PRK" but the file is named "KOR.toml"'),
    ("party no text", KOR, '"KOR"', "7", 1, "party = 7 is not"),
    ("no name", KOR, 'name = { en = "Korea", ko = "대한민국" }\n', "", 1, 'missing key "name"'),
    ("name in no language", KOR, '{ en = "Korea", ko = "대한민국" }', "{}", 2, "name has no language"),
    ("name no table", KOR, '{ en = "Korea", ko = "대한민국" }', '"Korea"', 2, 'name = "Korea" is not'),
    ("no language code", KOR, "en = ", "e1 = ", 2, '"e1" is not a language code'),
    ("blank name", KOR, '"Korea"', '"  "', 2, 'name.en = "  " is not text'),
    ("name no text", KOR, '"Korea"', "3", 2, "name.en = 3 is not text"),
    ("mark unknown key", KOR, 'code = "II"', 'code = "II"\nrank = 2', 8, 'unknown key "rank"'),
    ("mark without code", KOR, 'code = "III"\n', "", 9, 'missing key "code"'),
    ("mark no code", KOR, '"III"', '"I I"', 10, 'code = "I I" is not a mark\'s code'),
    ("mark with a colon", KOR, '"III"', '"KOR:III"', 10, 'code = "KOR:III" is not'),
    ("mark twice", KOR, '"III"', '"I"', 10, 'mark "I" stands twice'),
    ("mark twice but for case", KOR, '"III"', '"i"', 10, 'mark "i" stands twice'),
    ("mark without banner", KOR, 'banner = { ko = "군사III급비밀", en = "THREE" }\n', "", 9, "banner"),
    ("banner in no language", KOR, '{ ko = "군사III급비밀", en = "THREE" }', "{}", 11, "no language"),
    ("beside nothing", JPN, 'beside = "GOKUHI"', 'beside = "XX"', 8, 'beside = "XX" is not an earlier'),
    ("beside a later", JPN, 'beside = "GOKUHI"', 'beside = "HI"', 8, 'beside = "HI" is not an earlier'),
    ("beside itself", JPN, 'beside = "GOKUHI"', 'beside = "TOKUTEI"', 8, '"TOKUTEI" is not an earlier'),
    ("beside one beside", JPN, 'code = "HI"', 'code = "HI"\nbeside = "TOKUTEI"', 12, "itself stands on"),
    # vocabulary
    ("words unknown key", WORDS, "subjects", "kinds = []\nsubjects", 5, 'unknown key "kinds"'),
    ("no subjects", WORDS, 'subjects = ["PRK", "IRN"]', "", 1, 'missing key "subjects"'),
    ("topics no list", WORDS, 'subjects = ["PRK", "IRN"]', 'subjects = "PRK"', 5, '"PRK" is not a list'),
    ("topic twice", WORDS, '"cyber"', '"missile.launch"', 3, '"missile.launch" stands twice'),
    ("topic no text", WORDS, '"cyber"', "5", 3, "5 in topics is not text"),
    ("topic with empty part", WORDS, '"cyber"', '"cyber..x"', 3, '"cyber..x" is not a dotted name'),
    ("topic with a space", WORDS, '"cyber"', '"cy ber"', 3, '"cy ber" is not a dotted name'),
    ("topic too deep", WORDS, '"cyber"', '"a.b.c.d.e.f.g.h.i"', 3, "is not a dotted name"),
    ("subject no code", WORDS, '"IRN"', '"I/N"', 5, '"I/N" is not a code such as PRK'),
    # the frame of an agreement
    ("unknown key", PACT, "rests_on", "rest_on", 6, 'unknown key "rest_on"; the keys here are format'),
    ("another format", PACT, "agreement/1", "agreement/2", 1, '"relto-agreement/2" is not "relto-agreement/1"'),
    ("no format", PACT, 'format = "relto-agreement/1"\n', "", 1, 'missing key "format"'),
    ("another id", PACT, 'id = "pact"', 'id = "act"', 2, 'id = "act" but the file is named "pact.toml"'),
    ("another kind", PACT, '"arrangement"', '"treaty"', 3, '"treaty" is not "agreement" or "arrangement"'),
    ("empty rests_on", PACT, 'rests_on = ["ko-us", "jp-us"]', "rests_on = []", 6, "rests_on is an empty list"),
    ("rests on itself", PACT, '["ko-us", "jp-us"]', '["pact"]', 6, '"pact" in rests_on is this agreement itself'),
    ("rests on nothing", PACT, '["ko-us", "jp-us"]', '["ko-us", "xx"]', 6, 'unknown agreement "xx" in rests_on; there are au-us, jp-us, ko-us, pact'),
    ("rests on one twice", PACT, '["ko-us", "jp-us"]', '["ko-us", "ko-us"]', 6, '"ko-us" stands twice'),
    ("rests on a number", PACT, '["ko-us", "jp-us"]', "[1]", 6, "1 in rests_on is not text"),
    ("no title", PACT, 'title = { en = "The pact", ko = "약정" }', "", 1, 'missing key "title"'),
    ("depositary no party", PACT, 'depositary = "USA"', 'depositary = "AUS"', 5, '"AUS" in depositary is no party of pact; its parties are JPN, KOR, USA'),
    ("no depositary", PACT, 'depositary = "USA"\n', "", 1, 'missing key "depositary"'),
    ("ca of a stranger", JP_US, "ca = { JPN", "ca = { KOR = \"sha256:" + "1" * 64 + '", JPN', 7, '"KOR" in KOR is no party of jp-us'),
    ("ca missing one", JP_US, ", USA = \"sha256:" + "0" * 64 + '"', "", 7, "ca has no fingerprint for USA"),
    ("ca too short", JP_US, "0" * 64, "0" * 63, 7, "is not a fingerprint"),
    ("ca in capitals", JP_US, "0" * 64, "A" * 64, 7, "is not a fingerprint"),
    ("ca no table", JP_US, "ca = { JPN = \"sha256:" + "0" * 64 + '", USA = "sha256:' + "0" * 64 + '" }', "ca = 5", 7, "5 stands where a table belongs"),
    # life and signatories
    ("life unknown key", PACT, "title = {", 'life = { begins = "copies", begin = 1 }\ntitle = {', 7, 'unknown key "begin"; the keys here are begins, begins_at'),
    ("life without a beginning", PACT, "title = {", 'life = { notice_days = 3 }\ntitle = {', 7, 'missing key "begins"'),
    ("begins in no known way", PACT, "title = {", 'life = { begins = "soon" }\ntitle = {', 7, 'begins = "soon" is not "signature" or "copies" or "notifications" or "date"'),
    ("a date without its date", PACT, "title = {", 'life = { begins = "date" }\ntitle = {', 7, 'missing key "begins_at"'),
    ("a date that does not count", PACT, "title = {", 'life = { begins = "copies", begins_at = 2014-12-29T00:00:00Z }\ntitle = {', 7, 'begins_at stands beside "copies"; only "date" has it'),
    ("notice of a negative length", PACT, "title = {", 'life = { begins = "copies", notice_days = -1 }\ntitle = {', 7, 'notice_days = -1 is not a number of days, 0 to 3660'),
    ("notice of eleven years", PACT, "title = {", 'life = { begins = "copies", notice_days = 3661 }\ntitle = {', 7, 'notice_days = 3661 is not a number'),
    ("a term of no months", PACT, "title = {", 'life = { begins = "copies", term_months = 0 }\ntitle = {', 7, 'term_months = 0 is not a number of months, 1 to 1200'),
    ("a term of a century and a month", PACT, "title = {", 'life = { begins = "copies", term_months = 1201 }\ntitle = {', 7, 'term_months = 1201 is not'),
    ("renews no term", PACT, "title = {", 'life = { begins = "copies", renews = true }\ntitle = {', 7, 'renews = true needs term_months'),
    ("life no table", PACT, "title = {", 'life = 5\ntitle = {', 7, '5 stands where a table belongs'),
    ("supersedes no digest", PACT, "title = {", 'supersedes = "abc"\ntitle = {', 7, 'supersedes = "abc" is not the digest of the terms'),
    ("signatory of a stranger", PACT, "title = {", 'signatories.JPN = { name = { en = "A" }, office = { en = "B" } }\nsignatories.USA = { name = { en = "A" }, office = { en = "B" } }\nsignatories.KOR = { name = { en = "A" }, office = { en = "B" } }\nsignatories.AUS = { name = { en = "A" }, office = { en = "B" } }\ntitle = {', 10, '"AUS" in AUS is no party of pact'),
    ("signatory without office", PACT, "title = {", 'signatories.JPN = { name = { en = "A" }, office = { en = "B" } }\nsignatories.USA = { name = { en = "A" }, office = { en = "B" } }\nsignatories.KOR = { name = { en = "A" } }\ntitle = {', 9, 'missing key "office"'),
    ("signatory for one alone", PACT, "title = {", 'signatories.KOR = { name = { en = "A" }, office = { en = "B" } }\ntitle = {', 7, 'signatories has nobody for JPN, USA; add them'),
    # clauses
    ("clause unknown key", PACT, 'article = "5"', 'article = "5"\nnote = "x"', 27, 'unknown key "note"; the keys here are article, text, share'),
    ("no article", PACT, 'article = "5"\n', "", 25, 'missing key "article"'),
    ("article with a slash", PACT, '"5"', '"5/1"', 26, 'article = "5/1" is not an article'),
    ("article blank", PACT, '"5"', '" "', 26, 'article = " " is not an article'),
    ("article twice", PACT, '"5"', '"4"', 26, 'article "4" stands twice among the share and onward'),
    ("no text", PACT, 'text = { en = "Onward.", ko = "전달." }\n', "", 25, 'missing key "text"'),
    ("two bodies", PACT, "[clause.onward]", "[clause.protect]\nreturn_or_destroy = true\n[clause.onward]", 25, "exactly one of share, onward, equate, protect; this has onward, protect"),
    ("no body", PACT, '[clause.onward]\nby = ["USA"]\nto = ["AUS"]\nprotected_by = { "AUS-USA" = "au-us" }\nconsent = "item"\nrelease = "review"\n', "", 25, "exactly one of share, onward, equate, protect; this has none"),
    # share
    ("share unknown key", PACT, "via_reads", "via_read", 16, 'unknown key "via_read"'),
    ("no from", PACT, 'from = ["JPN", "KOR"]\n', "", 12, 'missing key "from"'),
    ("empty from", PACT, 'from = ["JPN", "KOR"]', "from = []", 13, "from is an empty list"),
    ("from unknown", PACT, 'from = ["JPN", "KOR"]', 'from = ["JPN", "KOR", "XXX"]', 13, 'unknown party "XXX" in from; parties with a scheme are AUS, JPN, KOR, USA'),
    ("from no party", PACT, 'from = ["JPN", "KOR"]', 'from = ["JPN", "KOR", "AUS"]', 13, '"AUS" in from is no party of pact'),
    ("to twice", PACT, 'to = ["JPN", "KOR"]', 'to = ["JPN", "KOR", "KOR"]', 14, '"KOR" stands twice in to'),
    ("to a text", PACT, 'to = ["JPN", "KOR"]', 'to = "JPN"', 14, 'to = "JPN" is not a list'),
    ("via_reads no boolean", PACT, "via_reads = true", 'via_reads = "yes"', 16, 'via_reads = "yes" is not true or false'),
    ("via_reads a number", PACT, "via_reads = true", "via_reads = 1", 16, "via_reads = 1 is not true or false"),
    ("about empty", PACT, 'about = ["PRK"]', "about = []", 18, "about is an empty list; name subjects, or leave the key out"),
    ("topics empty", PACT, 'topics = ["missile"]', "topics = []", 19, "topics is an empty list"),
    ("kinds empty", PACT, 'kinds = ["report"]', "kinds = []", 20, "kinds is an empty list"),
    ("marks empty", PACT, 'marks = ["KOR:II", "JPN:GOKUHI"]', "marks = []", 21, "marks is an empty list"),
    ("subject unknown", PACT, 'about = ["PRK"]', 'about = ["PRK", "ATL"]', 18, 'unknown subject "ATL" in about'),
    ("topic unknown", PACT, 'topics = ["missile"]', 'topics = ["missil"]', 19, 'unknown topic "missil" in topics'),
    ("topic below a leaf", PACT, '["missile"]', '["missile.launch.icbm"]', 19, 'unknown topic "missile.launch.icbm"'),
    ("kind unknown", PACT, '["report"]', '["rumour"]', 20, 'unknown kind "rumour" in kinds; use report, warning'),
    ("mark unknown", PACT, '"KOR:II",', '"KOR:IV",', 21, 'unknown mark "KOR:IV" in marks; KOR has KOR:I, KOR:II, KOR:III'),
    ("mark of nobody", PACT, '"KOR:II",', '"XXX:II",', 21, 'unknown party "XXX" in marks'),
    ("mark without party", PACT, '"KOR:II",', '"II",', 21, '"II" in marks is no mark such as KOR:II'),
    ("no consent", PACT, 'consent = "label"\n', "", 12, 'missing key "consent"; add "label" or "item"'),
    ("consent otherwise", PACT, 'consent = "label"', 'consent = "none"', 22, 'consent = "none" is not "label" or "item"'),
    ("no release", PACT, 'consent = "label"\nrelease = "review"', 'consent = "label"', 12, 'missing key "release"'),
    ("release otherwise", PACT, 'release = "review"', 'release = "auto"', 23, 'release = "auto" is not "review" or "automatic"'),
    ("leg not of the clause", PACT, '"JPN-USA"', '"JPN-KOR"', 17, '"JPN-KOR" is no leg that the clause can take; its legs, ends in alphabetical order, are JPN-USA, KOR-USA'),
    ("leg in the other order", PACT, '"JPN-USA"', '"USA-JPN"', 17, '"USA-JPN" is no leg that the clause can take'),
    ("leg under nothing", PACT, '"JPN-USA" = "jp-us"', '"JPN-USA" = "xx"', 17, 'unknown agreement "xx" in JPN-USA'),
    ("leg under strangers", PACT, '"JPN-USA" = "jp-us"', '"JPN-USA" = "ko-us"', 17, '"ko-us" protects JPN-USA, but JPN is no party of it'),
    ("leg under a number", PACT, '"JPN-USA" = "jp-us"', '"JPN-USA" = 5', 17, "JPN-USA = 5 is not the id of an agreement"),
    # onward
    ("onward via", PACT, 'by = ["USA"]', 'by = ["USA"]\nvia = "USA"', 30, 'unknown key "via"'),
    ("no by", PACT, 'by = ["USA"]\n', "", 28, 'missing key "by"'),
    ("onward to nobody", PACT, 'to = ["AUS"]', "to = []", 30, "to is an empty list"),
    ("outsider unprotected", PACT, 'protected_by = { "AUS-USA" = "au-us" }\n', "", 28, "AUS is no party of pact, so leg AUS-USA needs an agreement of both ends"),
    ("outsider protected by strangers", PACT, '"AUS-USA" = "au-us"', '"AUS-USA" = "jp-us"', 31, '"jp-us" protects AUS-USA, but AUS is no party of it'),
    # equate
    ("equate unknown key", KO_US, "rows = [", 'note = "x"\nrows = [', 11, 'unknown key "note"'),
    ("row of a stranger", KO_US, '{ KOR = ["II"],', '{ JPN = ["HI"], KOR = ["II"],', 12, '"JPN" in JPN is no party of ko-us'),
    ("row of one", KO_US, 'KOR = ["III"], ', "", 13, "a row needs marks of at least two parties"),
    ("row with no marks", KO_US, '["III"]', "[]", 13, "KOR is an empty list"),
    ("row with an unknown mark", KO_US, '["III"]', '["IV"]', 13, 'unknown mark "KOR:IV" in KOR'),
    ("row with a full mark", KO_US, '["III"]', '["KOR:III"]', 13, 'unknown mark "KOR:KOR:III" in KOR'),
    ("row a text", KO_US, '{ KOR = ["III"], USA = ["C"] }', '"III"', 13, '"III" stands where a table belongs'),
    ("mark in two rows", KO_US, '["III"]', '["III", "II"]', 13, '"KOR:II" already stands in the row for KOR and USA at line 12'),
    ("rows crossed", KO_US, '["II"], USA = ["S"]', '["II"], USA = ["C"]', 13, '"USA:C" already stands in the row'),
    # protect
    ("protect unknown key", KO_US, "receipt_within_h", "receipt_within", 19, 'unknown key "receipt_within"'),
    ("hours below 0", KO_US, "receipt_within_h = 24", "receipt_within_h = -1", 19, "receipt_within_h = -1 is not a number of hours"),
    ("hours beyond all", KO_US, "receipt_within_h = 24", "receipt_within_h = 1000001", 19, "1000001 is not a number"),
    ("hours true", KO_US, "receipt_within_h = 24", "receipt_within_h = true", 19, "receipt_within_h = true is not"),
    ("hours and a half", KO_US, "receipt_within_h = 24", "receipt_within_h = 1.5", 19, "receipt_within_h = 1.5 is not"),
    ("return maybe", KO_US, "return_or_destroy = true", 'return_or_destroy = "maybe"', 20, '"maybe" is not true or false'),
    ("officers for nothing", KO_US, '["KOR:II"]', "[]", 22, "two_person_from is an empty list"),
    ("officers of a stranger", KO_US, '["KOR:II"]', '["JPN:HI"]', 22, '"JPN" in two_person_from is no party of ko-us'),
    ("officers for an unknown", KO_US, '["KOR:II"]', '["KOR:X"]', 22, 'unknown mark "KOR:X" in two_person_from'),
    # timeline
    ("top unknown key", TIMELINE, "[[event]]", "title = 1\n[[event]]", 1, 'unknown key "title"; the keys here are event'),
    ("event unknown key", TIMELINE, "1987-09-24T00:00:00-04:00", '1987-09-24T00:00:00-04:00\nby = "USA"', 4, 'unknown key "by"'),
    ("event of nothing", TIMELINE, 'agreement = "ko-us"', 'agreement = "xx"', 2, 'unknown agreement "xx"; there are au-us, jp-us, ko-us, pact'),
    ("no agreement", TIMELINE, 'agreement = "ko-us"\n', "", 1, 'missing key "agreement"'),
    ("no at", TIMELINE, "at = 1987-09-24T00:00:00-04:00\n", "", 1, 'missing key "at"'),
    ("at without offset", TIMELINE, "00:00:00-04:00", "00:00:00", 3, "is not an instant with its offset"),
    ("at a day", TIMELINE, "1987-09-24T00:00:00-04:00", "1987-09-24", 3, "is not an instant with its offset"),
    ("at a text", TIMELINE, "1987-09-24T00:00:00-04:00", '"1987-09-24T00:00:00Z"', 3, "is not an instant"),
    ("at before all years", TIMELINE, "1987-09-24T00:00:00-04:00", "0001-01-01T00:00:00+09:00", 3, "lies outside the years 1 to 9999"),
    ("at past all years", TIMELINE, "1987-09-24T00:00:00-04:00", "9999-12-31T23:59:59.5Z", 3, "lies outside the years 1 to 9999"),
    ("no such event", TIMELINE, '"in-force"', '"signed"', 4, 'event = "signed" is not "in-force" or "suspended"'),
    ("effective elsewhere", TIMELINE, '"in-force"', '"in-force"\neffective = 2000-01-01T00:00:00Z', 5, 'effective stands beside "in-force"; only a notice has it'),
    ("notice without effective", TIMELINE, '"in-force"', '"termination-notified"', 1, 'missing key "effective"'),
    ("suspended too early", TIMELINE, '"in-force"', '"suspended"', 4, '"suspended" of ko-us at 1987-09-24T04:00:00Z comes while the agreement is not in force'),
    ("resumed too early", TIMELINE, '"in-force"', '"resumed"', 4, "comes while the agreement is not suspended"),
    ("withdrawn too early", TIMELINE, '"in-force"', '"notices-withdrawn"', 4, "comes while no notice of termination is pending"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "old", "new", "line", "part"),
    [case[1:] for case in INVALID],
    ids=[f"{case[1]}: {case[0]}" for case in INVALID],
)
def test_one_fault_is_one_error_with_file_line_value_and_fix(
    file: str, old: str, new: str, line: int, part: str
) -> None:
    found = errors(files((file, old, new)))
    assert [(p.file, p.line) for p in found] == [(file, line)], found
    assert part in found[0].message
    assert str(found[0]).isprintable()


# A change whose fault shows in several places, or that needs more than one change


def messages(*changes: tuple[str, str, str], **added: bytes) -> list[str]:
    return [str(p) for p in errors(files(*changes) | added)]


def test_a_party_without_a_scheme_is_reported_where_it_is_named() -> None:
    found = messages((KO_US, 'parties = ["KOR", "USA"]', 'parties = ["KOR", "USA", "XXX"]'))
    assert found == [
        'agreements/ko-us.toml:4: unknown party "XXX" in parties; parties with a scheme are '
        "AUS, JPN, KOR, USA"
    ]


def test_via_is_a_party_of_the_agreement() -> None:
    found = messages((PACT, 'via = "USA"', 'via = "AUS"'))
    assert found[0].startswith(
        'agreements/pact.toml:15: "AUS" in via is no party of pact; its parties are JPN, KOR, USA'
    )


def test_via_reads_needs_a_hub() -> None:
    found = messages((PACT, 'via = "USA"\n', ""))
    assert found[0].startswith("agreements/pact.toml:15: via_reads stands without via")


@pytest.mark.parametrize("rows", ["[]", '"x"', "5", "{}"])
def test_rows_are_a_list_that_is_not_empty(rows: str) -> None:
    (found,) = messages(
        (KO_US, 'rows = [\n    { KOR = ["II"], USA = ["S"] },\n    { KOR = ["III"], USA = ["C"] },\n]', f"rows = {rows}")
    )  # fmt: skip
    assert found.startswith("agreements/ko-us.toml:11: rows is not a list of rows such as")


def test_rows_never_order_two_parties_marks_in_opposite_ways() -> None:
    crossed = '{ KOR = ["II"], USA = ["C"] },\n    { KOR = ["III"], USA = ["S"] }'
    (found,) = messages(
        (KO_US, '{ KOR = ["II"], USA = ["S"] },\n    { KOR = ["III"], USA = ["C"] }', crossed)
    )
    assert found == (
        "agreements/ko-us.toml:13: this row and the one at line 12 order the marks of KOR and USA "
        "in opposite ways; correct one of them"
    )


def test_rows_of_two_clauses_count_together() -> None:
    second = (
        '[[clause]]\narticle = "9"\ntext = { en = "More.", ko = "더." }\n'
        '[clause.equate]\nrows = [ { KOR = ["I"], USA = ["C"] } ]\n'
    )
    found = messages((KO_US, '[[clause]]\narticle = "3"', f'{second}[[clause]]\narticle = "3"'))
    assert found == [
        'agreements/ko-us.toml:19: "USA:C" already stands in the row for KOR and USA at line 13; '
        "a mark has at most one row for a pair"
    ]


def test_rows_may_repeat_a_mark_for_another_pair_and_equal_ranks_cross_nothing() -> None:
    wide = 'rows = [ { JPN = ["GOKUHI"], USA = ["S"] }, { JPN = ["TOKUTEI"], USA = ["C"] } ]'
    sound((JP_US, 'rows = [ { JPN = ["GOKUHI", "TOKUTEI"], USA = ["S"] }, { JPN = ["HI"], USA = ["C"] } ]', wide))  # fmt: skip


def test_protect_names_at_least_one_duty() -> None:
    (found,) = messages(
        (KO_US, 'receipt_within_h = 24\nreturn_or_destroy = true\nreport_compromise_within_h = 0\ntwo_person_from = ["KOR:II"]\n', "")
    )  # fmt: skip
    assert found == ("agreements/ko-us.toml:18: a protect clause names at least one duty; add one")


def test_a_circle_of_rests_on_is_an_error_in_each_of_its_agreements() -> None:
    found = messages(
        (KO_US, "title =", 'rests_on = ["jp-us"]\ntitle ='),
        (JP_US, "title =", 'rests_on = ["ko-us"]\ntitle ='),
    )
    assert found == [
        "agreements/jp-us.toml:6: jp-us rests on itself through ko-us; break the circle",
        "agreements/ko-us.toml:6: ko-us rests on itself through jp-us; break the circle",
    ]


def test_every_error_of_a_folder_is_reported_at_once() -> None:
    broken = files(
        (KOR, 'code = "II"', 'code = "I"'),
        (WORDS, '"cyber"', '"cy ber"'),
        (PACT, 'about = ["PRK"]', "about = []"),
        (PACT, 'kinds = ["report"]', 'kinds = ["rumour", "report", "noise"]'),
        (KO_US, "= 24", "= -24"),
        (JP_US, "[clause.equate]", "[clause.equate"),
        (TIMELINE, '"in-force"', '"signed"'),
    )
    del broken["schemes/AUS.toml"]
    broken["schemes/notes.txt"] = b"x"
    found = {(p.file, p.line) for p in errors(broken)}
    assert found == {
        (KOR, 7),
        (WORDS, 3),
        (PACT, 18),
        (PACT, 20),
        (PACT, 30),
        (KO_US, 19),
        (JP_US, 11),
        (TIMELINE, 4),
        ("agreements/au-us.toml", 4),
        ("agreements/au-us.toml", 11),
        ("schemes/notes.txt", 1),
    }
    assert len([p for p in errors(broken) if (p.file, p.line) == (PACT, 20)]) == 2


def test_what_failed_to_load_is_not_reported_again_where_it_is_named() -> None:
    found = messages((JPN, 'party = "JPN"', "party = "))
    assert [text.partition(":")[0] for text in found] == [JPN]


def test_a_file_is_blamed_at_most_a_hundred_times_and_others_still_are() -> None:
    many = "".join(f"k{number} = 1\n" for number in range(300))
    found = errors(files((WORDS, "topics", f"{many}topics"), (KO_US, "= 24", "= -24")))
    assert [p.file for p in found].count(WORDS) == 100
    assert [p.file for p in found].count(KO_US) == 1


def test_load_regime_raises_with_every_error() -> None:
    with pytest.raises(RegimeError) as caught:
        load_regime(files((KO_US, "= 24", "= -24"), (PACT, "about = [", "abut = [")))
    assert len(caught.value.problems) == 2
    assert "agreements/ko-us.toml:19: " in str(caught.value)


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("vocabulary.toml", "vocabulary.toml:1: missing; add it with the keys topics and subjects"),
        ("agreements/", "agreements:1: no agreement; add one, such as agreements/tisa-2014.toml"),
        ("schemes/", "schemes:1: no scheme; add one file a party, such as schemes/KOR.toml"),
    ],
)
def test_a_regime_has_words_schemes_and_agreements(absent: str, message: str) -> None:
    texts = {k: v for k, v in files().items() if not k.startswith(absent)}
    assert message in [str(p) for p in errors(texts)]


def test_an_empty_folder_is_no_regime() -> None:
    assert len(errors({})) == 3


def test_the_timeline_may_be_absent_and_nothing_is_in_force() -> None:
    texts = files()
    del texts[TIMELINE]
    regime, problems = check_regime(texts)
    assert regime is not None
    assert regime.timeline.in_force_at("2020-01-01T00:00:00Z") == frozenset()
    assert len([w for w in problems.warnings if "in force at no instant" in w.message]) == 4


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("agreements/-pact.toml", '"-pact" is no id of an agreement'),
        ("agreements/a b.toml", '"a b" is no id of an agreement'),
        ("agreements/.toml", '"" is no id of an agreement'),
        ("schemes/kor.toml", '"kor" is not a party\'s code'),
        ("schemes/SUB/KOR.toml", '"SUB/KOR" is not a party\'s code'),
        ("notes.toml", "no such file belongs to a regime"),
        ("agreements/readme.md", "no such file belongs to a regime"),
        ("other/x.toml", "no such file belongs to a regime"),
    ],
)
def test_a_file_that_does_not_belong_is_an_error(name: str, part: str) -> None:
    found = errors(files() | {name: b""})
    assert name in {p.file for p in found}
    assert any(part in p.message for p in found)


def test_a_note_beside_the_files_is_a_warning() -> None:
    regime, problems = check_regime(files() | {"README.md": b"x"})
    assert regime is not None
    assert [str(p) for p in problems.warnings] == [
        "README.md:1: is not part of the regime and was not read"
    ]


# Bytes that are no text of a regime

NESTED = "[" * 100_000
RAW: list[tuple[str, bytes, int, str]] = [
    ("binary", b'topics = ["a"]\nsubjects = ["\xff\xfe"]\n', 2, "not UTF-8 at byte 28"),
    ("utf-16", "topics = []".encode("utf-16"), 1, "not UTF-8 at byte 0"),
    ("surrogate", b'topics = []\nsubjects = ["\xed\xa0\x80"]\n', 2, "not UTF-8"),
    ("byte order mark", b"\xef\xbb\xbftopics = []\nsubjects = []\n", 1, "byte order mark"),
    ("not NFC", 'topics = []\nsubjects = [\n"e\u0301"]\n'.encode(), 3, "is not in Unicode normal form NFC"),
    ("key not NFC", 'topics = []\n"e\u0301" = 1\n'.encode(), 2, "is not in Unicode normal form NFC"),
    ("bidi", 'topics = []\nsubjects = ["P\u202eRK"]\n'.encode(), 2, '"P\\u202eRK" has a character that changes'),
    ("bidi mark", 'topics = []\nsubjects = ["P\u200fRK"]\n'.encode(), 2, "changes the reading direction"),
    ("line break", b'topics = []\nsubjects = ["""P\nRK"""]\n', 2, '"P\\u000aRK" has a control character'),
    ("escaped tab", b'topics = []\nsubjects = ["P\\tRK"]\n', 2, "has a control character"),
    ("escaped delete", b'topics = []\nsubjects = ["P\\u007fRK"]\n', 2, "has a control character"),
    ("c1 control", 'topics = []\nsubjects = ["P\u0085RK"]\n'.encode(), 2, "has a control character"),
    ("NUL", b'topics = []\nsubjects = ["P\x00RK"]\n', 2, "not TOML: illegal character"),
    ("carriage return", b'topics = []\rsubjects = []\n', 1, "not TOML:"),
    ("key twice", b"topics = []\nsubjects = []\ntopics = []\n", 3, "not TOML: cannot overwrite a value"),
    ("table twice", b"topics = []\n[a]\n[a]\n", 3, "not TOML: cannot declare ('a',) twice"),
    ("no value", b"topics = []\nsubjects =\n", 2, "not TOML: invalid value"),
    ("unclosed text", b'topics = []\nsubjects = ["PRK\n', 2, "not TOML:"),
    ("unclosed list", b"topics = []\nsubjects = [\n\n", 4, "not TOML:"),
    ("no such day", b"topics = 2014-02-30\n", 1, "not TOML: invalid date or datetime"),
    ("deep lists", f"topics = {NESTED}".encode(), 1, "nested too deeply"),
    ("17 lists", b"topics = []\nsubjects = " + b"[" * 17 + b"]" * 17, 2, "nested more than 16 levels deep"),
    ("17 tables", b"topics = []\n[" + b".".join([b"a"] * 17) + b"]\n", 2, "nested more than 16 levels"),
    ("17 keys", b"\n" + b".".join([b"a"] * 17) + b" = 1\n", 2, "nested more than 16 levels deep"),
    ("17 keys in a line", b"x = { y = { " + b".".join([b"a"] * 15) + b" = 1 } }\n", 1, "nested more than"),
    ("huge dotted key", b"\n" + b"a." * 500_000 + b"a = 1", 2, "nested more than 16 levels deep"),
    ("huge dotted key in a line", b"x = { " + b"'a' . " * 150_000 + b"a = 1 }", 1, "nested more than"),
    ("enormous number", b"topics = " + b"9" * 10_000, 1, "holds a number or date out of range"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "line", "part"), [case[1:] for case in RAW], ids=[case[0] for case in RAW]
)
def test_bytes_that_are_no_text_of_a_regime_are_an_error_and_no_traceback(
    data: bytes, line: int, part: str
) -> None:
    found = errors(files() | {WORDS: data})
    assert [(p.file, p.line) for p in found] == [(WORDS, line)], found
    assert part in found[0].message
    assert str(found[0]).isprintable()


@pytest.mark.parametrize("number", ["0x" + "f" * 100_000, "1e999", "nan", "-9223372036854775809"])
def test_an_enormous_number_is_a_value_like_any_other(number: str) -> None:
    (found,) = errors(files((KO_US, "receipt_within_h = 24", f"receipt_within_h = {number}")))
    assert (found.file, found.line) == (KO_US, 19)
    assert len(found.message) < 200


def test_a_file_of_just_one_mebibyte_is_read_and_one_byte_more_is_not() -> None:
    words = FILES[WORDS].encode()
    full = words + b"#" * (FILE_BYTES_MAX - len(words))
    load_regime(files() | {WORDS: full})
    (found,) = errors(files() | {WORDS: full + b"#"})
    assert str(found) == (
        "vocabulary.toml:1: the file is larger than 1048576 bytes; split or trim it"
    )


@pytest.mark.parametrize(
    "nasty",
    [
        "[clause.equate]\nrows = [" + "{ KOR = ['II'], USA = ['S'] }," * 30_000 + "]",
        "[clause.protect]\ntwo_person_from = [" + "".join(f"'KOR:{n}'," for n in range(70_000)) + "]",
        "".join(f"k{n} = 1\n" for n in range(80_000)),
    ],
    ids=["rows", "marks", "keys"],
)  # fmt: skip
def test_a_mebibyte_of_faults_is_refused_without_costing_its_square(nasty: str) -> None:
    texts = files()
    texts[KO_US] = texts[KO_US].partition(b"[clause.equate]")[0] + nasty.encode()
    assert len(texts[KO_US]) < FILE_BYTES_MAX
    assert len([p for p in errors(texts) if p.file == KO_US]) == 100


# The folder on disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def on_disk(folder: Path) -> list[str]:
    regime, problems = check_regime(*read_folder(folder))
    assert (regime is None) == bool(problems.errors)
    return [str(p) for p in problems.errors]


def test_a_folder_on_disk_is_the_regime_of_its_texts(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / "schemes" / ".KOR.toml.swp").write_bytes(b"\x00")
    regime, problems = check_regime(*read_folder(folder))
    assert regime is not None
    assert regime.digest == sound().digest
    assert problems.warnings == []


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fsencode(path))


def test_a_folder_that_cannot_be_named_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    for name in ("absent", "loop", "file", "file/below", "n" * 300):
        with pytest.raises(CallerError) as caught:
            read_folder(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (link, "is a symbolic link; put a regular file in its place"),
        (replace_by(lambda p: p.symlink_to("absent")), "is a symbolic link"),
        (replace_by(lambda p: p.symlink_to("/dev/zero")), "is a symbolic link"),
        (replace_by(lambda p: os.mkfifo(p)), "is not a regular file; put one in its place"),
        (replace_by(make_socket), "put a regular file in its place"),
        (replace_by(lambda p: p.mkdir()), "is a folder; a regime has no folder below"),
        (lambda p: p.write_bytes(b"#" * (FILE_BYTES_MAX + 1)), "is larger than 1048576 bytes"),
        (lambda p: p.write_bytes(bytes(range(255, -1, -1))), "not UTF-8"),
    ],
    ids=["link", "dangling", "endless", "fifo", "socket", "folder", "huge", "binary"],
)
def test_what_is_no_regular_text_file_is_an_error_like_any_other(
    change: Callable[[Path], None], part: str, tmp_path: Path, folder: Path
) -> None:
    change(folder / KOR)
    (folder / "schemes" / "elsewhere").unlink(missing_ok=True)
    found = [text for text in on_disk(folder) if text.startswith(f"{KOR}:1: ")]
    assert len(found) == 1
    assert part in found[0]


@pytest.mark.parametrize("name", ["schemes", "agreements"])
def test_a_folder_that_is_a_link_is_not_followed(name: str, folder: Path) -> None:
    (folder / name).rename(folder / f".{name}")
    (folder / name).symlink_to(folder / f".{name}")
    assert f"{name}:1: is a link or no folder; make it a folder of its own" in on_disk(folder)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"schemes/K\nR.toml", "schemes/K\\nR.toml"),
        (b"schemes/\xff.toml", "schemes/\\udcff.toml"),
        ("schemes/K\u202eR.toml".encode(), "schemes/K\\u202eR.toml"),
        (b"\x1b[2J.toml", "\\x1b[2J.toml"),
    ],
)
def test_a_files_name_is_plain_text(name: bytes, shown: str, folder: Path) -> None:
    try:
        with open(os.path.join(os.fsencode(folder), name), "wb"):
            pass
    except OSError:
        pytest.skip("the file system takes no such name")
    assert on_disk(folder) == [f"{shown}:1: the file's name is not plain text; rename it"]


def unprivileged(folder: Path) -> list[str]:
    """The errors as they show to one who may not read everything."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from relto.regime import check_regime\n"
        "from relto.stores.folder import read_folder\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(*check_regime(*read_folder(Path(sys.argv[1])))[1].errors, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", [KOR, "agreements"])
def test_what_may_not_be_read_is_an_error_like_any_other(name: str, folder: Path) -> None:
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    (folder / name).chmod(0)
    try:
        found = [text for text in unprivileged(folder) if text.startswith(f"{name}:1: ")]
    finally:
        (folder / name).chmod(0o755)
    assert f"{name}:1: cannot be read: Permission denied" in found[0]


# What is legal but suspicious, and its other side


def extra(name: str, body: str, *, parties: str = '["KOR", "USA"]') -> dict[str, bytes]:
    """One more agreement, in force, with that clause."""
    frame = (
        f'format = "relto-agreement/1"\nid = "{name}"\nkind = "agreement"\nparties = {parties}\n'
        'depositary = "USA"\ntitle = { en = "More", ko = "더" }\n'
        f'[[clause]]\narticle = "1"\ntext = {{ en = "x", ko = "x" }}\n{body}'
    )
    event = f'[[event]]\nagreement = "{name}"\nat = 2000-01-01T00:00:00Z\nevent = "in-force"\n'
    return {
        f"agreements/{name}.toml": frame.encode(),
        TIMELINE: FILES[TIMELINE].encode() + event.encode(),
    }


def warned(added: dict[str, bytes]) -> list[str]:
    regime, problems = check_regime(files() | added)
    assert regime is not None, problems.errors
    return [str(p) for p in problems.warnings]


def test_two_agreements_with_contrary_rows_are_suspicious() -> None:
    contrary = extra("more", '[clause.equate]\nrows = [ { KOR = ["II"], USA = ["C"] } ]\n')
    assert warned(contrary) == [
        "agreements/more.toml:7: makes KOR:II equal to USA:C, but ko-us makes it equal to USA:S",
        "agreements/more.toml:7: makes USA:C equal to KOR:II, but ko-us makes it equal to KOR:III",
    ]
    alike = extra("more", '[clause.equate]\nrows = [ { KOR = ["I", "II"], USA = ["S"] } ]\n')
    assert warned(alike) == [
        "agreements/more.toml:7: makes USA:S equal to KOR:I, but ko-us makes it equal to KOR:II"
    ]
    same = extra("more", '[clause.equate]\nrows = [ { KOR = ["II", "I"], USA = ["S"] } ]\n')
    assert warned(same) == []


SHARE = '[clause.share]\nfrom = {}\nto = {}\nconsent = "label"\nrelease = "{}"\n'
ROWS = (
    '[[clause]]\narticle = "2"\ntext = {{ en = "x", ko = "x" }}\n[clause.equate]\n'
    "rows = [ {{ KOR = {}, USA = {} }} ]\n"
)


def test_a_clause_by_which_nobody_can_send_is_suspicious() -> None:
    rows = ROWS.format('["II"]', '["S"]')
    alone = SHARE.format('["KOR"]', '["KOR"]', "review") + rows
    assert warned(extra("more", alone)) == [
        "agreements/more.toml:7: article 1 can never apply: nobody can send to anybody else"
    ]
    assert warned(extra("more", SHARE.format('["KOR"]', '["USA"]', "review") + rows)) == []


def test_a_leg_without_a_row_is_suspicious() -> None:
    direct = SHARE.format('["KOR"]', '["USA"]', "review")
    assert warned(extra("more", direct)) == [
        "agreements/more.toml:7: article 1 can take the leg KOR-USA, but more has no row of equal "
        "marks for it"
    ]
    guarded = direct + 'protected_by = { "KOR-USA" = "ko-us" }\n'
    assert warned(extra("more", guarded)) == []


def test_a_clause_whose_marks_all_lack_a_row_on_some_leg_is_suspicious() -> None:
    """KOR:III is USA:C, and USA:C is JPN:HI: but not if Japan's agreement has no row for it."""
    only_third = ("agreements/pact.toml", '["KOR:II", "JPN:GOKUHI"]', '["KOR:III", "JPN:HI"]')
    lacking = (JP_US, ', { JPN = ["HI"], USA = ["C"] } ]', " ]")
    assert warnings(only_third) == []
    assert warnings(only_third, lacking) == [
        "agreements/pact.toml:9: article 4 can never apply: no mark it covers has a row on every "
        "leg",
        "agreements/pact.toml:9: article 4 names JPN:HI, which can never travel: no row carries it "
        "on every leg",
        "agreements/pact.toml:9: article 4 names KOR:III, which can never travel: no row carries "
        "it on every leg",
    ]


def test_a_mark_that_can_never_travel_is_suspicious() -> None:
    grade_one = ("agreements/pact.toml", '["KOR:II", ', '["KOR:II", "KOR:I", ')
    assert warnings(grade_one) == [
        "agreements/pact.toml:9: article 4 names KOR:I, which can never travel: no row carries it "
        "on every leg"
    ]
    of_the_hub = ("agreements/pact.toml", '["KOR:II", ', '["KOR:II", "USA:S", ')
    assert warnings(of_the_hub) == [
        "agreements/pact.toml:9: article 4 names USA:S, which can never travel: USA is no "
        "originator in it"
    ]


def test_automatic_release_of_what_needs_two_officers_is_suspicious() -> None:
    guarded = SHARE + 'protected_by = {{ "KOR-USA" = "ko-us" }}\n'
    automatic = guarded.format('["KOR"]', '["USA"]', "automatic")
    assert warned(extra("more", automatic)) == [
        "agreements/more.toml:7: article 1 releases without review although ko-us asks for two "
        "officers from KOR:II; leave such marks out of marks"
    ]
    assert warned(extra("more", automatic + 'marks = ["KOR:III"]\n')) == []
    assert warned(extra("more", guarded.format('["USA"]', '["KOR"]', "automatic"))) == []
    assert warned(extra("more", guarded.format('["KOR"]', '["USA"]', "review"))) == []


def test_what_a_hub_releases_automatically_counts_as_the_hub_holds_it() -> None:
    officers = '[[clause]]\narticle = "8"\ntext = { en = "x", ko = "x" }\n[clause.protect]\n'
    floor = (
        "agreements/au-us.toml",
        "[[clause]]",
        officers + 'two_person_from = ["USA:S"]\n[[clause]]',
    )
    of_hub = (JP_US, "[[clause]]", officers + 'two_person_from = ["USA:S"]\n[[clause]]')
    automatic = (PACT, 'release = "review"', 'release = "automatic"')
    of_japan = (PACT, '["KOR:II", "JPN:GOKUHI"]', '["JPN:GOKUHI"]')
    blind = (PACT, "via_reads = true", "via_reads = false")
    assert warnings(automatic, of_japan, floor) == []  # that agreement protects no leg of it
    assert warnings(automatic, of_japan, of_hub) == []  # to Korea the hub sends under ko-us
    assert warnings(automatic, of_hub) == [
        "agreements/pact.toml:9: article 4 releases without review although jp-us asks for two "
        "officers from USA:S; leave such marks out of marks",
        "agreements/pact.toml:9: article 4 releases without review although ko-us asks for two "
        "officers from KOR:II; leave such marks out of marks",
    ]
    assert len(warnings(automatic, of_hub, blind)) == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "line", "what"),
    [
        (KOR, '{ en = "Korea", ko = "대한민국" }', '{ en = "Korea" }', 2, "name"),
        (PACT, ', ko = "약정" }', " }", 7, "title"),
        (PACT, ', ko = "허브를 통하여." }', " }", 9, "article 4"),
        (KO_US, ', ko = "보호." }', " }", 15, "article 3"),
    ],
)
def test_a_text_missing_in_a_language_that_others_have_is_suspicious(
    file: str, old: str, new: str, line: int, what: str
) -> None:
    assert warnings((file, old, new)) == [f'{file}:{line}: {what} has no text in "ko"; others have']


def test_an_agreement_that_is_never_in_force_is_suspicious() -> None:
    never = ("timeline.toml", '"pact"\nat = 2014', '"jp-us"\nat = 2014')
    assert warnings(never) == [
        "agreements/pact.toml:1: is in force at no instant, so none of its clauses ever applies"
    ]


def test_an_agreement_whose_pillars_never_stand_together_is_never_in_force() -> None:
    ends = 'event = "in-force"\n[[event]]\nagreement = "ko-us"\nat = 1990-01-01T00:00:00Z\n'
    assert warnings((TIMELINE, 'event = "in-force"\n', f'{ends}event = "lapsed"\n')) == [
        "agreements/pact.toml:1: is in force at no instant, so none of its clauses ever applies"
    ]


def test_a_notice_that_takes_effect_before_it_is_given_is_suspicious() -> None:
    notice = (
        '[[event]]\nagreement = "ko-us"\nat = 2020-01-02T00:00:00Z\n'
        'event = "termination-notified"\neffective = 2020-01-0{}T00:00:00Z\n[[event]]\n'
    )
    assert warnings((TIMELINE, "[[event]]\n", notice.format(1))) == [
        "timeline.toml:5: the notice takes effect before it is given, so it ends at once"
    ]
    assert warnings((TIMELINE, "[[event]]\n", notice.format(2))) == []


# Digests


def test_the_digest_does_not_know_comments_spacing_quoting_or_order_of_keys() -> None:
    digest = sound().digest
    for change in (
        (PACT, 'kind = "arrangement"', "# a comment\n\n   kind   =   'arrangement'   # another"),
        (PACT, '[[clause]]\narticle = "4"', '[[ clause ]]\n"article" = "\\u0034"'),
        (PACT, 'consent = "label"\nrelease = "review"', 'release = "review"\nconsent = "label"'),
        (PACT, '["ko-us", "jp-us"]', '[\n  "ko-us", # first\n  "jp-us",\n]'),
        (KO_US, "receipt_within_h = 24", "receipt_within_h = 0x18"),
        (TIMELINE, "1987-09-24T00:00:00-04:00", "1987-09-24 04:00:00Z"),
        (
            KOR,
            'name = { en = "Korea", ko = "대한민국" }',
            'name.ko = "대한민국"\nname.en = "Korea"',
        ),
    ):
        assert sound(change).digest == digest
    crlf = {name: text.replace(b"\n", b"\r\n") for name, text in files().items()}
    assert load_regime(crlf).digest == digest


@pytest.mark.parametrize(
    "change",
    [
        (KOR, '"ONE"', '"1"'),
        (KOR, 'code = "I"', 'code = "0"'),
        (JPN, 'beside = "GOKUHI"\n', ""),
        (WORDS, '"cyber"', '"cyber", "nuclear"'),
        (WORDS, '["PRK", "IRN"]', '["IRN", "PRK"]'),
        (PACT, "Through the hub.", "Through the hub"),
        (PACT, 'consent = "label"', 'consent = "item"'),
        (PACT, 'depositary = "USA"', 'depositary = "KOR"'),
        (PACT, 'about = ["PRK"]\n', ""),
        (PACT, "via_reads = true\n", ""),
        (KO_US, "receipt_within_h = 24", "receipt_within_h = 25"),
        (KO_US, "return_or_destroy = true", "return_or_destroy = false"),
        (TIMELINE, "1987-09-24T00:00:00", "1987-09-24T00:00:01"),
        (TIMELINE, "1987-09-24T00:00:00", "1987-09-24T00:00:00.5"),
        (TIMELINE, "[[event]]", '[[event]]\nagreement = "ko-us"\nat = 1980-01-01T00:00:00Z\nevent = "in-force"\n[[event]]'),
    ],
)  # fmt: skip
def test_the_digest_knows_every_value(change: tuple[str, str, str]) -> None:
    before, after = sound(), sound(change)
    assert after.digest != before.digest
    touched = {
        a for a in before.agreements if after.agreement_digests[a] != before.agreement_digests[a]
    }
    assert touched == ({change[0].split("/")[1][:-5]} if "agreements/" in change[0] else set())


def test_the_digest_of_the_small_regime_is_the_one_written_here() -> None:
    assert len(sound().digest) == 64
    assert sound().digest == load_regime(dict(reversed(files().items()))).digest


# The closure: what a node knows (DESIGN §6)


def test_a_party_knows_its_agreements_whole_and_an_extract_of_what_carries_them() -> None:
    regime = sound()
    known = closure(regime, "KOR")
    assert set(known.agreements) == {"pact", "ko-us", "jp-us", "au-us"}
    for name in ("pact", "ko-us"):
        assert known.agreements[name] == regime.agreements[name]
    for name in ("jp-us", "au-us"):
        extract = known.agreements[name]
        assert extract.parties == regime.agreements[name].parties
        assert [type(clause.body) for clause in extract.clauses] == [Equate]
    assert known.timeline.turns == regime.timeline.turns


def test_a_party_does_not_know_what_touches_none_of_its_agreements() -> None:
    known = closure(sound(), "AUS")
    assert set(known.agreements) == {"au-us"}
    assert {event.agreement for event in known.timeline.events} == {"au-us"}
    assert not known.knows_article("pact", "4")


def test_what_an_extract_rests_on_is_known_too_since_its_state_depends_on_it() -> None:
    regime = sound((JP_US, "title =", 'rests_on = ["au-us"]\ntitle ='))
    known = closure(regime, "KOR")
    assert "au-us" in known.agreements
    assert known.agreements["jp-us"].rests_on == ("au-us",)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_a_holder_decides_by_its_closure_as_by_the_whole_regime(seed: int) -> None:
    """But for duties and officers of agreements that it is not in, which it does not know."""
    engines: dict[str, Engine] = {}
    for pact, question, decoded, _ in asked(seed):
        holder = question["holder"]
        if holder not in engines:
            engines[holder] = Engine(closure(pact.engine.regime, holder))
        engine = engines[holder]
        try:
            known = decode_question(question, engine.regime)
        except QuestionError:  # a basis under an agreement that the holder is not in
            assert question["holding"]["basis"]
            continue
        whole, part = pact.engine.decide(decoded), engine.decide(known)
        assert type(whole) is type(part)
        if isinstance(whole, Deny):
            assert part == whole
        elif isinstance(part, Allow):
            stated = {s.item: c for s, c in zip(known.label.sources, part.by_source, strict=True)}
            again = pact.engine.decide_stated(decoded, part.path, stated)
            assert isinstance(again, Allow)
            assert replace(again, review=(), obligations=()) == replace(
                part, review=(), obligations=()
            )


# The pacts that come with the program


@pytest.mark.parametrize("name", ["tisa", "health-cert"])
def test_a_regime_that_comes_with_the_program_is_sound(name: str) -> None:
    regime, problems = check_regime(*read_folder(ROOT / "regimes" / name))
    assert problems.errors == []
    assert regime is not None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_random_regimes_load_and_say_what_their_data_says(seed: int) -> None:
    made = random_regime(random.Random(seed))
    regime = load_regime(regime_files(made))
    assert set(regime.agreements) == set(made["agreements"])
    assert set(regime.marks) == {
        f"{party}:{mark['code']}"
        for party, scheme in made["schemes"].items()
        for mark in scheme["mark"]
    }
    for name, agreement in made["agreements"].items():
        assert regime.agreements[name].parties == set(agreement["parties"])
        assert len(regime.agreements[name].clauses) == len(agreement["clause"])

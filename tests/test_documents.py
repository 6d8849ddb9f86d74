"""The document of an agreement: all that counts is in it, and nothing in it is a command."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documents import LIFE, SCHEMES, document_terms, payload_of
from regime_texts import PACT
from relto.errors import PeerError
from relto.signing.documents import make_document
from relto.signing.wording import said, signers

PAYLOAD = payload_of(document_terms())
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()

needs_poppler = pytest.mark.skipif(
    shutil.which("pdftotext") is None or shutil.which("pdfdetach") is None,
    reason="poppler's pdftotext and pdfdetach are not here (Debian: poppler-utils)",
)


def text_of(document: bytes, tmp_path: Path) -> list[str]:
    """What is read on each page."""
    (tmp_path / "document.pdf").write_bytes(document)
    command = ["pdftotext", "-layout", str(tmp_path / "document.pdf"), "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    return done.stdout.decode().split("\f")[:-1]


def test_the_same_terms_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "terms.json").write_bytes(PAYLOAD)
    program = (
        "import json, sys; from pathlib import Path;"
        "from relto.signing.documents import make_document;"
        "from documents import LIFE, SCHEMES;"
        "sys.stdout.buffer.write(make_document(Path('terms.json').read_bytes(), SCHEMES, LIFE))"
    )
    elsewhere = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Seoul",
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=elsewhere, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == make_document(PAYLOAD, SCHEMES, LIFE)


def test_other_terms_give_another_document() -> None:
    other = payload_of(document_terms((PACT, '"KOR:II", "JPN:GOKUHI"', '"KOR:II"')))
    assert make_document(other, SCHEMES, LIFE) != make_document(PAYLOAD, SCHEMES, LIFE)


@needs_poppler
def test_every_page_bears_the_digest_and_every_clause_what_is_enforced(tmp_path: Path) -> None:
    pages = text_of(make_document(PAYLOAD, SCHEMES, LIFE), tmp_path)
    assert all(DIGEST in page for page in pages)
    text = "\n".join(pages)
    for words in (
        "The pact", "약정", "participants", "Paragraph 4", "제4항", "Through the hub.",
        "허브를 통하여.",
        "via USA, which reads it", "JPN-USA: jp-us", "missile", "KOR:II, JPN:GOKUHI",
        "the originator's label names who may read", "a separate consent of the originator",
        "by a disclosure officer, after review", "It begins with the last copy.",
        "마지막 사본으로 발효한다.", "Signed for the participants:", "일본 방위성",
        "agreement jp-us", "0000000 00000000",
    ):  # fmt: skip
        assert words in text, words
    assert "Party" not in text


@needs_poppler
def test_an_agreement_has_parties_and_articles(tmp_path: Path) -> None:
    payload = payload_of(document_terms((PACT, '"arrangement"', '"agreement"')))
    text = "\n".join(text_of(make_document(payload, SCHEMES, LIFE), tmp_path))
    assert "Article 4" in text
    assert "Signed for the Parties:" in text
    assert "participant" not in text


@needs_poppler
def test_the_terms_are_attached_as_they_are_signed(tmp_path: Path) -> None:
    (tmp_path / "document.pdf").write_bytes(make_document(PAYLOAD, SCHEMES, LIFE))
    command = ["pdfdetach", "-saveall", "-o", str(tmp_path), str(tmp_path / "document.pdf")]
    subprocess.run(command, check=True, timeout=30)
    assert (tmp_path / "terms.json").read_bytes() == PAYLOAD


@needs_poppler
def test_who_signs_stands_beside_the_field(tmp_path: Path) -> None:
    terms = document_terms()
    terms["agreement"]["signatories"] = {
        party: {
            "name": {"en": f"Name of {party}", "ko": "이름"},
            "office": {"en": "Deputy", "ko": "차관"},
        }
        for party in SCHEMES
    }
    sheet = text_of(make_document(payload_of(terms), SCHEMES, LIFE), tmp_path)[-1]
    assert "Name of KOR, Deputy" in sheet
    assert "이름, 차관" in sheet


HOSTILE = (
    '#panic("run")',
    '#read("/etc/passwd")',
    "]#panic()[",
    '"); panic("',
    "$ x^2 $ *bold* _it_ `raw` <label> @ref // comment",
    "/* comment */ \\u{41} \\",
    "#import sys: *",
    "= heading",
    "x" * 200,
)


@pytest.mark.parametrize("words", HOSTILE, ids=lambda words: words[:16])
def test_words_of_another_party_are_never_markup(words: str, tmp_path: Path) -> None:
    terms = document_terms()
    agreement = terms["agreement"]
    agreement["title"] = {"en": words, "ko": words}
    for clause in agreement["clause"]:
        clause["text"] = {"en": words, "ko": words}
    agreement["clause"][0]["article"] = words[:64]
    agreement["clause"][0]["share"]["topics"] = [words]
    schemes = {party: {"en": words, "ko": words} for party in SCHEMES}
    document = make_document(payload_of(terms), schemes, {"en": [words], "ko": [words]})
    if shutil.which("pdftotext"):
        text = "".join("".join(text_of(document, tmp_path)).replace("\u200b", "").split())
        assert text.count("".join(words.split())[:60]) >= 8


@needs_poppler
def test_no_words_leave_the_page(tmp_path: Path) -> None:
    terms = document_terms()
    terms["agreement"]["clause"][0]["text"]["en"] = "x" * 5000
    terms["agreement"]["clause"][0]["share"]["topics"] = ["y" * 300]
    (tmp_path / "document.pdf").write_bytes(make_document(payload_of(terms), SCHEMES, LIFE))
    command = ["pdftotext", "-x", "71", "-y", "71", "-W", "454", "-H", "700", "-layout"]
    done = subprocess.run(
        [*command, str(tmp_path / "document.pdf"), "-"], capture_output=True, check=True, timeout=30
    )
    assert done.stdout.count(b"x") >= 5000
    assert done.stdout.count(b"y") >= 600


@pytest.mark.skipif(
    shutil.which("pdffonts") is None, reason="pdffonts is not here (Debian: poppler-utils)"
)
def test_fonts_of_the_machine_are_never_taken(tmp_path: Path) -> None:
    terms = document_terms()
    terms["agreement"]["clause"][0]["text"]["en"] = (
        "ไทย Ελληνικά Кириллица 中文 العربية 한국어 漢字"
    )
    (tmp_path / "document.pdf").write_bytes(make_document(payload_of(terms), SCHEMES, LIFE))
    command = ["pdffonts", str(tmp_path / "document.pdf")]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    names = [line.split()[0].decode() for line in done.stdout.splitlines()[2:]]
    ours = re.compile(r"[A-Z]{6}\+(Libertinus|NotoSerif(KR|JP)|NotoSans(KR|JP)|DejaVuSansMono)")
    assert names
    assert [name for name in names if not ours.match(name)] == []


def test_names_that_have_no_room_beside_the_field_refuse() -> None:
    schemes = {party: {"en": "A very long name of a ministry " * 60} for party in SCHEMES}
    with pytest.raises(PeerError, match="names and offices of JPN have no room"):
        make_document(PAYLOAD, schemes, LIFE)


def test_an_article_without_a_language_that_the_title_has_refuses() -> None:
    terms = document_terms()
    del terms["agreement"]["clause"][1]["text"]["ko"]
    with pytest.raises(
        PeerError, match="article 5 and the title are not in the same languages: ko"
    ):
        make_document(payload_of(terms), SCHEMES, LIFE)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"{", payload_of({"format": "relto-terms/1"})],
)
def test_what_is_no_terms_refuses(payload: bytes) -> None:
    with pytest.raises(PeerError):
        make_document(payload, SCHEMES, LIFE)


@pytest.mark.parametrize("key", ["kind", "parties", "title", "clause"])
def test_terms_of_no_sound_agreement_refuse(key: str) -> None:
    for wrong in (None, 7, "x", [7], {"x": 7}):
        terms = document_terms()
        if wrong is None:
            del terms["agreement"][key]
        else:
            terms["agreement"][key] = wrong
        with pytest.raises(PeerError):
            make_document(payload_of(terms), SCHEMES, LIFE)


def test_ten_parties_sign_on_three_sheets() -> None:
    terms = document_terms()
    terms["agreement"]["parties"] = [f"P{number}" for number in range(10)]
    payload = payload_of(terms)
    assert [len(sheet) for sheet in said(payload, {}, {})["sheets"]] == [4, 4, 2]
    assert len(signers(payload)) == 10
    assert make_document(payload, {}).count(b"/FT /Sig") == 10


def test_a_node_and_the_command_line_load_neither_typesetter_nor_pdf_library() -> None:
    program = (
        "import sys, relto.node, relto.serving, relto.apps.cli as cli; cli.make_parser();"
        "heavy = ('pyhanko', 'typst', 'lxml', 'aiohttp', 'pylopdf_fonts_ko');"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")

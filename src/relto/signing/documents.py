"""The document of an agreement: the same terms give the same bytes, on any machine.

Set by typst, with fonts that come from packages and nothing from the machine. The terms are
attached as they are signed, and each party has a field for its signature. Because the bytes follow
from the terms, whoever has the terms makes the document again and compares
(`relto.signing.checking`).
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources

import pylopdf_fonts_jp
import pylopdf_fonts_ko
import typst
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigFieldSpec, append_signature_field, ensure_sig_flags

from relto.errors import PeerError
from relto.signing.wording import SIGNERS_PER_SHEET, said, signers

__all__ = ["FIELD_POINTS", "Update", "make_document"]

# Where the frames of fields are on a sheet, in millimetres; document.typ draws them.
MM = 72 / 25.4  # a millimetre in points, the unit of PDF
PAGE_HEIGHT = 297
FRAME_WIDTH = 76
FRAME_HEIGHT = 36
FRAME_LEFT = 210 - 25 - FRAME_WIDTH
FRAME_TOP = 25 + 28 + 2
FRAME_STEP = 52
FIELD_POINTS = (round(FRAME_WIDTH * MM) - 2, round(FRAME_HEIGHT * MM) - 2)
"""Width and height of a field: its frame, less a point on each side."""


class Update(IncrementalPdfFileWriter):
    """Appends a revision whose bytes follow from the document and what is added, and nothing else.

    The library would give it a random identifier and note the time of the machine.
    """

    def __init__(self, document: bytes) -> None:
        super().__init__(io.BytesIO(document))
        first, _ = self._document_id
        last = generic.ByteStringObject(hashlib.sha256(document).digest()[:16])
        self._document_id = generic.ArrayObject([first, last])

    def _update_meta(self) -> None:
        """Nothing: who changed the document when is in the signatures."""


def make_document(
    payload: bytes,
    schemes: Mapping[str, Mapping[str, str]],
    life: Mapping[str, Sequence[str]] | None = None,
) -> bytes:
    """The PDF of the terms in `payload`, unsigned, with a field for each party.

    `schemes` has each party's name by language, `life` the sentences on how it begins and ends, by
    language too.

    Raises:
        PeerError: the payload is no terms, or they cannot be set.
    """
    words = said(payload, schemes, life or {})
    sheets = len(words["sheets"])
    return _made(payload, json.dumps(words, ensure_ascii=False), signers(payload), sheets)


@lru_cache(maxsize=4)  # who checks documents asks for the same one again
def _made(payload: bytes, words: str, parties: tuple[str, ...], sheets: int) -> bytes:
    update = Update(_set(payload, words))
    catalogue = update.root
    pages = int(catalogue["/Pages"]["/Count"])
    for number, party in enumerate(parties):
        sheet, row = divmod(number, SIGNERS_PER_SHEET)
        spec = SigFieldSpec(party, on_page=pages - sheets + sheet, box=_box(row))
        append_signature_field(update, spec)
    ensure_sig_flags(update, lock_sig_flags=True)
    # ISO 32000-2 §14.13: the terms are associated with the whole document.
    attached = catalogue["/Names"]["/EmbeddedFiles"]["/Names"].raw_get(1)
    catalogue["/AF"] = generic.ArrayObject([attached])
    update.update_root()
    out = io.BytesIO()
    update.write(out)
    return out.getvalue()


def _box(row: int) -> tuple[int, int, int, int]:
    """The rectangle of a field, in whole points from the lower left corner of the page."""
    bottom = PAGE_HEIGHT - FRAME_TOP - row * FRAME_STEP - FRAME_HEIGHT
    left, low = round(FRAME_LEFT * MM) + 1, round(bottom * MM) + 1
    width, height = FIELD_POINTS
    return (left, low, left + width, low + height)


def _set(payload: bytes, words: str) -> bytes:
    template = resources.files("relto.signing").joinpath("document.typ").read_bytes()
    inputs = {"data": words, "terms": payload.decode()}
    try:
        return typst.compile(
            template,
            font_paths=_fonts(),
            sys_inputs=inputs,
            pdf_standards="1.7",
            timestamp=0,
        )
    except typst.TypstError as error:
        raise PeerError(f"the terms cannot be set as a document: {error.message}") from error


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    folders = [package.serif_path().parent for package in (pylopdf_fonts_jp, pylopdf_fonts_ko)]
    return typst.Fonts(include_system_fonts=False, font_paths=list(folders))

"""Ways to cheat with a signed document: each takes a document and gives the altered one.

Hide, replace, and hide-and-replace are the shadow attacks of Mainka, Mladenov and Rohlmann (NDSS
2021): an attacker prepares a document before it is signed and changes what it shows afterwards.
"""

import io
from collections.abc import Callable

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.content import RawContent
from pyhanko.pdf_utils.embed import EmbeddedFileObject, FileSpec, embed_file
from pyhanko.pdf_utils.generic import pdf_name
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.layout import BoxConstraints

__all__ = ["AFTER", "PREPARED", "Change", "changed", "forget_a_signature"]

Change = Callable[[IncrementalPdfFileWriter], None]


def changed(document: bytes, change: Change) -> bytes:
    """The document with one revision more."""
    writer = IncrementalPdfFileWriter(io.BytesIO(document))
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def attach(writer: IncrementalPdfFileWriter) -> None:
    """Another attachment, after signing: pdfsig calls the signatures valid still."""
    inner = EmbeddedFileObject.from_file_data(writer, data=b"{}", mime_type="application/json")
    embed_file(writer, FileSpec("annex.json", embedded_data=inner))


def replace_attachment(writer: IncrementalPdfFileWriter) -> None:
    """Other terms in the place of those that were signed."""
    spec = writer.root["/AF"][0].get_object()
    other = writer.add_object(generic.StreamObject(stream_data=b"{}"))
    spec["/EF"] = generic.DictionaryObject({pdf_name("/F"): other})
    writer.update_container(spec)


def replace_page_content(writer: IncrementalPdfFileWriter) -> None:
    """Shadow attack "replace": the first page shows other words."""
    page = writer.root["/Pages"]["/Kids"][0].get_object()
    while page["/Type"] == "/Pages":
        page = page["/Kids"][0].get_object()
    page["/Contents"] = writer.add_object(generic.StreamObject(stream_data=b"q Q"))
    writer.update_container(page)


def hide_behind_an_annotation(writer: IncrementalPdfFileWriter) -> None:
    """Shadow attack "hide": something lies over the words."""
    white = RawContent(b"1 g 0 0 600 800 re f", box=BoxConstraints(width=600, height=800))
    note = generic.DictionaryObject(
        {
            pdf_name("/Type"): pdf_name("/Annot"),
            pdf_name("/Subtype"): pdf_name("/Stamp"),
            pdf_name("/F"): generic.NumberObject(4),
            pdf_name("/Rect"): generic.ArrayObject(
                [generic.NumberObject(n) for n in (0, 0, 600, 800)]
            ),
            pdf_name("/AP"): generic.DictionaryObject(
                {pdf_name("/N"): writer.add_object(white.as_form_xobject())}
            ),
        }
    )
    writer.register_annotation(writer.find_page_for_modification(0)[0], writer.add_object(note))


def swap_pages(writer: IncrementalPdfFileWriter) -> None:
    """Shadow attack "hide-and-replace": the catalogue points to pages that were not shown."""
    kids = writer.root["/Pages"]["/Kids"]
    pages = generic.DictionaryObject(
        {
            pdf_name("/Type"): pdf_name("/Pages"),
            pdf_name("/Count"): generic.NumberObject(1),
            pdf_name("/Kids"): generic.ArrayObject([kids.raw_get(len(kids) - 1)]),
        }
    )
    writer.root["/Pages"] = writer.add_object(pages)
    writer.update_root()


def show_a_field_elsewhere(writer: IncrementalPdfFileWriter) -> None:
    """A field that is moved over the text, with its appearance."""
    field = writer.root["/AcroForm"]["/Fields"][0].get_object()
    field["/Rect"] = generic.ArrayObject([generic.NumberObject(n) for n in (0, 0, 600, 800)])
    writer.update_container(field)


def paint_another_appearance(writer: IncrementalPdfFileWriter) -> None:
    """A signature that shows another name."""
    field = writer.root["/AcroForm"]["/Fields"][0].get_object()
    other = RawContent(b"q Q", box=BoxConstraints(width=213, height=100))
    field["/AP"] = generic.DictionaryObject(
        {pdf_name("/N"): writer.add_object(other.as_form_xobject())}
    )
    writer.update_container(field)


def run_a_script(writer: IncrementalPdfFileWriter) -> None:
    """An action when the document is opened."""
    writer.root["/OpenAction"] = generic.DictionaryObject(
        {
            pdf_name("/S"): pdf_name("/JavaScript"),
            pdf_name("/JS"): generic.TextStringObject("app.alert(1)"),
        }
    )
    writer.update_root()


def add_a_field(writer: IncrementalPdfFileWriter) -> None:
    """A field of text, as a form may have."""
    field = generic.DictionaryObject(
        {
            pdf_name("/FT"): pdf_name("/Tx"),
            pdf_name("/T"): generic.TextStringObject("note"),
            pdf_name("/V"): generic.TextStringObject("and also"),
        }
    )
    fields = writer.root["/AcroForm"]["/Fields"]
    fields.append(writer.add_object(field))
    writer.update_container(fields)


def forget_a_signature(writer: IncrementalPdfFileWriter) -> None:
    """A signed field that is empty again."""
    for field in writer.root["/AcroForm"]["/Fields"]:
        if "/V" in field.get_object():
            del field.get_object()["/V"]
            writer.update_container(field.get_object())
            return


def note_the_time(writer: IncrementalPdfFileWriter) -> None:
    """What any editor does on saving: a date in the document's information."""
    writer.set_info(
        generic.DictionaryObject({pdf_name("/ModDate"): generic.TextStringObject("D:2020")})
    )


AFTER: tuple[Change, ...] = (
    attach,
    replace_attachment,
    replace_page_content,
    hide_behind_an_annotation,
    swap_pages,
    show_a_field_elsewhere,
    paint_another_appearance,
    run_a_script,
    add_a_field,
    note_the_time,
)
"""Done after one, two or three signatures."""

PREPARED: tuple[Change, ...] = (
    attach,
    hide_behind_an_annotation,
    add_a_field,
    run_a_script,
    replace_page_content,
)
"""Done before anybody signs, to be undone or used later."""

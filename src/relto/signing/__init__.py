"""The signing ceremony: an agreement as a document for people, its signatures, and their check.

What a node loads are the signed terms (`relto.instruments`); this is their human face, a PDF that
carries the same terms. It needs packages that a node does not have: nothing else imports it before
somebody asks for a document.
"""

from relto.errors import CallerError

__all__ = ["INSTALL", "missing"]

INSTALL = "pip install --require-hashes -r requirements/documents.txt"


def missing(error: ImportError) -> CallerError:
    """What to say where the packages are not installed."""
    return CallerError(f"documents need packages that are not here ({error.name}): {INSTALL}")

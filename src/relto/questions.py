"""A question of `decide`: may this holder give this item to that party, now? (DESIGN §4)

Decodes one JSON object into a `Question`, refusing anything malformed (§4 (1)).
"""

from dataclasses import dataclass
from typing import Any

from relto.errors import QuestionError
from relto.labels import (
    NO_HOLDING,
    Consent,
    Holding,
    Label,
    Status,
    Words,
    decode_consent,
    decode_holding,
    decode_label,
    decode_status,
    instant_of,
    only,
    party_of,
)
from relto.tables import quoted

__all__ = ["Question", "decode_question"]

RECORDS_MAX = 10_000
_REQUIRED = frozenset(["at", "holder", "to", "item"])
_KEYS = _REQUIRED | {"id", "holding", "consents", "status"}


@dataclass(frozen=True, slots=True)
class Question:
    """May `holder` give `label`'s item to `to` at the instant `at`?"""

    at: str
    holder: str
    to: str
    label: Label
    holding: Holding = NO_HOLDING
    consents: tuple[Consent, ...] = ()
    status: tuple[Status, ...] = ()


def decode_question(data: Any, words: Words) -> Question:
    """The question in `data`. Raises QuestionError: an error, not a decision."""
    only(data, "question", _KEYS, _REQUIRED)
    if "id" in data and type(data["id"]) is not str:
        raise QuestionError(f"id of question is {quoted(data['id'])}, not a text")
    at = instant_of(data, "at", "question")
    holder = party_of(data, "holder", words, "question")
    to = party_of(data, "to", words, "question")
    label = decode_label(data["item"], words)
    holding = decode_holding(data.get("holding"), words, label, holder)
    if "holding" in data and data["holding"] is None:
        raise QuestionError("holding of question is null; leave it out")
    consents = tuple(decode_consent(c, words) for c in _records(data, "consents"))
    status = tuple(decode_status(s, words) for s in _records(data, "status"))
    if consents or status:
        _check_sequences([*_records(data, "consents"), *_records(data, "status")])
    return Question(at, holder, to, label, holding, consents, status)


def _records(data: dict[str, Any], key: str) -> list[Any]:
    if key not in data:
        return []
    records = data[key]
    if type(records) is not list or len(records) > RECORDS_MAX:
        raise QuestionError(f"{key} of question is not a list of at most {RECORDS_MAX} records")
    return records


def _check_sequences(records: list[Any]) -> None:
    """Two different records of one party with one `seq` are malformed. Each is decoded before."""
    seen: dict[tuple[str, int], Any] = {}
    for record in records:
        earlier = seen.setdefault((record["by"], record["seq"]), record)
        if earlier != record:
            raise QuestionError(
                f"two different records of {record['by']} have the seq {record['seq']}; "
                "a party numbers each record once"
            )

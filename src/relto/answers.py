"""Answers of `decide` as the objects that programs read: JSON in, JSON out (DESIGN §4)."""

import json
from typing import Any, NoReturn

from relto.decisions import Allow, Deny, Engine, Reason
from relto.errors import QuestionError
from relto.explanations import needs
from relto.questions import Question, decode_question
from relto.tables import quoted

__all__ = ["LINE_BYTES_MAX", "answer", "answer_line", "read_json", "show"]

LINE_BYTES_MAX = 1024 * 1024


def answer(engine: Engine, data: Any) -> dict[str, Any]:
    """The printed object for the question in `data`. Raises QuestionError if it is malformed."""
    question = decode_question(data, engine.regime)
    printed = show(engine, question, engine.decide(question))
    return {"id": data["id"], **printed} if "id" in data else printed


def answer_line(engine: Engine, line: bytes) -> dict[str, Any]:
    """The printed object for one line of a batch; an error is an answer of its own."""
    name = None
    try:
        data = read_json(line)
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            name = data["id"]
        return answer(engine, data)
    except QuestionError as e:
        return {"error": str(e)} if name is None else {"id": name, "error": str(e)}


def show(engine: Engine, question: Question, decision: Allow | Deny) -> dict[str, Any]:
    """The decision as a JSON object: an `Allow` whole, a `Deny` with what would change it."""
    if isinstance(decision, Allow):
        return {
            "decision": "allow",
            "path": list(decision.path),
            "legs": [
                {
                    "from": leg.sender,
                    "to": leg.receiver,
                    "mark": leg.mark,
                    "protected_by": leg.protected_by,
                }
                for leg in decision.legs
            ],
            "cites": list(decision.cites),
            "review": [{"party": r.party, "officers": r.officers} for r in decision.review],
            "obligations": [
                {"duty": o.duty, "value": o.value, "party": o.party, "cites": o.cites}
                for o in decision.obligations
            ],
        }
    return {
        "decision": "deny",
        "reasons": [_reason(reason) for reason in decision.reasons],
        "needs": needs(engine, question, decision),
    }


def _reason(reason: Reason) -> dict[str, str]:
    shown = {"code": reason.code}
    if reason.cites is not None:
        shown["cites"] = reason.cites
    if reason.source is not None:
        shown["source"] = reason.source
    return shown


def _twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise QuestionError("a key stands twice in one object; write it once")
    return found


def _not_json(text: str) -> NoReturn:
    raise QuestionError(f"{quoted(text)} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_twice, parse_constant=_not_json)


def read_json(data: bytes) -> Any:
    """JSON of a question: any spacing, but no duplicate key, NaN, or line over LINE_BYTES_MAX."""
    if len(data) > LINE_BYTES_MAX:
        raise QuestionError(f"the question is longer than {LINE_BYTES_MAX} bytes")
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise QuestionError("the question is not UTF-8") from None
    except RecursionError:
        raise QuestionError("the question is nested too deeply") from None
    except ValueError as e:
        raise QuestionError(f"the question is not JSON: {str(e).lower()}") from None

"""Canonical JSON: one value, one sequence of bytes, and nothing else gets in."""

import enum
import json
from collections.abc import Callable

import jcs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relto import canonical
from relto.canonical import Json
from relto.errors import CallerError, PeerError

SIZE = 1_000_000


def _allowed(text: str) -> bool:
    try:
        canonical.encode(text)
    except CallerError:
        return False
    return True


texts = st.text(max_size=20).filter(_allowed)
integers = st.integers(-canonical.INTEGER_MAX, canonical.INTEGER_MAX)
values: st.SearchStrategy[Json] = st.recursive(
    st.booleans() | integers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)

# What nodes mostly exchange, and its neighbourhood: there is a short way for it.
plain_texts = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=9)
plain_values: st.SearchStrategy[Json] = st.recursive(
    st.booleans() | st.integers(-(10**16), 10**16) | plain_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_texts, inner, max_size=4),
    max_leaves=12,
)


def _outcome(decode: Callable[[], Json]) -> tuple[str, object]:
    try:
        return "accepted", decode()
    except PeerError as error:
        return "refused", str(error)


@settings(max_examples=1_000)
@given(plain_values, st.booleans(), st.data())
def test_the_short_way_says_what_the_long_way_says(
    value: Json, sort: bool, data: st.DataObject
) -> None:
    spacing = data.draw(st.sampled_from([(",", ":"), (",", ": ")]))
    text = bytearray(json.dumps(value, sort_keys=sort, separators=spacing).encode())
    for _ in range(data.draw(st.integers(0, 2))):  # bytes changed, out and in
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 1))] = data.draw(
            st.sampled_from([b"", b"null", b"0", b"-0", b"1.5", b"1e3", b"{}", b"[", b'"', b"\\"])
        )
        text = text or bytearray(b"0")
    depth = data.draw(st.integers(0, 4))
    short = _outcome(lambda: canonical.decode(bytes(text), size_bytes_max=SIZE, depth_max=depth))
    assert short == _outcome(lambda: canonical._decode_any(bytes(text), depth))


@given(plain_values)
def test_a_second_implementation_gives_the_same_bytes_for_what_goes_the_short_way(
    value: Json,
) -> None:
    try:
        data = canonical.encode(value)
    except CallerError:
        return  # an integer beyond 53 bits
    assert jcs.canonicalize(value) == data


@given(values)
def test_what_is_encoded_decodes_to_the_same_value(value: Json) -> None:
    data = canonical.encode(value)
    decoded = canonical.decode(data, size_bytes_max=SIZE)
    assert decoded == value
    assert canonical.encode(decoded) == data


@given(values)
def test_a_second_implementation_of_rfc_8785_gives_the_same_bytes(value: Json) -> None:
    assert jcs.canonicalize(value) == canonical.encode(value)


@given(values)
def test_every_json_reader_reads_the_same_value(value: Json) -> None:
    assert json.loads(canonical.encode(value)) == value


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:0129-.eEtrufalsn\\ ', max_size=40))
def test_what_is_accepted_encodes_to_the_very_same_bytes(data: bytes | str) -> None:
    data = data.encode() if isinstance(data, str) else data
    try:
        value = canonical.decode(data, size_bytes_max=SIZE)
    except PeerError:
        return
    assert canonical.encode(value) == data


@given(values, st.data())
def test_any_changed_byte_is_refused_or_is_another_value(value: Json, data: st.DataObject) -> None:
    encoded = bytearray(canonical.encode(value))
    index = data.draw(st.integers(0, len(encoded) - 1))
    encoded[index] ^= data.draw(st.integers(1, 255))
    try:
        other = canonical.decode(bytes(encoded), size_bytes_max=SIZE)
    except PeerError:
        return
    assert canonical.encode(other) == bytes(encoded)
    assert canonical.digest(other) != canonical.digest(value)


@given(values)
def test_loose_spellings_of_a_value_are_refused(value: Json) -> None:
    data = canonical.encode(value)
    for loose in (b" " + data, data + b"\n", b"\xef\xbb\xbf" + data, data + b"," + data):
        with pytest.raises(PeerError):
            canonical.decode(loose, size_bytes_max=SIZE)


def test_the_size_limit_is_met_on_both_sides() -> None:
    data = canonical.encode("x" * 98)
    assert len(data) == 100
    assert canonical.decode(data, size_bytes_max=100) == "x" * 98
    with pytest.raises(PeerError, match="100 bytes of JSON; at most 99"):
        canonical.decode(data, size_bytes_max=99)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_depth_limit_is_met_on_both_sides(opening: bytes, closing: bytes) -> None:
    inner = b"1" if opening != b"[" else b""
    for limit in (1, 3, 32):
        fits = opening * limit + inner + closing * limit
        canonical.decode(fits, size_bytes_max=SIZE, depth_max=limit)
        with pytest.raises(PeerError, match="nested too deep"):
            canonical.decode(opening + fits + closing, size_bytes_max=SIZE, depth_max=limit)
    assert canonical.decode(b"1", size_bytes_max=1, depth_max=0) == 1


def test_depth_is_refused_before_anything_is_parsed() -> None:
    # A parser that recursed here would end the process or take minutes.
    for bomb in (b"[" * 900_000, b'{"a":' * 180_000, b'["\\"' + b"[" * 900_000):
        with pytest.raises(PeerError):
            canonical.decode(bomb, size_bytes_max=SIZE)


def test_a_refusal_costs_no_more_than_an_acceptance() -> None:
    # A reader whose work grows with the square of the size would take minutes for these.
    keys = b",".join(b'"k%05d":1' % number for number in range(60_000))
    for costly, reason in (
        (b"{" + keys + b',"k59999":1}', "stands twice"),
        (b"9" * 900_000, "beyond 53 bits"),
        (b'"' + b"\\" * 900_000, "not JSON"),
        (b'{"' * 400_000, "nested too deep"),
        (b"[" + b"0," * 400_000 + b"0 ]", "not canonical"),
    ):
        with pytest.raises(PeerError, match=reason):
            canonical.decode(costly, size_bytes_max=SIZE)


def test_brackets_inside_text_are_not_depth() -> None:
    value: Json = {'a"[[[[\\': ['[{"\\', "]]"]}
    assert canonical.decode(canonical.encode(value), size_bytes_max=SIZE, depth_max=2) == value


def test_nobody_raises_the_depth_limit() -> None:
    with pytest.raises(CallerError, match="at most 32"):
        canonical.decode(b"{}", size_bytes_max=SIZE, depth_max=33)


def test_encode_and_decode_have_the_same_depth_limit() -> None:
    value: Json = 1
    for _ in range(canonical.DEPTH_MAX):
        value = [value]
    assert canonical.decode(canonical.encode(value), size_bytes_max=SIZE) == value
    with pytest.raises(CallerError, match="nested too deep"):
        canonical.encode([value])


@pytest.mark.parametrize("number", [2**53 - 1, -(2**53) + 1])
def test_the_integer_limit_is_met_on_both_sides(number: int) -> None:
    assert canonical.decode(canonical.encode(number), size_bytes_max=SIZE) == number
    beyond = number + 1 if number > 0 else number - 1
    with pytest.raises(CallerError, match="beyond 53 bits"):
        canonical.encode(beyond)
    with pytest.raises(PeerError, match="beyond 53 bits"):
        canonical.decode(str(beyond).encode(), size_bytes_max=SIZE)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        ({"a": [None]}, 'null at "/a/0"'),
        (1.0, "fraction"),
        (float("nan"), "fraction"),
        (b"bytes", "value of type bytes"),
        ({1: 2}, "key of type int"),
        ({"a": {1, 2}}, "value of type set"),
        ("\ud800", "U\\+D800"),
        ("\u202e", "U\\+202E"),
        ({"\x00": 1}, "U\\+0000"),
        ("e\u0301", "normal form C"),
    ],
)
def test_what_our_own_side_must_not_say_is_the_caller_s_error(value: Json, reason: str) -> None:
    with pytest.raises(CallerError, match=reason):
        canonical.encode(value)


# Written out, so that a change of the set is a change here.
FORBIDDEN = [
    *range(0x00, 0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    *[0x061C, 0x200E, 0x200F],
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
]


def test_exactly_the_named_characters_are_forbidden() -> None:
    refused = []
    for point in [*range(0x0000, 0x3000), *range(0xD700, 0xE100)]:
        try:
            canonical.encode(chr(point))
        except CallerError as error:
            if "normal form" not in str(error):
                refused.append(point)
    assert refused == FORBIDDEN


def test_text_of_enumerations_is_text() -> None:
    class Kind(enum.StrEnum):
        REPORT = "report"

    assert canonical.encode({"kind": Kind.REPORT}) == b'{"kind":"report"}'


def test_a_refusal_is_one_line_of_printable_ascii() -> None:
    nasty = b'{"\\u202e\\u001b[31m\\n":null,"x":null}'
    for data in (nasty, '{"日本\\n":null}'.encode(), b'{"' + b"k" * 9000 + b'":null}'):
        with pytest.raises(PeerError) as caught:
            canonical.decode(data, size_bytes_max=SIZE)
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 200


def test_the_digest_is_sha_256_of_the_bytes() -> None:
    assert (
        canonical.digest({"a": 1})
        == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    )

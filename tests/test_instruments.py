"""Instruments: signed by all, each at home, checked by signatures alone; every wrong thing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pacts import Party, Table, day
from regime_texts import JP_US, KO_US, PACT, files
from relto import canonical
from relto import envelope as dsse
from relto.envelope import Envelope, Signature
from relto.errors import CallerError, PeerError
from relto.instruments import Instrument, check_instrument, deposited, made, merged
from relto.moves import Deposit, Move
from relto.records import decode_record
from relto.signed import draft_terms, words_of
from relto.terms import Terms, Words, agreement_of, extract_of


@pytest.fixture(scope="module")
def signed() -> Table:
    return Table().signed()


def fault(instrument: Instrument, words: Words) -> str:
    with pytest.raises(PeerError) as refused:
        check_instrument(instrument, words)
    return str(refused.value)


# terms


def test_the_terms_are_the_words_of_the_file_and_pins_of_all_that_they_stand_on() -> None:
    table = Table()
    terms = table.instrument.terms
    assert terms.agreement["clause"][0]["article"] == "4"
    assert sorted(terms.schemes) == ["AUS", "JPN", "KOR", "USA"]  # AUS may receive onward
    assert sorted(terms.pillars) == ["au-us", "jp-us", "ko-us"]
    assert agreement_of(terms, table.words).lasting.begins == "copies"
    payload = canonical.decode(terms.encode(), size_bytes_max=100_000)
    assert isinstance(payload, dict)
    assert Terms.from_json(payload).encode() == terms.encode()


def test_notes_spacing_and_order_of_keys_do_not_change_the_digest() -> None:
    table = Table()
    file = table.files[PACT].decode()
    other = {**table.files, PACT: ("# a note\n" + file.replace(" = ", "=")).encode()}
    assert draft_terms(other, "pact").encode() == table.instrument.terms.encode()


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (PACT, "Through the hub.", "Past the hub.", None),
        (KO_US, '    { KOR = ["III"], USA = ["C"] },\n', "", "another ko-us"),
        (JP_US, "sha256:0", "sha256:1", "another jp-us"),
        ("schemes/KOR.toml", "ONE", "UNO", "another scheme of KOR"),
        ("vocabulary.toml", '"IRN"', '"IRQ"', "another vocabulary"),
    ],
)
def test_a_change_of_what_they_stand_on_is_noticed(
    file: str, old: str, new: str, words: str | None
) -> None:
    table = Table()
    changed = {**table.files, file: table.files[file].replace(old.encode(), new.encode(), 1)}
    assert changed[file] != table.files[file]
    if file == PACT:
        assert draft_terms(changed, "pact").encode() != table.instrument.terms.encode()
        return
    with pytest.raises(PeerError, match=words):
        agreement_of(table.instrument.terms, words_of(changed))


def test_an_extract_does_not_change_with_what_only_its_parties_know() -> None:
    regime = words_of(files())
    other = words_of(files((KO_US, "receipt_within_h = 24", "receipt_within_h = 48")))
    assert regime.extract_digests["ko-us"] == other.extract_digests["ko-us"]


def test_an_extract_is_these_bytes() -> None:
    words = words_of(_with_ca())
    ko_us = extract_of(agreement_of(draft_terms(_with_ca(), "ko-us"), words), {})
    assert ko_us.pop("ca").keys() == {"KOR", "USA"}
    assert ko_us == {
        "format": "relto-extract/1",
        "id": "ko-us",
        "kind": "agreement",
        "title": {"en": "Korea and the United States", "ko": "한미 협정"},
        "parties": ["KOR", "USA"],
        "depositary": "USA",
        "rests_on": {},
        "life": {"begins": "signature", "notice_days": 0, "renews": False},
        "rows": [{"KOR": ["II"], "USA": ["S"]}, {"KOR": ["III"], "USA": ["C"]}],
    }


def _with_ca() -> dict[str, bytes]:
    stated = ", ".join(f'{p} = "sha256:{"0" * 64}"' for p in ("KOR", "USA"))
    return files((KO_US, "[[clause]]", f"ca = {{ {stated} }}\n[[clause]]"))


def test_terms_without_fingerprints_are_not_drafted() -> None:
    with pytest.raises(CallerError, match="no fingerprints"):
        draft_terms(files(), "pact")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "treaty"}, "no sound agreement"),
        ({"note": "x"}, 'unknown key "note"'),
        ({"title": {"en": "a\nb"}}, "control character"),
        ({"title": {"en": "A", "ko": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}, "too deeply"),
        ({"rests_on": ["ko-us"]}, "do not pin exactly"),
    ],
)
def test_terms_that_are_no_sound_agreement_are_refused(
    change: dict[str, object], words: str
) -> None:
    table = Table()
    terms = table.instrument.terms
    if "rests_on" in change:
        pillars = {k: v for k, v in terms.pillars.items() if k != "au-us"}
        terms = replace(terms, pillars=pillars)
    else:
        terms = replace(terms, agreement={**terms.agreement, **change})
    with pytest.raises(PeerError, match=words):
        agreement_of(terms, table.words)


# signing


def test_three_parties_sign_each_at_home_in_any_order_and_it_is_in_force() -> None:
    table = Table()
    table.move("USA", "opened", day(1)).deposit(day(1))
    draft = table.instrument
    copies = []
    for number, name in enumerate(("JPN", "USA", "KOR"), start=2):
        table.instrument = draft  # each has only what was opened
        copies.append(table.move(name, "signed", day(number)).instrument)
    table.instrument = merged(merged(copies[2], copies[0]), copies[1])
    assert table.deposit(day(6)) == ()
    checked = check_instrument(table.instrument, table.words)
    assert (checked.life.phase, checked.life.begins, checked.waiting) == ("in-force", day(6), ())


def test_the_file_says_all_and_reads_back_as_it_was(signed: Table) -> None:
    data = signed.instrument.encode()
    again = Instrument.decode(data)
    assert again == signed.instrument
    assert again.encode() == data
    assert check_instrument(again, signed.words).life.phase == "in-force"


def test_what_the_depositary_has_not_received_waits_and_does_not_count() -> None:
    table = Table()
    table.move("USA", "opened", day(1)).deposit(day(1))
    for name in ("USA", "KOR", "JPN"):
        table.move(name, "signed", day(2))
    checked = check_instrument(table.instrument, table.words)
    assert checked.life.phase == "open"
    assert [m.party for m in checked.waiting] == ["USA", "KOR", "JPN"]


def test_a_withdrawal_and_a_last_signature_that_cross_have_one_order_for_all() -> None:
    table = Table()
    table.move("USA", "opened", day(1)).deposit(day(1))
    table.move("USA", "signed", day(2)).move("JPN", "signed", day(2)).deposit(day(2))
    before = table.instrument
    last = table.move("KOR", "signed", day(3)).instrument
    table.instrument = before
    called_off = table.move("JPN", "withdrawn", day(3)).instrument
    table.instrument = merged(called_off, last)  # the withdrawal came in first
    assert len(table.deposit(day(4))) == 1
    checked = check_instrument(table.instrument, table.words)
    assert (checked.life.phase, [m.move for m in checked.waiting]) == ("withdrawn", ["signed"])
    table.instrument = merged(last, called_off)
    table.deposit(day(4))
    assert check_instrument(table.instrument, table.words).life.phase == "in-force"


def test_terms_signed_by_a_key_of_the_year_before_need_no_new_signature_later() -> None:
    table = Table().signed()
    table.move("KOR", "suspended", "2020-12-30T00:00:00Z").deposit("2020-12-30T00:00:00Z")
    late = Party.of("KOR", made=datetime(2021, 6, 1, tzinfo=UTC))
    with pytest.raises(PeerError, match="the terms do not state for it"):
        table.move("KOR", "resumed", "2021-06-02T00:00:00Z", by=late).deposit(day(5))


# wrong things


def test_another_partys_key_moves_nothing() -> None:
    table = Table()
    table.move("USA", "opened", day(1)).deposit(day(1))
    table.move("KOR", "signed", day(2), by=table.parties["JPN"])
    words = fault(table.instrument, table.words)
    assert "signed of KOR" in words


def test_a_key_that_has_expired_signs_nothing() -> None:
    table = Table()
    table.move("USA", "opened", "2021-02-01T00:00:00Z")
    assert "expired" in fault(table.instrument, table.words)


def test_an_officers_key_does_not_sign_for_its_party() -> None:
    table = Table()
    table.move("KOR", "signed", day(2), by=table.parties["KOR"].officer("kim"))
    assert "nobody of KOR in the role signing" in fault(table.instrument, table.words)


def test_who_says_that_it_signed_has_signed_these_terms(signed: Table) -> None:
    for number, signature in enumerate(signed.instrument.signatures):
        others = tuple(s for s in signed.instrument.signatures if s is not signature)
        assert "says that it signed, but" in fault(signed.without(signatures=others), signed.words)
        bad = Signature(signature.keyid, signature.sig[:-1] + bytes([signature.sig[-1] ^ 1]))
        false = (*others[:number], bad, *others[number:])
        assert "says that it signed, but" in fault(signed.without(signatures=false), signed.words)


def test_signatures_of_other_terms_are_none_of_these(signed: Table) -> None:
    changed = {PACT: signed.files[PACT].replace(b"Through the hub.", b"Past the hub.")}
    mixed = replace(signed.instrument, terms=draft_terms({**signed.files, **changed}, "pact"))
    assert "about other terms" in fault(mixed, signed.words)


def test_a_chain_with_a_gap_a_swap_or_a_repeat_is_refused(signed: Table) -> None:
    chain = signed.instrument.deposits
    gap, swap = (chain[0], *chain[2:]), (chain[1], chain[0], *chain[2:])
    for wrong in (chain[1:], gap, swap, (*chain, chain[-1])):
        assert "does not follow" in fault(signed.without(deposits=wrong), signed.words)


def test_a_deposit_names_the_one_before_it(signed: Table) -> None:
    """So that a depositary that changes the past has signed two pasts."""
    usa, last = signed.parties["USA"], signed.instrument.deposits[-1]
    record = replace(decode_record(last, Deposit), previous=signed.instrument.deposits[0].record_id)
    envelope = dsse.sign(Deposit.type(), record.encode(), [usa.signer])
    wrong = signed.without(deposits=(*signed.instrument.deposits[:-1], envelope))
    assert "deposit 4 does not follow deposit 3" in fault(wrong, signed.words)


def test_deposits_do_not_go_back_in_time() -> None:
    table = Table()
    table.move("USA", "opened", day(1)).deposit(day(1))
    table.move("KOR", "signed", day(2)).deposit(day(5))
    table.move("JPN", "signed", day(3)).deposit(day(5))
    last = table.instrument.deposits[-1]
    record = replace(decode_record(last, Deposit), at=day(4))
    envelope = dsse.sign(Deposit.type(), record.encode(), [table.parties["USA"].signer])
    wrong = table.without(deposits=(*table.instrument.deposits[:-1], envelope))
    assert "before the move before it" in fault(wrong, table.words)


def test_a_move_that_is_missing_or_stands_twice_is_noticed(signed: Table) -> None:
    moves = signed.instrument.moves
    assert "of no move in the file" in fault(signed.without(moves=moves[:-1]), signed.words)
    twice = signed.without(moves=(*moves, moves[0]))
    assert "stands in the file twice" in fault(twice, signed.words)


def test_only_the_depositary_deposits() -> None:
    table = Table()
    table.move("USA", "opened", day(1))
    table.deposit(day(1), by=table.parties["KOR"])
    assert "deposit 1" in fault(table.instrument, table.words)
    table = Table()
    move = table.move("USA", "opened", day(1)).instrument.moves[0]
    korea = table.parties["KOR"]
    record = Deposit("KOR", "pact", table.instrument.digest, 1, "", move.record_id, day(1))
    envelope = dsse.sign(Deposit.type(), record.encode(), [korea.signer])
    certificates = (*table.instrument.certificates, korea.certificate, korea.ca)
    wrong = table.without(deposits=(envelope,), certificates=certificates)
    assert "not by the depositary, USA" in fault(wrong, table.words)


def test_a_depositary_that_deposits_what_is_illegal_is_not_believed(signed: Table) -> None:
    usa, korea = signed.parties["USA"], signed.parties["KOR"]
    digest, last = signed.instrument.digest, signed.instrument.deposits[-1]
    withdrawn = Move("KOR", "pact", digest, "withdrawn", 99, day(5))
    instrument = made(signed.instrument, withdrawn, korea.signer, (korea.certificate,))
    move = instrument.moves[-1].record_id
    record = Deposit("USA", "pact", digest, 5, last.record_id, move, day(5))
    envelope = dsse.sign(Deposit.type(), record.encode(), [usa.signer])
    wrong = replace(instrument, deposits=(*instrument.deposits, envelope))
    assert "withdrawn of KOR is out of place" in fault(wrong, signed.words)


def test_a_ca_with_another_fingerprint_is_refused_before_anything_else(signed: Table) -> None:
    stranger = Party.of("KOR")
    wrong = signed.without(certificates=(*signed.instrument.certificates, stranger.ca))
    assert "which the terms do not state for it" in fault(wrong, signed.words)


def test_without_a_partys_ca_none_of_its_signatures_counts(signed: Table) -> None:
    ders = tuple(d for d in signed.instrument.certificates if d != signed.parties["KOR"].ca)
    assert "no CA of" in fault(signed.without(certificates=ders), signed.words)


def test_two_stories_of_one_depositary_show_when_copies_meet() -> None:
    table = Table()
    table.move("USA", "opened", day(1)).deposit(day(1))
    before = table.instrument
    table.move("KOR", "signed", day(2)).deposit(day(2))
    to_korea = table.instrument
    table.instrument = before
    table.move("JPN", "withdrawn", day(2)).deposit(day(2))
    with pytest.raises(PeerError, match="two different deposits 2"):
        merged(to_korea, table.instrument)


def test_copies_of_different_terms_are_not_merged(signed: Table) -> None:
    with pytest.raises(CallerError, match="different terms"):
        merged(signed.instrument, Table().instrument)


def test_merging_is_the_same_whichever_copy_comes_first_and_repeats_nothing() -> None:
    table = Table().signed()
    whole = table.instrument
    part = replace(whole, deposits=whole.deposits[:2], moves=whole.moves[:2])
    for one in (merged(whole, part), merged(part, whole), merged(whole, whole)):
        assert set(one.moves) == set(whole.moves)
        assert (one.deposits, len(one.moves)) == (whole.deposits, len(whole.moves))
        assert check_instrument(one, table.words).life.phase == "in-force"


def test_every_byte_of_a_signed_file_matters(signed: Table) -> None:
    """One byte changed anywhere is refused, or the file says exactly the same."""
    data = signed.instrument.encode()
    for place in range(7, len(data), 211):
        wrong = data[:place] + bytes([data[place] ^ 2]) + data[place + 1 :]
        try:
            found = Instrument.decode(wrong)
            checked = check_instrument(found, signed.words)
        except (PeerError, CallerError):
            continue
        assert checked == check_instrument(signed.instrument, signed.words), place


def test_records_are_strict() -> None:
    digest = "0" * 64
    good = Move("KOR", "pact", digest, "signed", 1, day(1)).to_json()
    for wrong, words in (
        ({**good, "move": "paused"}, "there are opened, signed"),
        ({**good, "effective": day(2)}, "keys other than"),
        ({**good, "move": "termination-notified"}, "keys other than"),
        ({**good, "terms": "0"}, "hexadecimal"),
        ({**good, "agreement": "../x"}, "no id of one"),
        ({**good, "party": "korea"}, "party"),
        ({k: v for k, v in good.items() if k != "at"}, "keys other than"),
    ):
        with pytest.raises(PeerError, match=words):
            Move.from_json(wrong)
    first = Deposit("USA", "pact", digest, 1, "", digest, day(1)).to_json()
    assert Deposit.from_json(first).to_json() == first
    for wrong, words in (
        ({**first, "number": 0}, "count from 1"),
        ({**first, "number": 2}, "keys other than"),
        ({**first, "previous": digest}, "keys other than"),
    ):
        with pytest.raises(PeerError, match=words):
            Deposit.from_json(wrong)


def test_a_file_of_another_format_or_with_more_in_it_is_refused(signed: Table) -> None:
    data = canonical.decode(signed.instrument.encode(), size_bytes_max=10**6, depth_max=32)
    assert isinstance(data, dict)
    for change, words in (
        ({"format": "relto-instrument/2"}, "of format"),
        ({"note": "x"}, "keys other than"),
        ({"certificates": ["AA"]}, "not base64"),
        ({"signatures": [{"keyid": "0", "sig": "AA=="}]}, "keyid"),
        ({"deposits": [{}] * 10_001}, "list of at most 10000"),
    ):
        with pytest.raises(PeerError, match=words):
            Instrument.decode(canonical.encode({**data, **change}))


def test_what_is_deposited_names_the_move_by_its_record(signed: Table) -> None:
    for envelope in signed.instrument.deposits:
        deposit = decode_record(envelope, Deposit)
        assert deposit.move in {e.record_id for e in signed.instrument.moves}
    assert isinstance(signed.instrument.moves[0], Envelope)
    assert deposited(signed.instrument, signed.words, signed.parties["USA"].signer, day(9)) == (
        signed.instrument,
        (),
    )

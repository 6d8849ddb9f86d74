"""Coverage-guided fuzzing of every decoder of outside bytes (F-33), a few seconds each.

The oracle: bytes are either refused with one clean line, or they are exactly what encoding gives
back. Each target runs in a process of its own: libFuzzer ends the process that it runs in. After a
change to a decoder, look for longer with `RELTO_FUZZ_SECONDS=600 pytest tests/test_fuzz.py`.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relto import canonical, envelope, payloads, seal, streams
from relto.answers import read_json
from relto.envelope import Envelope
from relto.errors import PeerError, QuestionError
from relto.hop import Hop
from relto.payloads import Payload
from relto.questions import decode_question
from relto.records import (
    Approval,
    Hold,
    Manifest,
    NodeKey,
    Receipt,
    Record,
    Refusal,
    Release,
    decode_record,
)
from relto.regime import check_regime, load_regime
from relto.seal import HpkePrivateKey

RUNS = 20_000
SLOW_RUNS = 2_000  # of a whole regime each
SECONDS = int(os.environ.get("RELTO_FUZZ_SECONDS", "0"))  # 0: RUNS runs instead
SIZE_BYTES_MAX = 2_000
KEY = bytes(32)
COMMITMENT = streams.commitment(KEY)


def _canonical(data: bytes) -> None:
    assert canonical.encode(canonical.decode(data, size_bytes_max=SIZE_BYTES_MAX)) == data


def _envelope(data: bytes) -> None:
    received = Envelope.decode(data, size_bytes_max=SIZE_BYTES_MAX)
    assert received.encode() == data
    assert Envelope.from_json(received.to_json()) == received


def _payload(data: bytes) -> None:
    assert Payload.decode(data).encode() == data


def _padding(data: bytes) -> None:
    assert payloads.pad(payloads.unpad(data)) == data


def _stream(data: bytes) -> None:
    plaintext = streams.decrypt(KEY, data, commitment=COMMITMENT)
    assert streams.encrypt(KEY, plaintext) == data


def _unwrap(data: bytes) -> None:
    plaintext = seal.unwrap(KEY, data, b"row")
    assert seal.wrap(KEY, data[: seal.WRAP_NONCE_BYTES], plaintext, b"row") == data


def _hop(data: bytes) -> None:
    # HPKE draws its own key, so that nothing encodes back: no fuzzer finds bytes that open.
    seal.open_sealed(data, HpkePrivateKey(KEY), b"info")
    raise AssertionError("random bytes opened")


RECORDS = (Manifest, Approval, Release, Receipt, Refusal, Hold, NodeKey)


def _record(data: bytes) -> None:
    kind = RECORDS[data[0] % len(RECORDS)] if data else Manifest
    envelope_ = Envelope(kind.type(), data[1:], (envelope.Signature("0" * 64, b"x"),))
    record: Record = decode_record(envelope_, kind)
    assert record.encode() == data[1:]


def _hop_plaintext(data: bytes) -> None:
    assert Hop.decode(data).encode() == data


def _question(data: bytes) -> None:
    with contextlib.suppress(QuestionError):
        decode_question(read_json(data), REGIME)


def _regime_file(data: bytes) -> None:
    """Any file of a regime: never a traceback, and no regime with errors."""
    names = ("schemes/KOR.toml", "vocabulary.toml", "agreements/a.toml", "timeline.toml")
    files = {**FILES, names[data[0] % len(names)]: data[1:]} if data else FILES
    regime, problems = check_regime(files)
    assert (regime is None) == bool(problems.errors)
    assert all(str(p).isprintable() for p in (*problems.errors, *problems.warnings))


FILES = {
    "schemes/KOR.toml": b'party = "KOR"\nname = { en = "K" }\n'
    b'[[mark]]\ncode = "II"\nbanner = { en = "two" }\n',
    "schemes/USA.toml": b'party = "USA"\nname = { en = "U" }\n'
    b'[[mark]]\ncode = "S"\nbanner = { en = "SECRET" }\n',
    "vocabulary.toml": b'topics = ["missile.launch"]\nsubjects = ["PRK"]\n',
    "agreements/a.toml": b'format = "relto-agreement/1"\nid = "a"\nkind = "agreement"\n'
    b'parties = ["KOR", "USA"]\ndepositary = "USA"\ntitle = { en = "A" }\n'
    b'[[clause]]\narticle = "1"\ntext = { en = "x" }\n[clause.share]\nfrom = ["KOR"]\n'
    b'to = ["USA"]\nconsent = "label"\nrelease = "review"\n'
    b'[[clause]]\narticle = "2"\ntext = { en = "y" }\n[clause.equate]\n'
    b'rows = [{ KOR = ["II"], USA = ["S"] }]\n',
    "timeline.toml": b'[[event]]\nagreement = "a"\nat = 2014-12-29T00:00:00Z\nevent = "in-force"\n',
}
REGIME = load_regime(FILES)
QUESTION = (
    b'{"at":"2015-01-05T00:00:00Z","holder":"KOR","to":"USA","item":{"id":"i1","originator":"KOR",'
    b'"mark":"KOR:II","releasable_to":["USA"],"kind":"report","topics":["missile.launch"],'
    b'"about":["PRK"]}}'
)
RECEIPT = Receipt("0" * 64, "KOR", ("1" * 64,), "2015-01-05T00:00:00Z")
HOP = Hop((Envelope(Receipt.type(), RECEIPT.encode(), (envelope.Signature("0" * 64, b"x"),)),))

TARGETS: dict[str, Callable[[bytes], None]] = {
    "canonical": _canonical,
    "envelope": _envelope,
    "payload": _payload,
    "padding": _padding,
    "stream": _stream,
    "unwrap": _unwrap,
    "hop": _hop,
    "record": _record,
    "hop-plaintext": _hop_plaintext,
    "question": _question,
    "regime-file": _regime_file,
}

_ENVELOPE = Envelope("a/b", b"x", (envelope.Signature("0" * 64, b"x"),))

SEEDS: dict[str, list[bytes]] = {
    "canonical": [
        b'{"a":[1,-2,true,"\\n\\"\xed\x95\x9c"],"b":{}}',
        b"[[],{}]",
        b"9007199254740991",
    ],
    "envelope": [_ENVELOPE.encode()],
    "payload": [Payload({"title": "t", "media_type": "a/b", "name": "n"}, b"body").encode()],
    "padding": [payloads.pad(b"hello"), payloads.pad(bytes(300))],
    "stream": [streams.encrypt(KEY, b""), streams.encrypt(KEY, b"hello")],
    "unwrap": [seal.wrap(KEY, bytes(24), b"hello", b"row")],
    "hop": [bytes(seal.HYBRID.enc_bytes + 16)],
    "record": [bytes([RECORDS.index(Receipt)]) + RECEIPT.encode()],
    "hop-plaintext": [HOP.encode()],
    "question": [QUESTION],
    "regime-file": [
        bytes([number]) + FILES[name]
        for number, name in enumerate(
            ("schemes/KOR.toml", "vocabulary.toml", "agreements/a.toml", "timeline.toml")
        )
    ],
}


# Instruments our modules as they are imported; the rest of what they call is not watched.
RUNNER = """
import sys
import atheris
with atheris.instrument_imports(include=["relto", "rfc8785"]):
    import test_fuzz
test_fuzz.fuzz(sys.argv.pop(1))
"""


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_are_accepted_or_refused_cleanly(target: str) -> None:
    for seed in SEEDS[target]:
        if target == "hop":
            with pytest.raises(PeerError):
                TARGETS[target](seed)
        else:
            TARGETS[target](seed)


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it has no wheel for this Python (requirements/fuzz.txt)",
)
@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_are_accepted_that_encoding_does_not_give(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    runs = SLOW_RUNS if target == "regime-file" else RUNS
    amount = f"-max_total_time={SECONDS}" if SECONDS else f"-runs={runs}"
    options = [amount, f"-max_len={SIZE_BYTES_MAX}", "-seed=1", "-timeout=10"]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, target, *options, str(corpus)],
        cwd=tmp_path,  # libFuzzer writes what it finds here
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Done" in done.stderr


def fuzz(target: str) -> None:
    """Feed `target` until libFuzzer has enough, and end the process."""
    import atheris

    def one_input(data: bytes) -> None:
        try:
            TARGETS[target](data)
        except PeerError as error:
            line = str(error)
            assert line.isprintable(), line  # one line, and nothing that a terminal obeys

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

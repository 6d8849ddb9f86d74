"""The demo as `make demo` runs it: a story with a check at every step."""

import shutil
import subprocess
import sys
from pathlib import Path

from e2e.conftest import TISA

TIMEOUT_S = 180
LINES = [
    "Tokyo wants to sign all the same: REFUSED, it is withdrawn for good",
    "Seoul offers Tokyo its report on a launch: REFUSED, not-in-force by tisa-2014/4",
    "Tokyo offers Seoul its own: REFUSED, not-in-force by tisa-2014/4",
    "it is in Washington: 군사II급비밀 → SECRET, receipt verified in Seoul",
    "somebody changes two words in Seoul's copy: REFUSED, it is not what was opened",
    "| now possible: KOR → USA → JPN by tisa-2014/4; such as KOR's report, KOR:II, missile, PRK",
    "the signed copies are in Washington; each node is given the file, and decides by it",
    "in force at Seoul's node: gsomia-jpn-usa-2007, gsomia-kor-usa-1987, tisa-2014",
    "disclosure officer kim of Seoul signs the release to Tokyo",
    "kill -9; Seoul keeps what has no receipt from Tokyo",
    "it comes back, and the item still waits for its officer",
    "disclosure officer smith of Washington signs the release to Tokyo",
    "Tokyo has it: 군사II급비밀 → SECRET → 極秘",
    "Seoul has it: 極秘 → SECRET → 군사II급비밀",
    "REFUSED, outside-topic by tisa-2014/4",
    "REFUSED, mark-not-covered by tisa-2014/4",
    "REFUSED, third-party-rule",
    "Seoul's node calls Tokyo's directly: REFUSED, no answer and no word why",
    "verified anew at the nodes that hold them",
    "all of it happened as it should",
]
ON_ANOTHER_REGIME = """
import sys
from pathlib import Path
from relto.apps.demo import __main__ as demo
demo.find_regime = lambda: Path(sys.argv[1])
sys.exit(demo.main())
"""


def played(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def test_the_demo_tells_its_story_and_all_of_it_happens() -> None:
    demo = played("-m", "relto.apps.demo")
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr == ""
    at = 0
    for line in LINES:  # in this order
        found = demo.stdout.find(line, at)
        assert found >= 0, f"not told, or not in its place: {line}\n{demo.stdout}"
        at = found
    assert demo.stdout.count("REFUSED") == 8


def test_the_demo_fails_where_the_pact_never_came_into_force(tmp_path: Path) -> None:
    regime = tmp_path / "regime"
    shutil.copytree(TISA, regime)
    file = regime / "agreements" / "tisa-2014.toml"
    later = 'begins = "date"\nbegins_at = 2030-01-01T00:00:00Z'
    text = file.read_text(encoding="utf-8")
    assert text.count('begins = "copies"') == 1
    file.write_text(text.replace('begins = "copies"', later), encoding="utf-8")
    demo = played("-c", ON_ANOTHER_REGIME, str(regime))
    assert demo.returncode == 1
    assert "this did not happen as it should: not in force" in demo.stderr
    assert "all of it happened" not in demo.stdout

"""The demo runs as its user would run it, tells its story, and notices when it goes wrong."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
STORY = (
    "Seoul offers Tokyo its report on a launch: REFUSED, not-in-force by tisa-2014/4",
    "Tokyo offers Seoul its own: REFUSED, not-in-force by tisa-2014/4",
    "it is in Washington: 군사II급비밀 → SECRET, receipt verified in Seoul",
    "kill -9; Seoul keeps what has no receipt from Tokyo",
    "Tokyo has it: 군사II급비밀 → SECRET → 極秘",
    "Seoul has it: 極秘 → SECRET → 군사II급비밀",
    "it finds its way back to Tokyo over Washington, by own-information+tisa-2014/4 and",
    "a report on the intrusion of November 2014: REFUSED, outside-topic by tisa-2014/4",
    "Seoul offers a grade I secret: REFUSED, mark-not-covered by tisa-2014/4",
    "what Seoul gave it in December under the agreement of 1987: REFUSED, third-party-rule",
    "Seoul's node calls Tokyo's directly: REFUSED, no answer and no word why",
    "all of it happened as it should",
)


def demo(checkout: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "relto.apps.demo"],
        env={"PYTHONPATH": str(checkout / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_demo_tells_its_story() -> None:
    done = demo(REPOSITORY)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    places = [done.stdout.find(line) for line in STORY]
    assert -1 not in places, STORY[places.index(-1)]
    assert places == sorted(places)
    assert re.search(r"\d\d signatures on them, verified anew", done.stdout)


def test_the_demo_fails_where_the_arrangement_never_takes_effect(tmp_path: Path) -> None:
    for folder in ("src", "regimes"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    timeline = tmp_path / "regimes" / "tisa" / "timeline.toml"
    text = timeline.read_text(encoding="utf-8")
    changed = re.sub(
        r'(agreement = "tisa-2014"\nat = )2014-\S+', r"\g<1>2034-01-01T00:00:00Z", text
    )
    assert changed != text
    timeline.write_text(changed, encoding="utf-8")
    done = demo(tmp_path)
    assert done.returncode == 1
    assert "this did not happen as it should" in done.stderr

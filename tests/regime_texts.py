"""A small sound regime as texts of files, for tests that change one thing in it."""

FILES = {
    "schemes/KOR.toml": """\
party = "KOR"
name = { en = "Korea", ko = "대한민국" }
[[mark]]
code = "I"
banner = { ko = "군사I급비밀", en = "ONE" }
[[mark]]
code = "II"
banner = { ko = "군사II급비밀", en = "TWO" }
[[mark]]
code = "III"
banner = { ko = "군사III급비밀", en = "THREE" }
""",
    "schemes/USA.toml": """\
party = "USA"
name = { en = "United States", ko = "미국" }
[[mark]]
code = "S"
banner = { en = "SECRET", ko = "SECRET" }
[[mark]]
code = "C"
banner = { en = "CONFIDENTIAL", ko = "CONFIDENTIAL" }
""",
    "schemes/JPN.toml": """\
party = "JPN"
name = { en = "Japan", ko = "일본" }
[[mark]]
code = "GOKUHI"
banner = { en = "GOKUHI", ko = "극비" }
[[mark]]
code = "TOKUTEI"
beside = "GOKUHI"
banner = { en = "TOKUTEI", ko = "특정비밀" }
[[mark]]
code = "HI"
banner = { en = "HI", ko = "비" }
""",
    "schemes/AUS.toml": """\
party = "AUS"
name = { en = "Australia", ko = "호주" }
[[mark]]
code = "S"
banner = { en = "SECRET", ko = "SECRET" }
""",
    "vocabulary.toml": """\
topics = [
    "missile.launch",
    "cyber",
]
subjects = ["PRK", "IRN"]
""",
    "agreements/pact.toml": """\
format = "relto-agreement/1"
id = "pact"
kind = "arrangement"
parties = ["JPN", "KOR", "USA"]
depositary = "USA"
rests_on = ["ko-us", "jp-us"]
title = { en = "The pact", ko = "약정" }

[[clause]]
article = "4"
text = { en = "Through the hub.", ko = "허브를 통하여." }
[clause.share]
from = ["JPN", "KOR"]
to = ["JPN", "KOR"]
via = "USA"
via_reads = true
protected_by = { "JPN-USA" = "jp-us", "KOR-USA" = "ko-us" }
about = ["PRK"]
topics = ["missile"]
kinds = ["report"]
marks = ["KOR:II", "JPN:GOKUHI"]
consent = "label"
release = "review"

[[clause]]
article = "5"
text = { en = "Onward.", ko = "전달." }
[clause.onward]
by = ["USA"]
to = ["AUS"]
protected_by = { "AUS-USA" = "au-us" }
consent = "item"
release = "review"
""",
    "agreements/ko-us.toml": """\
format = "relto-agreement/1"
id = "ko-us"
kind = "agreement"
parties = ["KOR", "USA"]
depositary = "USA"
title = { en = "Korea and the United States", ko = "한미 협정" }
[[clause]]
article = "2"
text = { en = "Equal marks.", ko = "상응 등급." }
[clause.equate]
rows = [
    { KOR = ["II"], USA = ["S"] },
    { KOR = ["III"], USA = ["C"] },
]
[[clause]]
article = "3"
text = { en = "Care.", ko = "보호." }
[clause.protect]
receipt_within_h = 24
return_or_destroy = true
report_compromise_within_h = 0
two_person_from = ["KOR:II"]
""",
    "agreements/jp-us.toml": """\
format = "relto-agreement/1"
id = "jp-us"
kind = "agreement"
parties = ["JPN", "USA"]
depositary = "JPN"
title = { en = "Japan and the United States", ko = "미일 협정" }
ca = { JPN = "sha256:@", USA = "sha256:@" }
[[clause]]
article = "2"
text = { en = "Equal marks.", ko = "상응 등급." }
[clause.equate]
rows = [ { JPN = ["GOKUHI", "TOKUTEI"], USA = ["S"] }, { JPN = ["HI"], USA = ["C"] } ]
""".replace("@", "0" * 64),
    "agreements/au-us.toml": """\
format = "relto-agreement/1"
id = "au-us"
kind = "agreement"
parties = ["AUS", "USA"]
depositary = "USA"
title = { en = "Australia and the United States", ko = "호미 협정" }
[[clause]]
article = "2"
text = { en = "Equal marks.", ko = "상응 등급." }
[clause.equate]
rows = [ { AUS = ["S"], USA = ["S"] } ]
""",
    "timeline.toml": """\
[[event]]
agreement = "ko-us"
at = 1987-09-24T00:00:00-04:00
event = "in-force"
[[event]]
agreement = "jp-us"
at = 2007-08-10T00:00:00+09:00
event = "in-force"
[[event]]
agreement = "pact"
at = 2014-12-29T00:00:00+09:00
event = "in-force"
[[event]]
agreement = "au-us"
at = 2000-01-01T00:00:00Z
event = "in-force"
""",
}

PACT = "agreements/pact.toml"
KO_US = "agreements/ko-us.toml"
JP_US = "agreements/jp-us.toml"
KOR = "schemes/KOR.toml"
JPN = "schemes/JPN.toml"
WORDS = "vocabulary.toml"
TIMELINE = "timeline.toml"


def files(*changes: tuple[str, str, str]) -> dict[str, bytes]:
    """The regime's files with each (file, old, new) changed in one place."""
    texts = dict(FILES)
    for file, old, new in changes:
        assert texts[file].count(old) >= 1, (file, old)
        texts[file] = texts[file].replace(old, new, 1)
    return {name: text.encode() for name, text in texts.items()}

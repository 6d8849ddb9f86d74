"""All three processes killed at random moments under load: nothing lost, repeated or unexpected."""

import random

from crash.nodes import kill_at_random, under_load, victims

KILLS = 5


def test_killed_under_load_nothing_is_lost_repeated_or_unexpected() -> None:
    with victims() as nodes:
        with under_load(nodes):
            kill_at_random(nodes, KILLS, random.Random(20141229))
        nodes.settle()
        findings = nodes.verdict()
    assert findings.is_clean, findings
    assert findings.seen["delivered"] == len(nodes.acknowledged) > 20

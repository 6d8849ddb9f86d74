"""A crowd at a node's socket: people who do not wait for each other, in a process of their own.

They offer at a rate, whatever becomes of what they offered before, and cost little: one thread, one
request made beforehand, an answer read no further than has to be.
"""

import json
import multiprocessing
import os
import re
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from relto.links.http import ClientWire, Limits

__all__ = ["Crowd", "Offered"]

NICE = 10  # in truth they have machines of their own
AT_ONCE_MAX = 256  # people who wait for an answer; whoever comes then finds the door blocked
ANSWER_S = 10.0
READ_BYTES = 16 * 1024
LIMITS = Limits(body_bytes_max=16 * 1024 * 1024)
_HEAD = re.compile(rb"HTTP/1\.1 (\d+) .*?\r\ncontent-length: (\d+)\r\n", re.IGNORECASE | re.DOTALL)


@dataclass
class Offered:
    """What they were told, how long it took, and what was taken: its id and who made it."""

    told: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    answer_ms: list[float] = field(default_factory=list)
    taken: list[tuple[str, str]] = field(default_factory=list)


class Crowd:
    """Offers to the sockets of nodes, in turn, `rate_per_s` requests a second for `seconds`.

    `requests` has for each party its socket and the body of a POST to /drafts.
    """

    def __init__(
        self, requests: Mapping[str, tuple[Path, bytes]], rate_per_s: float, seconds: float
    ) -> None:
        here, there = multiprocessing.Pipe()
        self._results: Connection = here
        self._process = multiprocessing.get_context("spawn").Process(
            target=_offer, args=(dict(requests), rate_per_s, seconds, there), daemon=True
        )
        self._process.start()
        there.close()

    @property
    def is_there(self) -> bool:
        """Whether they still offer, or wait for answers."""
        return not self._results.poll()

    def offered(self) -> Offered:
        """All of it, once they have gone."""
        found: Offered = self._results.recv()
        self._process.join()
        return found


@dataclass(eq=False)
class _Asked:
    socket: socket.socket
    maker: str
    began_s: float
    answer: bytes = b""


def _offer(
    requests: dict[str, tuple[Path, bytes]], rate_per_s: float, seconds: float, results: Connection
) -> None:
    os.nice(NICE)
    offered = Offered()
    wires = {
        maker: (str(path), ClientWire(LIMITS).ask("POST", "/drafts", body))
        for maker, (path, body) in requests.items()
    }
    makers = deque(sorted(wires))
    waiting: dict[_Asked, None] = {}  # the longest first
    with selectors.DefaultSelector() as selector:
        began_s = time.monotonic()
        number = 0
        while (now_s := time.monotonic()) < began_s + seconds or waiting:
            due = min(now_s - began_s, seconds) * rate_per_s
            while number < due:
                number += 1
                makers.rotate()
                path, request = wires[makers[0]]
                asked = _ask(makers[0], path, request, offered, len(waiting))
                if asked is not None:
                    waiting[asked] = None
                    selector.register(asked.socket, selectors.EVENT_READ, asked)
            for key, _ in selector.select(0.5 / rate_per_s):
                if _read(key.data, offered):
                    selector.unregister(key.fileobj)
                    del waiting[key.data]
                    key.data.socket.close()
            while waiting and next(iter(waiting)).began_s < now_s - ANSWER_S:
                late = next(iter(waiting))
                offered.told["no answer: time is up"] += 1
                selector.unregister(late.socket)
                late.socket.close()
                del waiting[late]
    results.send(offered)


def _ask(maker: str, path: str, request: bytes, offered: Offered, waiting: int) -> _Asked | None:
    """Connect and send all of it, which a socket's buffer holds."""
    if waiting >= AT_ONCE_MAX:
        offered.told["no answer: the door is blocked"] += 1
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(path)
        if connection.send(request) < len(request):
            raise BlockingIOError
    except OSError as e:
        connection.close()
        offered.told[f"no answer: {type(e).__name__}"] += 1
        return None
    offered.attempts[maker] += 1
    return _Asked(connection, maker, time.monotonic())


def _read(asked: _Asked, offered: Offered) -> bool:
    """Take what came; whether that is all."""
    try:
        data = asked.socket.recv(READ_BYTES)
    except BlockingIOError:
        return False
    except OSError as e:
        offered.told[f"no answer: {type(e).__name__}"] += 1
        return True
    asked.answer += data
    head = _HEAD.match(asked.answer)
    start = asked.answer.find(b"\r\n\r\n") + 4
    if data and (head is None or start < 4 or len(asked.answer) < start + int(head[2])):
        return False
    if head is None or start < 4:
        offered.told["no answer: it was cut short"] += 1
        return True
    body: Any = json.loads(asked.answer[start:])
    if head[1] == b"200":
        offered.told["taken"] += 1
        offered.taken.append((str(body["id"]), asked.maker))
    else:
        offered.told[f"refused: {body.get('error')}"] += 1
    offered.answer_ms.append((time.monotonic() - asked.began_s) * 1000)
    return True

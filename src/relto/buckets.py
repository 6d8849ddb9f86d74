"""Token buckets: how often something may be done, by whoever does it."""

__all__ = ["Buckets"]

NAMES_MAX = 1024  # those whose bucket is full again are forgotten beyond it


class Buckets:
    """Token buckets by name: `per_s` tokens a second each, at most `size` of them saved.

    A bucket is the instant at which it will be full again (GCRA, ITU-T I.371). One that is full is
    as one that was never used, so that not more are kept than lately had a token taken.
    """

    def __init__(self, per_s: float, size: int) -> None:
        self._token_ms = 1000 / per_s
        self._size_ms = self._token_ms * size
        self._full_ms: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_ms)

    def has(self, name: str, now_ms: float) -> bool:
        """Whether there is a token."""
        full_ms = max(now_ms, self._full_ms.get(name, 0)) + self._token_ms
        return full_ms - now_ms <= self._size_ms

    def take(self, name: str, now_ms: float) -> bool:
        """Take a token, if there is one."""
        if not self.has(name, now_ms):
            return False
        self.wait_s(name, now_ms, 1)
        return True

    def wait_s(self, name: str, now_ms: float, tokens: int) -> float:
        """Take tokens, perhaps some of the future; in how many seconds they are there."""
        full_ms = max(now_ms, self._full_ms.get(name, 0)) + self._token_ms * tokens
        if len(self._full_ms) >= NAMES_MAX and name not in self._full_ms:
            self._full_ms = {n: ms for n, ms in self._full_ms.items() if ms > now_ms}
        self._full_ms[name] = full_ms
        return max(0.0, full_ms - now_ms - self._size_ms) / 1000

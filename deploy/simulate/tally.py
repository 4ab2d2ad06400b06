"""Waits counted as they come: percentiles of millions of them in a few hundred numbers."""

import math
from collections import Counter

# Buckets grow by 2%, so a percentile is right to one hundredth.
_GROWTH = math.log(1.02)
_SHORTEST = 0.01


class Spread:
    """A histogram of positive numbers, with buckets that grow with them."""

    def __init__(self) -> None:
        """Start empty."""
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.largest = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Count a value so many times."""
        bucket = 0 if value <= _SHORTEST else 1 + int(math.log(value / _SHORTEST) / _GROWTH)
        self._buckets[bucket] += count
        self.count += count
        self.largest = max(self.largest, value)

    def merge(self, other: "Spread") -> None:
        """Count what another has counted."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.largest = max(self.largest, other.largest)

    def percentile(self, part: float) -> float | None:
        """Return the value that a part (0 to 1) of all does not exceed, to within 1%; None if empty."""
        if not self.count:
            return None
        wanted = math.ceil(part * self.count)
        so_far = 0
        for bucket in sorted(self._buckets):
            so_far += self._buckets[bucket]
            if so_far >= wanted:
                middle = _SHORTEST * math.exp((bucket - 0.5) * _GROWTH) if bucket else _SHORTEST
                return min(self.largest, middle)
        return self.largest

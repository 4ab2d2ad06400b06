"""Weighted turns between lanes: the order in which a worker looks into its queues.

kombu asks a cycle for the order of the queues before every fetch and takes from the first that has
something. The head of that order goes around by weight, so that no lane waits behind another's
flood: by default 4 turns for applicants, 4 shared by the partner lanes, 1 for bulk. Lanes of other
kinds take turns one by one.
"""

from collections.abc import Iterable

from common.lanes import APPLICANT_LANE, BULK_LANE, PARTNER_LANES

WEIGHTS = {"applicant": 4, "partner": 4, "bulk": 1}


def kind(lane: str) -> str:
    """Return what takes turns: a kind of stamp lane, or the lane itself."""
    if lane in PARTNER_LANES:
        return "partner"
    return {APPLICANT_LANE: "applicant", BULK_LANE: "bulk"}.get(lane, lane)


def weight(name: str) -> int:
    """Return how many turns a kind gets while others get theirs."""
    return WEIGHTS.get(name, 1)


class WeightedTurns:
    """A kombu cycle (kombu.utils.scheduling) by smooth weighted round robin.

    Every kind that had something to give gains its weight, the richest goes first, and the one
    served pays the sum. With 4, 4 and 1 the heads alternate between applicants and partners and
    visit bulk once in nine, instead of serving four of a kind in a row. A kind that was found empty
    starts from nothing: it saves up no turns.
    """

    def __init__(self, it: Iterable[str] | None = None) -> None:
        """Start with these queues, or none."""
        self._lanes: dict[str, list[str]] = {}
        self._credit: dict[str, int] = {}
        self.update(it or ())

    def update(self, it: Iterable[str]) -> None:
        """Take a new set of queues; kinds that stay keep their credit."""
        lanes: dict[str, list[str]] = {}
        for lane in it:
            lanes.setdefault(kind(lane), []).append(lane)
        self._lanes = lanes
        self._credit = {name: self._credit.get(name, weight(name)) for name in lanes}

    def consume(self, n: int) -> list[str]:
        """Return the first `n` queues in the order to look into them now; changes nothing."""
        return [lane for name in self._order() for lane in self._lanes[name]][:n]

    def rotate(self, last_used: str) -> None:
        """Note that `last_used` was served: its kind pays, and its lane goes behind its siblings."""
        served = kind(last_used)
        if last_used not in self._lanes.get(served, ()):
            return
        order = self._order()
        found_empty = order[: order.index(served)]
        waiting = order[order.index(served) :]
        for name in found_empty:
            self._credit[name] = 0
        for name in waiting:
            self._credit[name] += weight(name)
        self._credit[served] -= sum(map(weight, waiting))
        self._lanes[served].remove(last_used)
        self._lanes[served].append(last_used)

    def _order(self) -> list[str]:
        return sorted(self._credit, key=self._credit.__getitem__, reverse=True)

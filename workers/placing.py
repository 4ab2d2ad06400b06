"""A placement as the API takes it, as the sealing library takes it."""

from common.placements import Placement
from workers import sealing


def engine_placement(wanted: Placement) -> sealing.Placement:
    """Return where the library is to put a stamp; what was not said is left to its defaults."""
    said = wanted.as_json()
    position = said.pop("corner", None)
    if position is not None or not said.keys() & {"x", "position", "anchor", "field"}:
        said["position"] = position or "bottom-right"
    return sealing.Placement(**said)

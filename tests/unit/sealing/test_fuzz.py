"""A short, fixed run of the fuzzer; `make fuzz` runs it for longer and with other chances."""

from tests.fuzz.campaign import Campaign
from tests.fuzz.seeds import SEEDS
from workers.sealing import Signer

INPUTS = 500


def test_no_mutated_document_is_a_surprise(signer: Signer, root: bytes) -> None:
    report = Campaign(SEEDS, signer=signer, root=root, seed=20241109).run(range(INPUTS))
    assert report.failures == {}
    assert report.inputs == INPUTS
    # A run in which nothing is sealed, or nothing refused, would say nothing.
    assert report.endings["sealed"] > INPUTS // 10
    assert len(report.endings) >= 4


def test_an_input_depends_on_its_seed_and_number_alone(signer: Signer, root: bytes) -> None:
    first, second = (Campaign(SEEDS, signer=signer, root=root, seed=5) for _ in range(2))
    first.run(range(3))
    assert [first.input(n) for n in range(20)] == [second.input(n) for n in range(20)]

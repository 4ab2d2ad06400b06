"""A signing chain, and sealing in one line."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from deploy.specimen import SpecimenChain, make_specimen_chain
from workers.sealing import Placement, Sealed, Signer, Stamp, seal

SERIAL = "TVKK97SNY82ZHG2H2DWCRY"
AT = datetime(2026, 11, 24, 5, 30, tzinfo=UTC)

Seal = Callable[..., Sealed]


def stamp(serial: str = SERIAL, **placement: Any) -> Stamp:
    return Stamp(
        serial=serial,
        qr_text=f"HTTPS://STAMP.EXAMPLE/V/{serial}",
        face_value=10_000,
        date=date(2026, 11, 24),
        specimen=True,
        placement=Placement(**placement),
    )


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> SpecimenChain:
    return make_specimen_chain(tmp_path_factory.mktemp("keys") / "chain")


@pytest.fixture(scope="session")
def root(chain: SpecimenChain) -> bytes:
    return chain.root.read_bytes()


@pytest.fixture(scope="session")
def signer(chain: SpecimenChain) -> Signer:
    return Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())


@pytest.fixture(scope="session")
def sealed(signer: Signer) -> Seal:
    def sealed(document: bytes, *stamps: Stamp, **placement: Any) -> Sealed:
        drawn = list(stamps) or [stamp(**placement)]
        return seal(document, drawn, signer=signer, at=AT, reason=f"[{drawn[0].serial}] test")

    return sealed

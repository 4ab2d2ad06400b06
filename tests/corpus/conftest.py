"""A signing chain for all documents of the corpus."""

import pytest

from deploy.specimen import SpecimenChain, make_specimen_chain
from workers.sealing import Signer


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> SpecimenChain:
    return make_specimen_chain(tmp_path_factory.mktemp("keys") / "chain")


@pytest.fixture(scope="session")
def signer(chain: SpecimenChain) -> Signer:
    return Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())

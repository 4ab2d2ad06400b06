"""The PAdES level that a signature has by what validates, not by what it contains.

pyHanko's AdES validation (ETSI EN 319 102-1) says it: with nothing fetched, B-T is a timestamp that
verifies and is trusted, B-LT a chain whose revocation data is all in the file, B-LTA a document
timestamp over that.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime

from asn1crypto.crl import CertificateList
from asn1crypto.ocsp import OCSPResponse
from asn1crypto.x509 import Certificate
from billiard.exceptions import SoftTimeLimitExceeded
from pyhanko.pdf_utils.generic import IndirectObject
from pyhanko.sign.ades.report import AdESPassed
from pyhanko.sign.validation.ades import ades_lta_validation, ades_with_time_validation
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko.sign.validation.errors import NoDSSFoundError
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.policy_decl import (
    LocalKnowledge,
    PdfSignatureValidationSpec,
    RevinfoOnlineFetchingRule,
    RevocationInfoGatheringSpec,
    SignatureValidationSpec,
)
from pyhanko.sign.validation.status import PdfSignatureStatus
from pyhanko_certvalidator.context import CertValidationPolicySpec
from pyhanko_certvalidator.ltv.types import ValidationTimingInfo
from pyhanko_certvalidator.policy_decl import REQUIRE_REVINFO, CertRevTrustPolicy
from pyhanko_certvalidator.registry import SimpleTrustManager
from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer

from common.levels import Level
from workers.trust import Trust

_PADES = "/ETSI.CAdES.detached"


def level_of(
    signature: EmbeddedPdfSignature,
    status: PdfSignatureStatus,
    trust: Trust,
) -> Level:
    """Return the level of a signature.

    Args:
        signature: as pyHanko found it in the file.
        status: what pyHanko's validation of it said.
        trust: whom signers and timestamp authorities must lead to.
    """
    if signature.sig_object.get("/SubFilter") != _PADES:
        return Level.CMS
    stamped = status.timestamp_validity
    if stamped is None or not (stamped.intact and stamped.valid and stamped.trusted):
        return Level.B_B
    try:
        if not asyncio.run(_holds_offline(signature, trust, stamped.timestamp)):
            return Level.B_T
        return Level.B_LTA if asyncio.run(_holds_for_long(signature, trust)) else Level.B_LT
    except (SoftTimeLimitExceeded, MemoryError):
        # About the process, not the file.
        raise
    except Exception:
        # pyHanko raises whatever a damaged security store leads to; the timestamp is good all the same.
        return Level.B_T


async def _holds_offline(signature: EmbeddedPdfSignature, trust: Trust, at: datetime) -> bool:
    """Say whether the file has all that it takes to check the signature as of its timestamp.

    The data may be older than the timestamp (fetched before it, still valid) or younger (added later).
    """
    try:
        store = DocumentSecurityStore.read_dss(signature.reader)
    except NoDSSFoundError:
        return False
    answers = [OCSPResponse.load(_content(each)) for each in store.ocsps]
    knowledge = LocalKnowledge(
        known_ocsps=[one for answer in answers for one in OCSPContainer.load_multi(answer)],
        known_crls=[CRLContainer(CertificateList.load(_content(each))) for each in store.crls],
        known_certs=list(store.load_certs()),
    )
    result = await ades_with_time_validation(
        signature.signed_data,
        _offline(trust, knowledge, retroactive=True),
        timing_info=ValidationTimingInfo(
            validation_time=at, best_signature_time=at, point_in_time_validation=True
        ),
        raw_digest=signature.compute_digest(),
        status_cls=PdfSignatureStatus,
        extra_status_kwargs=signature.summarise_integrity_info(),
    )
    return result.ades_subindic is AdESPassed.OK


async def _holds_for_long(signature: EmbeddedPdfSignature, trust: Trust) -> bool:
    """Say whether document timestamps carry the signature on (EN 319 102-1, 5.6.3)."""
    if not any(
        stamp.signed_revision > signature.signed_revision
        for stamp in signature.reader.embedded_timestamp_signatures
    ):
        return False
    result = await ades_lta_validation(
        signature, PdfSignatureValidationSpec(_offline(trust, LocalKnowledge()))
    )
    return (
        result.ades_subindic is AdESPassed.OK
        and result.oldest_evidence_record_timestamp is not None
    )


def _content(stream: IndirectObject) -> bytes:
    content: bytes = stream.get_object().data  # type: ignore[no-untyped-call]
    return content


def _offline(
    trust: Trust, knowledge: LocalKnowledge, *, retroactive: bool = False
) -> SignatureValidationSpec:
    """Return the rules: revocation data for every certificate, and nothing is fetched."""

    def leading_to(roots: Iterable[Certificate]) -> CertValidationPolicySpec:
        return CertValidationPolicySpec(
            trust_manager=SimpleTrustManager.build(trust_roots=list(roots)),
            revinfo_policy=CertRevTrustPolicy(REQUIRE_REVINFO, retroactive_revinfo=retroactive),
        )

    return SignatureValidationSpec(
        cert_validation_policy=leading_to(trust.signers),
        ts_cert_validation_policy=leading_to(trust.for_timestamps),
        revinfo_gathering_policy=RevocationInfoGatheringSpec(
            online_fetching_rule=RevinfoOnlineFetchingRule.LOCAL_ONLY
        ),
        local_knowledge=knowledge,
    )

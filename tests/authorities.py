"""A certificate authority with everything around it, on loopback: certomancer behind a real server.

It issues the stamping certificates of these tests, answers OCSP, publishes CRLs, and stamps time. The
`Unruly` server in front of it misbehaves on request.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import tsp
from certomancer.integrations.animator import Animator, AnimatorArchStore
from certomancer.registry import (
    ArchLabel,
    CertLabel,
    CertomancerConfig,
    PKIArchitecture,
    ServiceLabel,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from tests.chains import pem
from workers.sealing import Signer

ARCH = "pki"
# RSA of so many bits, or ECDSA on P-256.
_KEYS: dict[str, int | None] = {
    "root": 2048,
    "interm": 2048,
    "ocsp": None,
    "tsa": 2048,
    "tsa2": None,
    "rsa": 2048,
    "ecdsa": None,
    "stranger": None,
}
_LONG = {"valid-from": "2020-01-01T00:00:00+0000", "valid-to": "2100-01-01T00:00:00+0000"}
_PAST = {"valid-from": "2020-01-01T00:00:00+0000", "valid-to": "2022-01-01T00:00:00+0000"}


def _usage(*names: str) -> dict[str, Any]:
    return {
        "id": "key_usage",
        "critical": True,
        "smart-value": {"schema": "key-usage", "params": list(names)},
    }


def _extended(*names: str, critical: bool = True) -> dict[str, Any]:
    return {"id": "extended_key_usage", "critical": critical, "value": list(names)}


def _crl(repository: str) -> dict[str, Any]:
    return {
        "id": "crl_distribution_points",
        "smart-value": {"schema": "crl-dist-url", "params": {"crl-repo-names": [repository]}},
    }


_OCSP = {
    "id": "authority_information_access",
    "smart-value": {"schema": "aia-urls", "params": {"ocsp-responder-names": ["interm"]}},
}
_CA = {"id": "basic_constraints", "critical": True, "value": {"ca": True}}
_SIGNS = _usage("digital_signature", "non_repudiation")


def _issued(issuer: str, *extensions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"issuer": issuer, "validity": _LONG, "extensions": list(extensions)} | more


def _config(prefix: str) -> dict[str, Any]:
    stamping_time = (_usage("digital_signature"), _extended("time_stamping"))
    revoked = {"revoked-since": "2024-01-01T00:00:00+0000", "reason": "key_compromise"}
    certificates = {
        "root": _issued("root", _CA, _usage("key_cert_sign", "crl_sign")),
        "interm": _issued("root", _CA, _usage("key_cert_sign", "crl_sign"), _crl("root")),
        "ocsp": _issued(
            "interm",
            _usage("digital_signature"),
            _extended("ocsp_signing"),
            {"id": "ocsp_no_check"},
        ),
        "rsa": _issued("interm", _SIGNS, _crl("interm"), _OCSP),
        "ecdsa": _issued("interm", _SIGNS, _crl("interm")),
        "revoked": _issued(
            "interm",
            _SIGNS,
            _crl("interm"),
            subject="rsa",
            **{"subject-key": "rsa"},
            revocation=revoked,
        ),
        "ended": _issued("interm", _SIGNS, subject="rsa", **{"subject-key": "rsa"}, validity=_PAST),
        "tsa": _issued("root", *stamping_time, _crl("root")),
        "tsa2": _issued("root", *stamping_time, _crl("root")),
        "tsa-expired": _issued(
            "root", *stamping_time, subject="tsa", **{"subject-key": "tsa"}, validity=_PAST
        ),
        "tsa-no-usage": _issued(
            "root", _usage("digital_signature"), subject="tsa", **{"subject-key": "tsa"}
        ),
        "tsa-not-critical": _issued(
            "root",
            _usage("digital_signature"),
            _extended("time_stamping", critical=False),
            subject="tsa",
            **{"subject-key": "tsa"},
        ),
        "stranger": _issued("stranger", _CA, *stamping_time),
    }
    return {
        "external-url-prefix": prefix,
        "keysets": {ARCH: {"path-prefix": ".", "keys": {n: {"path": f"{n}.pem"} for n in _KEYS}}},
        "pki-architectures": {
            ARCH: {
                "keyset": ARCH,
                "entity-defaults": {"organization-name": "Stampede tests"},
                "entities": {name: {"common-name": name} for name in _KEYS},
                "certs": certificates,
                "services": {
                    "ocsp": {
                        "interm": {
                            "for-issuer": "interm",
                            "responder-cert": "ocsp",
                            "signing-key": "ocsp",
                        }
                    },
                    "crl-repo": {
                        name: {
                            "for-issuer": name,
                            "signing-key": name,
                            # Far apart: a list that ends within the hour would end a test that waits longer.
                            "simulated-update-schedule": "P1000D",
                        }
                        for name in ("root", "interm")
                    },
                    "time-stamping": {
                        name: {"signing-key": name.partition("-")[0], "signing-cert": name}
                        for name in certificates
                        if name.startswith("tsa") or name == "stranger"
                    },
                },
            }
        },
    }


class Punctual(Animator):
    """certomancer with times in whole seconds, as RFC 5280 and RFC 6960 want them."""

    def at_time(self, request: Request) -> datetime:
        return super().at_time(request).replace(microsecond=0)  # type: ignore[no-any-return, no-untyped-call]


class Pki:
    """The authority: its certificates and the addresses of its services."""

    def __init__(self, url: str, architecture: PKIArchitecture, folder: Path) -> None:
        self.url = url
        self.architecture = architecture
        self.folder = folder

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.architecture.get_cert(CertLabel(name)).dump())

    def pem(self, *names: str) -> bytes:
        return b"".join(self.certificate(name).public_bytes(Encoding.PEM) for name in names)

    @property
    def root_pem(self) -> bytes:
        return self.pem("root")

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def signer(self, name: str = "rsa") -> Signer:
        key = "rsa" if name in ("revoked", "ended") else name
        return Signer.from_pem((self.folder / f"{key}.pem").read_bytes(), self.pem(name, "interm"))

    def authority(self, name: str = "tsa") -> str:
        """Return the address of a timestamp authority."""
        return f"{self.url}/{ARCH}/tsa/{name}"

    def crl(self, name: str) -> bytes:
        """Return an issuer's CRL (DER) without a network."""
        now = datetime.now(UTC).replace(microsecond=0)
        registry = self.architecture.service_registry
        crl: bytes = registry.get_crl(ServiceLabel(name), now).dump()
        return crl

    def answer(self, request: bytes, name: str = "tsa", at: datetime | None = None) -> bytes:
        """Return a timestamp authority's answer without a network, of a time or of now."""
        stamper = self.architecture.service_registry.summon_timestamper(ServiceLabel(name), at)
        answer: bytes = stamper.request_tsa_response(tsp.TimeStampReq.load(request)).dump()
        return answer


Misbehaviour = Callable[[Request], Response]


class Unruly:
    """Answers as certomancer does, or, once `misbehaves` has a say for the path, as that says."""

    def __init__(self) -> None:
        self.well_behaved: Animator | None = None
        self.misbehaves: dict[str, Misbehaviour] = {}
        self.asked: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        self.asked.append(request.path)
        for path, misbehave in self.misbehaves.items():
            if request.path.startswith(path):
                return misbehave(request)(environ, start)
        assert self.well_behaved is not None
        answer: Iterable[bytes] = self.well_behaved(environ, start)
        return answer


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """Serve a WSGI application on loopback; yields its address."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def hanging() -> Iterator[str]:
    """A server that takes connections and says nothing; yields its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/tsa"


@pytest.fixture(scope="session")
def authority_server() -> Unruly:
    return Unruly()


@pytest.fixture
def unruly(authority_server: Unruly) -> Iterator[Unruly]:
    """The server in front of the authority, well-behaved until a test says otherwise."""
    authority_server.asked.clear()
    yield authority_server
    authority_server.misbehaves.clear()


@pytest.fixture(scope="session")
def pki(authority_server: Unruly, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    folder = tmp_path_factory.mktemp("pki")
    with serving(authority_server) as url:
        yield make_pki(authority_server, url, folder)


def make_pki(unruly: Unruly, url: str, folder: Path) -> Pki:
    for name, bits in _KEYS.items():
        key = (
            rsa.generate_private_key(65537, bits)
            if bits
            else ec.generate_private_key(ec.SECP256R1())
        )
        (folder / f"{name}.pem").write_bytes(pem(key))
    config = CertomancerConfig(_config(url), key_search_dir=str(folder))
    unruly.well_behaved = Punctual(AnimatorArchStore(config.pki_archs), with_web_ui=False)
    return Pki(url, config.get_pki_arch(ArchLabel(ARCH)), folder)

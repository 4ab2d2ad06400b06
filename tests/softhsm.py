"""A token in a folder of its own: SoftHSM, filled with its own program and with python-pkcs11."""

import subprocess
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.chains import pem

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234"

# In a process of its own: what writes to a token is not what signs with it.
_STORE_CERTIFICATE = """
import sys
import pkcs11
from pkcs11.util.x509 import decode_x509_certificate

module, token, pin, key_id, certificate = sys.argv[1:]
with open(certificate, "rb") as file:
    attributes = decode_x509_certificate(file.read())
attributes[pkcs11.Attribute.TOKEN] = True
attributes[pkcs11.Attribute.ID] = bytes.fromhex(key_id)
with pkcs11.lib(module).get_token(token_label=token).open(rw=True, user_pin=pin) as session:
    session.create_object(attributes)
"""


class SoftToken:
    """One token; `folder` holds its configuration and, in `tokens`, all its state."""

    def __init__(self, folder: Path, label: str = "stamp", more: str = "") -> None:
        self.folder = folder
        self.label = label
        (folder / "tokens").mkdir()
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n{more}"
        )
        self._run("--init-token", "--free", "--label", label, "--so-pin", "4321", "--pin", PIN)

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.configuration), "PATH": "/usr/bin:/bin"}

    def store(self, key: PrivateKeyTypes, *, label: str, key_id: str) -> None:
        """Import a private key."""
        file = self.folder / "key.pem"
        file.write_bytes(pem(key))
        self._run(
            *("--import", str(file), "--token", self.label, "--label", label),
            *("--id", key_id, "--pin", PIN),
        )
        file.unlink()

    def store_certificate(self, certificate: x509.Certificate, *, key_id: str) -> None:
        file = self.folder / "certificate.der"
        file.write_bytes(certificate.public_bytes(Encoding.DER))
        arguments = (str(MODULE), self.label, PIN, key_id, str(file))
        self._check(sys.executable, "-c", _STORE_CERTIFICATE, *arguments)

    def take_away(self) -> None:
        """Pull the token out of its slot: its folder is gone."""
        (self.folder / "tokens").rename(self.folder / "elsewhere")
        (self.folder / "tokens").mkdir()

    def bring_back(self) -> None:
        (self.folder / "tokens").rmdir()
        (self.folder / "elsewhere").rename(self.folder / "tokens")

    def _run(self, *arguments: str) -> None:
        self._check("softhsm2-util", *arguments)

    def _check(self, *command: str) -> None:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

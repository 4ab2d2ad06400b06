"""Every knob in one place: typed settings read from `STAMPEDE_…` variables or a file.

`Settings` is what every process needs. `WebSettings` adds the receipt key and the limits of the
intake; `WorkerSettings` adds the keys of stamps and their codes, which the front end has no field for;
`CheckSettings` adds the limits of the worker that checks files. The file is `$STAMPEDE_ENV_FILE`, or
`stampede.env` in the data folder; a variable wins over the file.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from common import codes
from common.levels import Level
from common.serials import Format, Supply

ENV_FILE_NAME = "stampede.env"
# Twenty stamps of the largest design, at the highest level, twice over, come to half of it.
STAMPING_ADDS_AT_MOST = 1024 * 1024


def data_dir_from_environment() -> Path:
    """Return the data folder that the environment names, `./var` by default."""
    return Path(os.environ.get("STAMPEDE_DATA_DIR", "var"))


def env_file() -> Path:
    """Return the settings file that applies to this process; it need not exist."""
    named = os.environ.get("STAMPEDE_ENV_FILE")
    return Path(named) if named else data_dir_from_environment() / ENV_FILE_NAME


class Settings(BaseSettings):
    """What every process of the system needs to know."""

    model_config = SettingsConfigDict(
        env_prefix="STAMPEDE_", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    data_dir: Path = Field(Path("var"), description="Folder for everything a machine keeps.")
    database_url: str = Field(
        "postgresql://stampede@127.0.0.1:5432/stampede", description="PostgreSQL, as a libpq URL."
    )
    database_pool_size: int = Field(8, ge=1, description="Connections one process may hold.")
    broker_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis or Valkey: queues and lane counters."
    )
    object_store_url: str = Field(
        "", description="Where documents live: file:///… or s3://bucket/…; empty: data_dir/objects."
    )
    object_store_timeout_seconds: float = Field(
        10.0, gt=0, description="How long one request to an S3 store may take, in seconds."
    )
    public_url: str = Field(
        "http://127.0.0.1:8000",
        description="The address that clients see and QR codes carry; small letters in its path cost"
        " room there.",
    )
    link_key: SecretStr = Field(
        description="Key of the status links' MAC, 32 bytes or more as text."
    )
    face_value: int = Field(10_000, ge=1, description="Duty that one stamp stands for, in rupiah.")
    lease_seconds: int = Field(
        60, ge=5, description="How long a worker may hold a job before another may take it."
    )
    quota_low_stamps: int = Field(
        100,
        ge=0,
        description="A partner is told when fewer live stamps are left; 0: never. An account may"
        " have a number of its own.",
    )
    webhook_allow_private: bool = Field(
        False,
        description="Let webhooks go to http:// and to private or loopback addresses (tests, laptops).",
    )
    republish_seconds: int = Field(
        30,
        ge=1,
        description="How long a queued job may be missing from the broker before it is sent again.",
    )
    target_wait_seconds: float = Field(
        10.0, gt=0, description="Workers are added so that what waits is drained within this."
    )
    scaling_max_workers: int = Field(
        64, ge=1, description="Most workers of a pool that /scaling and /metrics ever ask for."
    )
    serial_length: int = Field(
        22, description="Characters of generated serials, 18 to 24 (docs/serials.md)."
    )
    serial_prefix: str = Field("S", description="What generated live serials begin with.")
    serial_source: Literal["generated", "imported"] = Field(
        "generated", description="Live serials are made here, or come from the issuer's lists."
    )
    serials_of_failed_jobs: Literal["void", "reuse"] = Field(
        "reuse",
        description="Imported serials of jobs that end without a stamp: retired, or back in stock."
        " Generated ones are always retired.",
    )
    serial_stock_low: int = Field(
        10_000, ge=0, description="Fewer imported serials in stock than this are told as an event."
    )
    intake_horizon_seconds: int = Field(
        3600,
        ge=1,
        description="An applicant who would wait longer than this is asked to wait before the gate.",
    )
    intake_horizon_partner_seconds: int = Field(
        3600, ge=1, description="A partner whose next job would wait longer is told to come later."
    )
    intake_horizon_bulk_seconds: int = Field(
        6 * 3600, ge=1, description="The same for batches, whose lane may be longer."
    )
    intake_slot_seconds: int = Field(
        600,
        ge=30,
        description="How long an applicant may submit once the turn of their place has come.",
    )
    room_polls_per_second: int = Field(
        2000,
        ge=1,
        description="How often all who wait before the gate may ask for their place, together.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("public_url")
    @classmethod
    def _without_final_slash(cls, address: str) -> str:
        codes.require_room(address)
        return address.rstrip("/")

    @model_validator(mode="after")
    def _serials_can_be_made(self) -> Self:
        _ = self.serial_format
        return self

    @property
    def serial_format(self) -> Format:
        """Return how generated serials are written."""
        return Format(self.serial_length, self.serial_prefix)

    def serial_supply(self) -> Supply:
        """Return where new jobs' serials come from; a process makes one and keeps it."""
        return Supply(
            self.serial_format,
            source=self.serial_source,
            reuse=self.serials_of_failed_jobs == "reuse",
        )

    @classmethod
    def load(cls) -> Self:
        """Read the settings file and the environment, the environment winning.

        Raises:
            pydantic.ValidationError: a value is missing or malformed; says which.
        """
        return cls(_env_file=env_file())

    @property
    def objects_url(self) -> str:
        """Return the object store's URL, a folder of the data folder by default."""
        return self.object_store_url or (self.data_dir.resolve() / "objects").as_uri()


class WebSettings(Settings):
    """What the front end needs on top."""

    receipt_key_file: Path = Field(description="Ed25519 private key (PEM) that signs receipts.")
    code_public_keys_file: Path = Field(
        description="Public keys (PEM) that QR codes are checked against: today's and earlier ones."
    )
    max_document_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, description="Largest document taken, in bytes."
    )
    batch_documents: int = Field(50, ge=1, le=1000, description="Documents in one batch.")
    max_batch_bytes: int = Field(
        100 * 1024 * 1024, ge=1024, description="Largest batch taken, all documents, in bytes."
    )
    answer_seconds: float = Field(
        15.0, gt=0, description="How long a client waits for a worker's answer, queueing included."
    )
    answer_waits: int = Field(
        4,
        ge=1,
        description="Requests that may wait for workers at once, a web process; each holds a thread.",
    )
    requests_at_once: int = Field(
        24,
        ge=4,
        description="Requests with a body that a web process has under way, slow uploads included; at"
        " least a quarter fewer than the server has threads, which are for status polls.",
    )
    submissions_at_once: int = Field(
        16,
        ge=4,
        description="Submissions that a web process works on at once while they are quick; one more"
        " is answered 503 before its document is read.",
    )
    partner_submissions_per_minute: int = Field(
        60_000,
        ge=1,
        description="Documents that one partner may submit in a minute, unless it has a number of its"
        " own (`stampede partner limits`).",
    )
    partner_submissions_at_once: int = Field(
        16,
        ge=1,
        description="Submissions that one partner may have under way at once in a web process, unless"
        " it has a number of its own.",
    )
    partner_prompt_per_minute: int = Field(
        1200,
        ge=1,
        description="Pace up to which a partner's documents go to its own lanes, in documents a minute; at"
        " a higher one they go to the lane for bulk. It may have a number of its own.",
    )
    polls_per_second: float = Field(
        500.0,
        gt=0,
        description="Looks at waiting jobs that all clients together are asked to keep to, by Retry-After"
        " (docs/waiting.md).",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        description="Proxies before the front end; clients' addresses are read from as many entries of"
        " X-Forwarded-For. 0: it is not believed.",
    )
    wrong_codes_per_hour: int = Field(
        10, ge=1, description="Wrong voucher codes taken from one address in an hour."
    )
    wrong_codes_of_all: int = Field(
        1000,
        ge=1,
        description="Wrong voucher codes in an hour, from all together, after which an address is"
        " refused at its second.",
    )
    wrong_links_per_hour: int = Field(
        60, ge=1, description="Links that were not made here, from one address in an hour."
    )
    checks_per_minute: int = Field(
        30, ge=1, description="Files checked on pages, from one address in a minute."
    )
    checks_per_minute_by_key: int = Field(
        300, ge=1, description="Files checked by API, for one account in a minute."
    )

    @property
    def max_checked_bytes(self) -> int:
        """Return the largest file that is checked: what was taken must still be taken once stamped."""
        return self.max_document_bytes + STAMPING_ADDS_AT_MOST


class DrawingSettings(Settings):
    """What every worker that draws stamps needs on top."""

    stamp_design_file: Path | None = Field(
        None, description="An issuer's own stamp, a one-page PDF; none: the built-in SPECIMEN."
    )


class CheckSettings(DrawingSettings):
    """What the worker needs that looks into files of strangers; it has no key of any kind."""

    trust_roots_file: Path = Field(
        description="Certificates (PEM) that signatures are checked against; read for each check."
    )
    timestamp_roots_file: Path | None = Field(
        None,
        description="Further ones (PEM), for timestamps only; as the workers that sign have it.",
    )
    check_seconds: float = Field(
        8.0, gt=0, description="Time one file may take; two seconds later its process is killed."
    )
    check_memory_bytes: int = Field(
        768 * 1024 * 1024,
        ge=256 * 1024 * 1024,
        description="Memory that a process which checks files may hold, in bytes.",
    )


class WorkerSettings(DrawingSettings):
    """What the workers need on top."""

    signing_key_file: Path | None = Field(None, description="Stamping private key (PEM).")
    signing_chain_file: Path | None = Field(
        None, description="The stamping certificate and its issuers (PEM), leaf first."
    )
    signing_keys_file: Path | None = Field(
        None, description="Instead of these two: a list of keys (TOML; docs/keys.md)."
    )
    code_key_file: Path = Field(description="Ed25519 private key (PEM) that signs QR codes.")
    signing_reason: str = Field(
        "Pembubuhan meterai elektronik (SPECIMEN)", description="What the signature says it is for."
    )
    signature_level: Literal[Level.B_B, Level.B_T, Level.B_LT] = Field(
        Level.B_B, description="What signatures bring along: B-B, B-T or B-LT (docs/levels.md)."
    )
    signature_level_policy: Literal["wait", "fall-back"] = Field(
        "wait", description="When that cannot be had now: let jobs wait, or seal at a lower level."
    )
    signing_roots_file: Path | None = Field(
        None, description="Roots of the stamping certificates (PEM), where chains end below them."
    )
    timestamp_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Timestamp authorities (RFC 3161), the preferred one first."
    )
    timestamp_roots_file: Path | None = Field(
        None, description="Roots that the authorities' certificates must chain to (PEM)."
    )
    authority_timeout_seconds: float = Field(
        5.0, gt=0, le=30, description="How long one answer of an authority may take in all."
    )
    revocation_files: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="CRLs and OCSP responses in files, looked at before anybody is asked."
    )
    webhook_timeout_seconds: float = Field(
        10.0, gt=0, description="How long one webhook attempt may take in all."
    )
    attempts_before_parking: int = Field(
        5, ge=1, description="Attempts that may end by a fault of ours before a job is parked."
    )
    retention_days: int = Field(
        365,
        ge=0,
        le=36_500,
        description="How long documents of ended jobs are kept; 0: for ever. Records stay.",
    )

    @property
    def soft_limit_seconds(self) -> float:
        """Return after which time an attempt is asked to stop, before its lease runs out."""
        return self.lease_seconds * 0.6

    @property
    def hard_limit_seconds(self) -> float:
        """Return after which time its process is killed, still before the lease runs out."""
        return self.lease_seconds * 0.8

    @field_validator("timestamp_urls", "revocation_files", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("timestamp_urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"'{url}' is no http:// or https:// address")
        return urls

    @model_validator(mode="after")
    def _level_has_what_it_takes(self) -> Self:
        if self.signature_level is not Level.B_B:
            for name in ("timestamp_urls", "timestamp_roots_file"):
                if not getattr(self, name):
                    raise ValueError(
                        f"STAMPEDE_SIGNATURE_LEVEL={self.signature_level} needs"
                        f" STAMPEDE_{name.upper()}; name it, or choose B-B"
                    )
        for file in (self.timestamp_roots_file, self.signing_roots_file):
            if file is not None and not file.is_file():
                raise ValueError(f"there is no file {file}")
        return self

    @model_validator(mode="after")
    def _one_way_to_name_keys(self) -> Self:
        pair = (self.signing_key_file is not None, self.signing_chain_file is not None)
        if pair not in ((True, True), (False, False)) or any(pair) == (
            self.signing_keys_file is not None
        ):
            raise ValueError(
                "the stamping key is named either by STAMPEDE_SIGNING_KEY_FILE and"
                " STAMPEDE_SIGNING_CHAIN_FILE, or by STAMPEDE_SIGNING_KEYS_FILE"
            )
        return self

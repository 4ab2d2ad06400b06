"""Reads the files of `deploy/` as data, and knows what variables there are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from common.settings import CheckSettings, Settings, WebSettings, WorkerSettings
from deploy import roles

DEPLOY = Path(__file__).parents[3] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
EXAMPLE = DEPLOY / "kubernetes" / "overlays" / "example"
# What our libraries read by themselves.
OF_LIBRARIES = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"),
    *("AWS_ALLOW_HTTP", "FLOWER_BASIC_AUTH"),
}
VARIABLES = (
    OF_LIBRARIES
    | {roles.SECRETS_VARIABLE, roles.METRICS_VARIABLE}
    | {
        f"STAMPEDE_{name.upper()}"
        for kind in (Settings, WebSettings, WorkerSettings, CheckSettings)
        for name in kind.model_fields
    }
)
# What each role cannot start without, or cannot do its work without.
NEEDED = {
    "web": {"STAMPEDE_DATABASE_URL", "STAMPEDE_BROKER_URL", "AWS_ACCESS_KEY_ID"},
    "stamp": {"STAMPEDE_DATABASE_URL", "STAMPEDE_BROKER_URL", "AWS_ACCESS_KEY_ID"},
    "courier": {"STAMPEDE_DATABASE_URL", "STAMPEDE_BROKER_URL"},
    "check": {"STAMPEDE_BROKER_URL", "AWS_ACCESS_KEY_ID"},
    "upkeep": {"STAMPEDE_DATABASE_URL", "STAMPEDE_BROKER_URL", "AWS_ACCESS_KEY_ID"},
    "beat": {"STAMPEDE_DATABASE_URL", "STAMPEDE_BROKER_URL"},
    "flower": {"STAMPEDE_BROKER_URL", "FLOWER_BASIC_AUTH"},
    "migrate": {"STAMPEDE_DATABASE_URL"},
}
# Private keys, and the only role that may have each.
KEYS = {"receipt.key.pem": "web", "code.key.pem": "stamp", "stamp.key.pem": "stamp"}


def documents(file: Path) -> list[dict[str, Any]]:
    """Return the documents of one file."""
    return [each for each in yaml.safe_load_all(file.read_text()) if each is not None]


def built(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what kustomize would put together from a folder, before patches and changes of names."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    for resource in kustomization["resources"]:
        found = (folder / resource).resolve()
        assert found.exists(), found
        if found.is_dir():
            yield from built(found)
        else:
            yield from documents(found)

"""The compose file names roles, settings and secrets that there are, and keeps apart what must be."""

from typing import Any

import pytest
from click.testing import CliRunner

from common.settings import WorkerSettings
from deploy import roles
from deploy.cli import main
from tests.unit.deployment.files import DEPLOY, KEYS, NEEDED, VARIABLES, documents

(COMPOSE,) = documents(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if each["image"] == "stampede"}
SERVERS = {name: each for name, each in SERVICES.items() if name not in OURS}


def test_every_role_has_a_service_and_every_service_is_a_role_or_a_server() -> None:
    assert set(OURS) == {*roles.ROLES, "migrate"}
    assert set(SERVERS) == {"postgres", "valkey", "store"}
    # One of them says how the image is made.
    assert [name for name, each in OURS.items() if "build" in each] == ["migrate"]
    build = OURS["migrate"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_is_started_by_the_command_line_of_its_role(name: str) -> None:
    command = OURS[name]["command"]
    assert command[:2] == ["run", name]
    asked = CliRunner().invoke(main, [*command, "--help"])
    assert asked.exit_code == 0, asked.output
    assert all(each in asked.output for each in command if each.startswith("--"))


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_is_one_that_somebody_reads(name: str) -> None:
    assert set(OURS[name]["environment"]) <= VARIABLES


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_gets_the_secrets_that_it_needs_and_no_other(name: str) -> None:
    secrets = set(OURS[name]["secrets"])
    variables = {each for each in secrets if each.isupper()}
    assert variables <= VARIABLES
    assert variables - {"AWS_SECRET_ACCESS_KEY", "STAMPEDE_LINK_KEY"} == NEEDED[name]
    kept_from = roles.ROLES[name].kept_from if name in roles.ROLES else ()
    assert not [each for each in variables if each.startswith(kept_from)]
    assert secrets - variables == {key for key, owner in KEYS.items() if owner == name}


def test_what_is_used_is_declared_and_what_is_declared_is_used() -> None:
    for kind in ("secrets", "configs", "networks", "volumes"):
        used = set()
        for each in SERVICES.values():
            for one in each.get(kind, []):
                source = one["source"] if isinstance(one, dict) else one.partition(":")[0]
                used.add(source)
        assert used == set(COMPOSE[kind]), kind
    for each in SERVICES.values():
        assert set(each.get("depends_on", {})) <= set(SERVICES)


def test_the_files_that_variables_name_are_mounted_where_they_say() -> None:
    environment = OURS["web"]["environment"]
    for variable, name in {
        "STAMPEDE_RECEIPT_KEY_FILE": "web",
        "STAMPEDE_CODE_PUBLIC_KEYS_FILE": "web",
        "STAMPEDE_CODE_KEY_FILE": "stamp",
        "STAMPEDE_SIGNING_KEY_FILE": "stamp",
        "STAMPEDE_SIGNING_CHAIN_FILE": "stamp",
        "STAMPEDE_TRUST_ROOTS_FILE": "check",
    }.items():
        mounted = {f"/run/secrets/{each}" for each in OURS[name]["secrets"]}
        mounted |= {each["target"] for each in OURS[name].get("configs", [])}
        assert environment[variable] in mounted


def test_nothing_of_ours_writes_outside_of_what_is_mounted_or_has_a_right_too_many() -> None:
    for each in OURS.values():
        assert each["read_only"] is True
        assert each["user"] == "10001:10001"
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]


def test_databases_are_not_reached_from_outside() -> None:
    for each in SERVERS.values():
        assert "ports" not in each
        assert each["networks"] == ["data"]
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert OURS["check"]["networks"] == ["data"]
    published = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_service_has_limits_and_time_to_end_in() -> None:
    hard_limit = WorkerSettings.model_fields["lease_seconds"].default * 0.8
    for name, each in SERVICES.items():
        assert each["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
        seconds = int(each["stop_grace_period"].removesuffix("s"))
        assert seconds > (hard_limit + 20 if name in OURS else 20)


def test_everybody_waits_for_the_tables() -> None:
    for name, each in OURS.items():
        if name == "migrate":
            assert each["depends_on"] == {"postgres": {"condition": "service_healthy"}}
            assert each["restart"] == "on-failure"
        else:
            assert each["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for name in ("postgres", "valkey"):
        assert "healthcheck" in SERVERS[name]


def test_health_is_asked_without_a_program_that_the_image_has_not() -> None:
    for name, each in OURS.items():
        if name == "migrate":
            continue
        if name == "beat":
            assert each["healthcheck"] == {"disable": True}
            continue
        assert each["healthcheck"]["test"] == ["CMD", "stampede", "probe", name]
        assert CliRunner().invoke(main, ["probe", name, "--help"]).exit_code == 0

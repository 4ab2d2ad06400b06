"""The manifests fit Kubernetes' schemas, name only what there is, and give each part what it needs."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
from click.testing import CliRunner

from common.demand import POOLS
from common.settings import WorkerSettings
from deploy import roles
from deploy.cli import main
from tests.unit.deployment.files import BASE, EXAMPLE, KEYS, NEEDED, VARIABLES, built, documents

ALL = list(built(EXAMPLE))
VERSIONS = ("1.31.0", kubernetes_validate.latest_version())
SCALED = [each for each in ALL if each["kind"] == "ScaledObject"]
WORKLOADS = {
    each["metadata"]["name"].removeprefix("stampede-"): each
    for each in ALL
    if each["kind"] in ("Deployment", "Job")
}


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in ALL if each["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    return dict(WORKLOADS[name]["spec"]["template"]["spec"])


def containers(name: str) -> list[dict[str, Any]]:
    spec = pod(name)
    return [*spec["containers"], *spec.get("initContainers", [])]


def variables_of(container: dict[str, Any]) -> set[str]:
    maps, secrets = named("ConfigMap"), named("Secret")
    found: set[str] = set()
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= set(maps[source["configMapRef"]["name"]]["data"])
        else:
            found |= set(secrets[source["secretRef"]["name"]]["stringData"])
    return found


def files_of(name: str) -> set[str]:
    """Return the files that are mounted into a part from Secrets and ConfigMaps, whole paths."""
    maps, secrets = named("ConfigMap"), named("Secret")
    places = {m["name"]: m["mountPath"] for m in containers(name)[0]["volumeMounts"]}
    found = set()
    for volume in pod(name)["volumes"]:
        if "secret" in volume:
            held = secrets[volume["secret"]["secretName"]]["stringData"]
        elif "configMap" in volume:
            held = maps[volume["configMap"]["name"]]["data"]
        else:
            continue
        found |= {f"{places[volume['name']]}/{file}" for file in held}
    return found


def test_no_file_is_left_out() -> None:
    (kustomization,) = documents(BASE / "kustomization.yaml")
    assert {*kustomization["resources"], "kustomization.yaml"} == {f.name for f in BASE.iterdir()}
    (over,) = documents(EXAMPLE / "kustomization.yaml")
    patched = {patch["path"] for patch in over["patches"]}
    assert patched | {"secrets.yaml", "kustomization.yaml"} == {f.name for f in EXAMPLE.iterdir()}


def test_no_name_stands_for_two_things() -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "manifest", [each for each in ALL if each not in SCALED], ids=lambda m: m["metadata"]["name"]
)
def test_a_manifest_fits_the_schema(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_would_notice() -> None:
    wrong = {**WORKLOADS["beat"], "spec": {**WORKLOADS["beat"]["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_a_patch_changes_what_there_is() -> None:
    (over,) = documents(EXAMPLE / "kustomization.yaml")
    assert over["images"][0]["name"] == "stampede"
    for patch in over["patches"]:
        for changed in documents(EXAMPLE / patch["path"]):
            target = named(changed["kind"])[changed["metadata"]["name"]]
            assert set(changed["data"]) <= set(target["data"])


def test_every_role_is_there_and_started_by_its_command_line() -> None:
    assert set(WORKLOADS) == {*roles.ROLES, "migrate"}
    for name in WORKLOADS:
        for container in containers(name):
            assert container["image"] == "stampede"
            assert "command" not in container, "the image's entry point is `stampede`"
            command, role, *_ = container["args"]
            assert (command, role) == ("run", name if container["name"] == name else "migrate")
            # The options exist, and take these values: --help ends before anything is run.
            asked = CliRunner().invoke(main, [*container["args"], "--help"])
            assert asked.exit_code == 0, asked.output
            options = [each for each in container["args"] if each.startswith("--")]
            assert all(option in asked.output for option in options)


def test_every_variable_is_one_that_somebody_reads() -> None:
    for name in WORKLOADS:
        for container in containers(name):
            assert variables_of(container) <= VARIABLES


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_part_gets_the_secrets_that_it_needs_and_no_other(name: str) -> None:
    (container, *_) = containers(name)
    secrets = {
        variable
        for source in container["envFrom"]
        if "secretRef" in source
        for variable in named("Secret")[source["secretRef"]["name"]]["stringData"]
    }
    assert secrets - {"AWS_SECRET_ACCESS_KEY", "STAMPEDE_LINK_KEY"} == NEEDED[name]
    kept_from = roles.ROLES[name].kept_from if name in roles.ROLES else ()
    assert not [each for each in secrets if each.startswith(kept_from)]
    held = {file.rpartition("/")[2] for file in files_of(name)} & set(KEYS)
    assert held == {key for key, owner in KEYS.items() if owner == name}


def test_the_files_that_settings_name_are_mounted_where_they_say() -> None:
    settings = named("ConfigMap")["stampede-settings"]["data"]
    for variable, roles_with in {
        "STAMPEDE_RECEIPT_KEY_FILE": ["web"],
        "STAMPEDE_CODE_PUBLIC_KEYS_FILE": ["web"],
        "STAMPEDE_CODE_KEY_FILE": ["stamp"],
        "STAMPEDE_SIGNING_KEY_FILE": ["stamp"],
        "STAMPEDE_SIGNING_CHAIN_FILE": ["stamp"],
        "STAMPEDE_TRUST_ROOTS_FILE": ["check"],
    }.items():
        for name in roles_with:
            assert settings[variable] in files_of(name), (variable, name)


def test_nobody_runs_as_root_or_writes_outside_of_what_is_mounted() -> None:
    for name in WORKLOADS:
        spec = pod(name)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in containers(name):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_no_worker_is_killed_before_its_longest_task_is() -> None:
    hard_limit = WorkerSettings.model_fields["lease_seconds"].default * 0.8
    for name in roles.WORKERS:
        assert pod(name)["terminationGracePeriodSeconds"] >= hard_limit + 30


def test_whoever_needs_the_tables_waits_for_them() -> None:
    for name, needed in NEEDED.items():
        waits = any(c["name"] == "wait-for-migration" for c in containers(name))
        assert waits == ("STAMPEDE_DATABASE_URL" in needed and name != "migrate")


def selected(selector: dict[str, Any]) -> Iterator[str]:
    for name, workload in WORKLOADS.items():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        wanted = selector.get("matchLabels", {})
        rules = selector.get("matchExpressions", [])
        if all(labels.get(k) == v for k, v in wanted.items()) and all(
            labels.get(rule["key"]) in rule["values"] for rule in rules
        ):
            yield name


def test_selectors_find_the_pods_that_they_are_about() -> None:
    for each in ALL:
        name = each["metadata"]["name"].removeprefix("stampede-")
        if each["kind"] in ("Deployment", "PodDisruptionBudget"):
            assert list(selected(each["spec"]["selector"])) == [name]
        if each["kind"] == "Service":
            assert list(selected({"matchLabels": each["spec"]["selector"]})) == [name]
            ports = {port["name"] for port in containers(name)[0]["ports"]}
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
        if each["kind"] == "HorizontalPodAutoscaler":
            target = each["spec"]["scaleTargetRef"]
            assert target["name"] in named("Deployment")
            assert "replicas" not in named("Deployment")[target["name"]]["spec"]


def test_the_network_lets_each_part_reach_what_it_is_told_of_and_strangers_files_stay_inside() -> (
    None
):
    reach: dict[str, set[object]] = {name: set() for name in WORKLOADS}
    for policy in named("NetworkPolicy").values():
        about = list(selected(policy["spec"]["podSelector"]))
        assert about
        listed = policy["spec"]["podSelector"].get("matchExpressions", [{"values": []}])[0]
        assert set(listed["values"]) <= set(WORKLOADS)
        for rule in policy["spec"].get("egress", []):
            for name in about:
                reach[name] |= {port["port"] for port in rule["ports"]}
    for name, needed in NEEDED.items():
        assert (5432 in reach[name]) == ("STAMPEDE_DATABASE_URL" in needed)
        assert (6379 in reach[name]) == ("STAMPEDE_BROKER_URL" in needed)
        assert not ("AWS_ACCESS_KEY_ID" in needed and 443 not in reach[name])
    assert reach["check"] == {53, 6379, 443}


@pytest.mark.parametrize("scaled", SCALED, ids=lambda each: each["metadata"]["name"])
def test_a_pool_is_scaled_by_what_it_is_said_to_need(scaled: dict[str, Any]) -> None:
    """No package has KEDA's schema: the fields of keda.sh/v1alpha1, as its documentation has them."""
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    spec = scaled["spec"]
    assert spec.keys() == {
        *("scaleTargetRef", "pollingInterval", "minReplicaCount", "maxReplicaCount"),
        *("fallback", "advanced", "triggers"),
    }
    assert spec["scaleTargetRef"] == {"name": scaled["metadata"]["name"]}
    deployment = named("Deployment")[spec["scaleTargetRef"]["name"]]
    assert "replicas" not in deployment["spec"]
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    assert spec["fallback"].keys() == {"failureThreshold", "replicas", "behavior"}
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    # What KEDA hands on as it is must be an autoscaler's behavior.
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "made-by-keda"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "any"},
            "maxReplicas": spec["maxReplicaCount"],
            **spec["advanced"]["horizontalPodAutoscalerConfig"],
        },
    }
    kubernetes_validate.validate(hpa, VERSIONS[-1], strict=True)
    (trigger,) = spec["triggers"]
    assert trigger.keys() == {"type", "metricType", "metadata"}
    # A fallback needs an AverageValue.
    assert (trigger["type"], trigger["metricType"]) == ("metrics-api", "AverageValue")
    asked = trigger["metadata"]
    assert asked.keys() == {"url", "valueLocation", "targetValue"}
    assert all(isinstance(value, str) for value in asked.values())
    assert asked["valueLocation"] == "desired_workers"
    found = re.fullmatch(r"http://([a-z-]+)\.([a-z-]+)\.svc/scaling/([a-z]+)", asked["url"])
    assert found is not None
    service, namespace, pool = found.groups()
    (kustomization,) = documents(BASE / "kustomization.yaml")
    assert (service in named("Service"), namespace) == (True, kustomization["namespace"])
    assert namespace in named("Namespace")
    assert f"stampede-{pool}" == spec["scaleTargetRef"]["name"]
    assert pool in POOLS
    arguments = containers(pool)[0]["args"]
    assert arguments[arguments.index("--most") + 1] == asked["targetValue"]
    most = int(named("ConfigMap")["stampede-settings"]["data"]["STAMPEDE_SCALING_MAX_WORKERS"])
    assert spec["maxReplicaCount"] * int(asked["targetValue"]) <= most


def test_every_pool_is_scaled() -> None:
    assert {each["metadata"]["name"] for each in SCALED} == {f"stampede-{name}" for name in POOLS}

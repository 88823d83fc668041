"""The manifests: valid, restricted, and in the words of the services' own settings."""

import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic_settings import BaseSettings

import campaign_api.settings
import projections.settings
import scheduler.settings
import sender.settings
import webhook_ingest.settings
from chassis.settings import MigrateSettings, PostgresSettings

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy/k8s"
KUBERNETES = "1.33"
OPERATORS = ("strimzi.io", "cnpg.io", "kustomize.config.k8s.io")
SETTINGS: dict[str, type[BaseSettings]] = {
    "campaign-api": campaign_api.settings.Settings,
    "scheduler": scheduler.settings.Settings,
    "sender": sender.settings.Settings,
    "webhook-ingest": webhook_ingest.settings.Settings,
    "webhook-translator": webhook_ingest.settings.Settings,
    "projections": projections.settings.Settings,
}
# Who may talk to what. webhook-ingest, its translator and projections never leave the cluster: they call no provider.
MAY_REACH = {
    "campaign-api": {"kafka", "postgres", "dns", "internet"},
    "scheduler": {"kafka", "postgres", "dns", "internet"},
    "sender": {"kafka", "postgres", "dns", "internet"},
    "webhook-ingest": {"kafka", "postgres", "dns"},
    "webhook-translator": {"kafka", "postgres", "dns"},
    "projections": {"kafka", "postgres", "dns"},
    "migrate": {"kafka", "postgres", "dns"},
}
MAY_BE_REACHED = {
    "campaign-api": {("ingress", 8000), ("monitoring", 9000)},
    "scheduler": {("monitoring", 9000)},
    "sender": {("monitoring", 9000)},
    "webhook-ingest": {("ingress", 8081), ("monitoring", 9000)},
    "webhook-translator": {("monitoring", 9000)},
    "projections": {("monitoring", 9000)},
    "migrate": set(),
}
SAMPLE = "k1:" + "A" * 43 + "="


def documents(folder: str) -> list[dict[str, Any]]:
    return [
        document
        for path in sorted((K8S / folder).rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document
    ]


BASE = documents("base")
EVERYTHING = BASE + documents("overlays")
PODS = [document for document in EVERYTHING if document["kind"] in ("Deployment", "StatefulSet", "Job")]


def title(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


def core(document: dict[str, Any]) -> bool:
    return not any(operator in document["apiVersion"] for operator in OPERATORS)


@pytest.mark.parametrize("document", [d for d in EVERYTHING if core(d)], ids=title)
def test_a_core_manifest_is_valid(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_every_file_of_the_base_is_in_its_kustomization() -> None:
    listed = yaml.safe_load((K8S / "base/kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.name for path in (K8S / "base").glob("*.yaml")} - {"kustomization.yaml"}


CONFIG: dict[str, dict[str, str]] = {d["metadata"]["name"]: d["data"] for d in BASE if d["kind"] == "ConfigMap"}


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return CONFIG["pombo-config"] | {v["name"]: v.get("value") or read_from(v["valueFrom"]) for v in container["env"]}


def read_from(source: dict[str, Any]) -> str:
    if "configMapKeyRef" in source:
        return CONFIG[source["configMapKeyRef"]["name"]][source["configMapKeyRef"]["key"]]
    if "secretKeyRef" in source:
        return {"pombo-database": "postgresql://u:p@h/d", "pombo-secrets": SAMPLE}[source["secretKeyRef"]["name"]]
    return "sender-0"


@pytest.mark.parametrize("document", [d for d in PODS if d in BASE], ids=title)
def test_a_manifests_environment_loads_into_the_services_settings(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = document["spec"]["template"]["spec"]["containers"]
    settings = MigrateSettings if document["kind"] == "Job" else SETTINGS[document["metadata"]["name"]]
    variables = environment_of(container)
    for name in os.environ:
        if "__" in name or name in ("OWNER", "WEB_DSN", "HTTP_PORT"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings()
    known = {name.upper() for name in settings.model_fields} | {"WHATSAPP_VERIFY_TOKEN"}
    assert {name.split("__")[0] for name in variables} - {"HEALTH"} <= known


@pytest.mark.parametrize("name", SETTINGS)
def test_a_manifest_sets_all_that_the_compose_file_sets(name: str) -> None:
    """What a service cannot do without is found by running it, which the compose file does more often."""
    workload = next(d for d in PODS if d["metadata"]["name"] == name)
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][name]
    assert compose["environment"].keys() <= environment_of(container).keys()


def test_postgres_has_a_connection_for_every_pool_of_every_replica() -> None:
    most = {d["metadata"]["name"]: d["spec"]["maxReplicas"] for d in BASE if d["kind"] == "HorizontalPodAutoscaler"}
    connections = 0
    for name, settings in SETTINGS.items():
        workload = next(d for d in PODS if d["metadata"]["name"] == name)
        web = settings.model_fields["web_pool_size"].default if "web_pool_size" in settings.model_fields else 0
        listener = 1  # outside the pools
        pools = PostgresSettings.model_fields["pool_size"].default + web + listener
        connections += pools * most.get(name, workload["spec"]["replicas"])
    (cluster,) = (d for d in BASE if d["kind"] == "Cluster")
    assert connections < int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])


@pytest.mark.parametrize("document", PODS, ids=title)
def test_a_pod_fits_the_restricted_profile(document: dict[str, Any]) -> None:
    pod = document["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
    assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("name", SETTINGS)
def test_every_service_has_probes_and_a_disruption_budget(name: str) -> None:
    workload = next(d for d in PODS if d["metadata"]["name"] == name)
    assert workload["kind"] == ("StatefulSet" if name == "sender" else "Deployment")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    assert any(d["kind"] == "PodDisruptionBudget" and d["metadata"]["name"] == name for d in BASE)


def reached_by(rule: dict[str, Any]) -> str:
    (target,) = rule["to"]
    if "ipBlock" in target:
        return "internet"
    if "namespaceSelector" in target:
        return "dns"
    labels = target["podSelector"]["matchLabels"]
    return "kafka" if "strimzi.io/cluster" in labels else "postgres"


def test_the_network_policies_equal_the_table() -> None:
    policies = {d["metadata"]["name"]: d["spec"] for d in BASE if d["kind"] == "NetworkPolicy"}
    everything_else = policies.pop("default-deny")
    assert everything_else["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everything_else
    assert "egress" not in everything_else
    assert {name: {reached_by(rule) for rule in spec["egress"]} for name, spec in policies.items()} == MAY_REACH
    reached = {
        name: {
            (rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
            for rule in spec.get("ingress", [])
            for port in rule["ports"]
        }
        for name, spec in policies.items()
    }
    assert reached == MAY_BE_REACHED


def test_the_compose_file_uses_the_names_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, settings in SETTINGS.items():
        variables = services[name]["environment"]
        known = {field.upper() for field in settings.model_fields} | {"WHATSAPP_VERIFY_TOKEN"}
        assert {variable.split("__")[0] for variable in variables} <= known, name
        assert services[name]["read_only"] is True
        migration = f"migrate-{services[name]['image'].removeprefix('pombo/')}"
        assert services[migration]["command"] == ["migrate"]


def test_the_compose_file_keeps_to_what_the_images_allow() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    # Else the roles are made in the server that exists only while the database is initialised.
    assert services["postgres"]["healthcheck"]["test"][:3] == ["CMD", "pg_isready", "-h"]
    # A new volume belongs to root, unless the image has the folder and it belongs to the image's user.
    (volume,) = services["provider-simulator"]["volumes"]
    folder = volume.partition(":")[2]
    assert f"install -d -o pombo -g pombo {folder}\n" in (ROOT / "Dockerfile").read_text()
    # Z-API takes no plain http for its webhooks, except from where the simulator is told that it is as good.
    development = next(d for d in PODS if d["metadata"]["name"] == "provider-simulator")
    for command in (
        services["provider-simulator"]["command"],
        development["spec"]["template"]["spec"]["containers"][0]["args"],
    ):
        assert command[command.index("--plain-host") + 1] == "webhook-ingest"
    for name, service in services.items():
        if service.get("image", "").startswith("pombo/"):
            assert service["mem_limit"], name
            assert service["cap_drop"] == ["ALL"], name


def test_the_pins_of_the_images_are_those_of_development() -> None:
    everything = pins(ROOT / "requirements.lock")
    for path in (ROOT / "deploy/requirements").glob("*.lock"):
        assert pins(path).items() <= everything.items(), f"{path.name}: run `make lock`"


def pins(path: Path) -> dict[str, str]:
    lines = [line.split(";")[0].split("\\")[0].strip() for line in path.read_text().splitlines() if "==" in line]
    return dict(line.split("==", 1) for line in lines if not line.startswith(("#", "-")))

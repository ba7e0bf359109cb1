"""What docs/deploy says, against the program and against the tools that read it."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sage_edge.core.configuration import read_configuration
from sage_edge.core.settings import Settings, default_of, environment_variable_of
from sage_edge.server.ending import GATEWAY_SECONDS
from tests.kit.edge import PROJECT, run_edge

DEPLOY = PROJECT / "docs" / "deploy"
VARIABLES = {environment_variable_of(name): name for name in Settings.model_fields}
GUIDE = (PROJECT / "docs" / "operating.md").read_text()
KUBERNETES_VERSION = "1.30"
HEALTH_PATHS = {"/healthz", "/readyz"}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    """The Kubernetes objects by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


@pytest.fixture(scope="module")
def container(manifests: dict[str, Any]) -> dict[str, Any]:
    """The edge's container."""
    (only,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only


def read_unit(name: str) -> configparser.ConfigParser:
    """A unit; of an assignment that stands several times, the last."""
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / name).read_text())
    return unit


def latest_end_seconds() -> float:
    """How long an edge may take to end after its drain, as the guide says."""
    found = re.search(r"A gateway that does not end may take (\d+) seconds more", GUIDE)
    assert found is not None
    return float(found[1])


def seconds_of(name: str, environment: dict[str, str]) -> float:
    """A setting in seconds, as an environment makes it."""
    return float(environment.get(environment_variable_of(name), default_of(name)))


def test_the_guide_tells_how_long_an_edge_may_take_to_end() -> None:
    assert latest_end_seconds() == GATEWAY_SECONDS


def test_every_manifest_is_valid_for_kubernetes(manifests: dict[str, Any]) -> None:
    assert set(manifests) == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_the_pods_settings_are_the_programs(container: dict[str, Any], tmp_path: Path) -> None:
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert set(environment) <= set(VARIABLES)
    files = {"SAGE_EDGE_CERTFILE": None, "SAGE_EDGE_KEYFILE": None}
    done = run_edge("config", env={name: value for name, value in environment.items() if name not in files})
    assert done.returncode == 0, done.stderr


def test_a_pod_has_longer_to_end_than_its_drain_takes(manifests: dict[str, Any], container: dict[str, Any]) -> None:
    environment = {each["name"]: each["value"] for each in container["env"]}
    grace = manifests["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    before_it = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before_it > 0
    drain = seconds_of("drain_delay_seconds", environment) + seconds_of("drain_seconds", environment)
    assert grace >= before_it + drain + latest_end_seconds()


def test_a_pod_is_given_the_time_to_start_that_its_gateway_may_take(container: dict[str, Any]) -> None:
    environment = {each["name"]: each["value"] for each in container["env"]}
    probe = container["startupProbe"]
    before_and_after_seconds = 20  # the edge itself starts too, and has to end by its own error
    gateway_seconds = seconds_of("startup_seconds", environment)
    assert probe["periodSeconds"] * probe["failureThreshold"] >= gateway_seconds + before_and_after_seconds


def test_probes_ask_what_the_edge_answers_on_the_port_it_listens_on(
    manifests: dict[str, Any], container: dict[str, Any]
) -> None:
    port, _ = container["ports"]
    assert port["containerPort"] == default_of("port")
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert {probe["path"] for probe in probes} == HEALTH_PATHS
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    (service_port,) = manifests["Service"]["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]


def test_prometheus_finds_the_metrics_where_the_edge_serves_them(
    manifests: dict[str, Any], container: dict[str, Any]
) -> None:
    environment = {each["name"]: each["value"] for each in container["env"]}
    annotations = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    _, port = container["ports"]
    assert environment["SAGE_EDGE_METRICS_BIND"] == f"0.0.0.0:{port['containerPort']}"
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(port["containerPort"])}


def test_every_object_means_the_same_pods(manifests: dict[str, Any]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == manifests["Deployment"]["metadata"]["name"]
    # Settings are read from variables of this prefix, and Kubernetes would add some.
    assert manifests["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_files_a_pod_reads_are_mounted(manifests: dict[str, Any], container: dict[str, Any]) -> None:
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in manifests["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    assert set(mounts) == volumes
    files = [Path(each["value"]) for each in container["env"] if each["name"].endswith("FILE")]
    assert len(files) == 2
    assert {file.parent for file in files} == {mounts["tls"]}


def test_the_units_configuration_is_the_programs() -> None:
    configuration = read_configuration({}, DEPLOY / "edge.toml")
    assert configuration.faults == ()
    assert set(tomllib.loads((DEPLOY / "edge.toml").read_text())) <= set(Settings.model_fields)


def test_the_service_starts_the_program_with_options_it_has() -> None:
    service = read_unit("sage-edge.service")["Service"]
    _, command, *arguments = shlex.split(service["ExecStart"])
    assert command == "serve"
    help_text = run_edge("serve", "--help").stdout
    assert {word for word in arguments if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", help_text))


def test_the_service_has_longer_to_start_and_to_end_than_the_edge_may_take() -> None:
    service = read_unit("sage-edge.service")["Service"]
    settings = read_configuration({}, DEPLOY / "edge.toml").settings
    assert int(service["TimeoutStartSec"]) > settings.startup_seconds
    drain = settings.drain_delay_seconds + settings.drain_seconds
    assert int(service["TimeoutStopSec"]) >= drain + latest_end_seconds()


def test_what_the_guides_have_the_service_write_it_may_write() -> None:
    """With `ProtectSystem=strict` that is what the unit names, and nothing else of `/var`."""
    service = read_unit("sage-edge.service")["Service"]
    assert service["ProtectSystem"] == "strict"
    roots = {"CacheDirectory": "/var/cache", "LogsDirectory": "/var/log", "StateDirectory": "/var/lib"}
    writable = {Path(root, service[name]) for name, root in roots.items() if name in service}
    named = {Path(path) for path in re.findall(r"/var/[\w./-]+", GUIDE + (DEPLOY / "README.md").read_text())}
    assert len(named) > 1
    assert [path for path in named if not writable & {path, *path.parents}] == []


def test_the_socket_is_the_port_the_edge_would_listen_on_itself() -> None:
    assert read_unit("sage-edge.socket")["Socket"]["ListenStream"] == str(default_of("port"))
    assert read_unit("sage-edge.service")["Unit"]["Requires"] == "sage-edge.socket"


def test_the_plaintext_socket_is_passed_to_the_service_by_the_name_that_the_guide_gives() -> None:
    unit = read_unit("sage-edge-redirect.socket")["Socket"]
    assert unit["Service"] == "sage-edge.service"
    setting = f'redirect_http = "systemd:{unit["FileDescriptorName"]}"'
    assert setting in (DEPLOY / "README.md").read_text()
    assert Settings(certfile=("cert.pem",), **tomllib.loads(setting)).redirect_binds


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_the_units_and_finds_them_hardened(tmp_path: Path) -> None:
    for name in ("sage-edge.service", "sage-edge.socket", "sage-edge-redirect.socket"):
        # The paths of a machine where it is installed are those of a program that is here.
        text = (DEPLOY / name).read_text().replace("/opt/sage-edge/venv/bin/sage-edge", shutil.which("true") or "")
        (tmp_path / name).write_text(text)
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(tmp_path / "sage-edge.service")]
    security = subprocess.run(command, capture_output=True, text=True, check=False)
    assert security.returncode == 0, security.stdout


def test_a_container_has_longer_to_end_than_the_edge_may_take_and_a_health_check() -> None:
    readme = (DEPLOY / "README.md").read_text()
    found = re.search(r"--stop-timeout (\d+)", readme)
    assert found is not None
    assert int(found[1]) >= default_of("drain_delay_seconds") + default_of("drain_seconds") + latest_end_seconds()
    commands = re.findall(r"podman build .*", readme + (DEPLOY / "Containerfile").read_text())
    assert len(commands) == 2
    assert all("--format docker" in command for command in commands), "without it, HEALTHCHECK is ignored"


def test_nobody_is_told_to_install_from_an_index_what_is_in_none() -> None:
    """Whoever took the name there could have his program run by our readers."""
    texts = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "sage_edge").rglob("*.py")]
    named = re.compile(r"pip install [^`\n]*\bsage-edge(\[|['\"`\s]|$)", re.MULTILINE)
    assert [path for path in texts if named.search(path.read_text())] == []


def test_the_image_runs_and_probes_the_program_as_an_ordinary_user() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and line[0].isupper()]
    last = dict(instructions)
    assert int(last["USER"].split(":")[0]) > 0
    assert last["EXPOSE"] == str(default_of("port"))
    health = re.search(r"CMD (\[.*\])$", last["HEALTHCHECK"])
    assert health is not None
    for words in (health[1], last["CMD"]):
        command = [word for word in re.findall(r'"([^"]+)"', words) if word != "sage-edge"]
        assert run_edge(*command, "--help").returncode == 0
    sources = [PROJECT / word for each in instructions if each[0] == "COPY" for word in each[1].split()[:-1]]
    assert all(source.exists() for source in sources if "--from" not in str(source) and "opt" not in source.parts)
    assert set(re.findall(r"SAGE_EDGE_\w+", last["ENV"])) <= set(VARIABLES)

"""The files of deploy/ say what the rest of the repository says: versions, names, ports, and nothing that floats."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.commands import _bootstrap_config
from ruamel.yaml import YAML

from effiseg import __version__
from tests.pipeline.study import environment

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted([*DEPLOY.glob("slurm/*.sbatch"), *DEPLOY.glob("slurm/*.sh")])


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, str]:
    """Every package of the project's locked requirements and its version."""
    lines = [line for path in repository.glob("requirements*.txt") for line in path.read_text().splitlines()]
    return dict(line.split("==", 1) for line in lines if re.match(r"[\w.-]+==", line))


@pytest.fixture(scope="module")
def compose() -> Any:
    return _documents("services/compose.yaml")[0]


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    return {document["kind"]: document for document in _documents("kubernetes/study.yaml")}


def test_the_servers_packages_are_the_projects(pins: dict[str, str]) -> None:
    lines = (DEPLOY / "services/requirements.txt").read_text().splitlines()
    own = dict(line.split("==") for line in lines if not line.startswith("#"))

    assert own == {name: pins[name] for name in own}
    assert set(own) == {"mlflow", "psycopg2-binary", "boto3"}


def test_images_are_exact(compose: Any, pins: dict[str, str]) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    bases = [re.findall(r"^FROM (\S+)", path.read_text(), re.MULTILINE) for path in DEPLOY.rglob("Dockerfile")]

    assert images["mlflow"].endswith(f":{pins['mlflow']}")
    assert all(re.search(r":\d+\.\d+", image) for image in images.values()), images
    assert bases == [bases[0]] * 2
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", bases[0][0])


def test_compose_asks_for_nothing_that_the_example_does_not_name() -> None:
    text = (DEPLOY / "services/compose.yaml").read_text()
    named = re.findall(r"^(\w+)=", (DEPLOY / "services/.env.example").read_text(), re.MULTILINE)

    assert set(re.findall(r"\$\{(\w+)", text)) == set(named)


def test_the_secrets_of_the_example_are_empty() -> None:
    text = (DEPLOY / "services/.env.example").read_text()

    assert re.findall(r"^(\w+)=$", text, re.MULTILINE) == ["POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"]


def test_mlflow_waits_for_services_that_tell_their_health(compose: Any) -> None:
    services = compose["services"]

    assert set(services["mlflow"]["depends_on"]) == {"postgres", "s3"}
    assert all("healthcheck" in service for service in services.values())
    volumes = {name.split(":")[0] for service in services.values() for name in service.get("volumes", [])}
    assert volumes == set(compose["volumes"])


def test_the_ray_job_runs_this_version_with_its_claim_and_secret(
    kubernetes: dict[str, Any], pins: dict[str, str]
) -> None:
    cluster = kubernetes["RayJob"]["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    containers = [container for pod in pods for container in pod["containers"]]

    assert cluster["rayVersion"] == pins["ray"]
    assert {container["image"].rpartition(":")[2] for container in containers} == {__version__}
    assert {container["envFrom"][0]["secretRef"]["name"] for container in containers} == {"effiseg-services"}
    claims = {pod["volumes"][0]["persistentVolumeClaim"]["claimName"] for pod in pods}
    assert claims == {kubernetes["PersistentVolumeClaim"]["metadata"]["name"]}
    mounts = {(mount["name"], mount["mountPath"]) for container in containers for mount in container["volumeMounts"]}
    assert mounts == {("study", "/study")}
    ports = {port["name"]: port["containerPort"] for port in containers[0]["ports"]}
    assert ports == {"gcs": 6379, "dashboard": 8265, "client": 10001}


def test_rays_launcher_takes_the_file_of_ssh_machines() -> None:
    [given] = _documents("ssh/cluster.yaml")
    filled = _bootstrap_config(given, no_config_cache=True)

    assert filled["provider"]["head_ip"] == given["provider"]["head_ip"]
    assert filled["max_workers"] == len(given["provider"]["worker_ips"])
    for commands in (filled["head_start_ray_commands"], filled["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()


RUNS = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'


@pytest.mark.parametrize(
    ("ray", "study", "status"),
    [(RUNS, 0, 0), (RUNS, 3, 3), ("exit 0", 0, 1)],
    ids=["a study that ends", "a study that fails", "Ray does not start, and says nothing"],
)
def test_the_jobs_state_is_the_studys(tmp_path: Path, ray: str, study: int, status: int) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("PATH=$PWD/.venv/bin:$PATH\n")
    python = f'if [ "$1" = -c ]; then echo secret; else mkdir .ckpt; exit {study}; fi'
    for name, text in {"srun": 'shift; exec "$@"', "ray": ray, "python": python}.items():
        path = tmp_path / ".venv/bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    job = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "1", "SLURM_JOB_NUM_NODES": "1"}
    done = subprocess.run([DEPLOY / "slurm/study.sbatch"], cwd=tmp_path, env=environment(**job))

    assert done.returncode == status
    assert list(tmp_path.glob(".ckpt/*")) == []


def _documents(name: str) -> list[Any]:
    return list(YAML(typ="safe").load_all(DEPLOY / name))

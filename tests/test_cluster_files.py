"""The files of cluster/ are what Ray and KubeRay take, name the pinned versions, and call commands as they are."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import ray.autoscaler
import yaml
from jsonschema import Draft7Validator
from ray.autoscaler._private.util import prepare_config, validate_config

from ssvq import config
from ssvq.cli import COMMANDS, KEEPALIVE, _parse
from ssvq.errors import ExitCode
from ssvq.runtime.session import NODE_SETTINGS
from tests.conftest import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
DOCUMENTS = [CLUSTER / "README.md", REPOSITORY / "docs" / "guide" / "operations.md"]
MANIFESTS = sorted((CLUSTER / "kuberay").glob("*.yaml"))
UNITS = sorted((CLUSTER / "single-machine").iterdir())
MIB, GIB = 2**20, 2**30

Json = dict[str, Any]


def load(file: Path) -> list[Json]:
    """The documents of a file of YAML, by the loader that is fast: KubeRay's definitions have 25,000 lines."""
    return list(yaml.load_all(file.read_text(), yaml.CSafeLoader))


def manifests(kind: str | None = None) -> list[Json]:
    """The objects of the manifests, of one kind or all."""
    found = [one for file in MANIFESTS for one in load(file)]
    return [one for one in found if kind in (None, one["kind"])]


def jobs() -> list[Json]:
    """The specs of all Ray jobs of the manifests."""
    return [one["spec"] for one in manifests("RayJob")] + [
        one["spec"]["jobTemplate"] for one in manifests("RayCronJob")
    ]


def clusters() -> list[Json]:
    """The specs of all Ray clusters of the manifests."""
    return [one["spec"] for one in manifests("RayCluster")] + [job["rayClusterSpec"] for job in jobs()]


def groups(spec: Json) -> list[Json]:
    """Head and worker groups of a cluster."""
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def container(group: Json) -> Json:
    """The container of a group that runs Ray."""
    found: Json = group["template"]["spec"]["containers"][0]
    return found


def values(tree: Any, key: str) -> Iterator[Any]:
    """All values of a key, anywhere in a tree."""
    if isinstance(tree, dict):
        yield from ([tree[key]] if key in tree else [])
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []:
        yield from values(child, key)


def size(quantity: str) -> int:
    """Bytes of a Kubernetes quantity, or milli-CPUs as they are."""
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"": 1, "Ki": 1024, "Mi": MIB, "Gi": GIB}[unit]


def pinned(name: str) -> str:
    """The version of a package in constraints.txt."""
    return dict(re.findall(r"^([\w-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.M))[name]


# Schemas -----------------------------------------------------------------------------------------------------------


def strict(schema: Any) -> Any:
    """A schema of Kubernetes as JSON Schema in which a key that it does not name is an error, as it is for kubectl."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    done = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        done["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        done.setdefault("additionalProperties", False)
    return done


def definition(real_data: Path, kind: str) -> Json:
    """The schema of a kind, from KubeRay's definition of it."""
    file = real_data / "schemas" / f"ray.io_{kind.lower()}s.yaml"
    if not file.is_file():
        pytest.skip(f"no definition of {kind} at {file}")
    version = next(one for one in load(file)[0]["spec"]["versions"] if one["name"] == "v1")
    schema: Json = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, of which the definition says no more
    return schema


def errors(schema: Json, instance: Json) -> list[str]:
    """What is wrong with an instance, each with its place."""
    return [f"{error.json_path}: {error.message[:200]}" for error in Draft7Validator(schema).iter_errors(instance)]


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob", "RayCronJob"])
def test_manifests_fit_the_definitions_of_kuberay(real_data: Path, kind: str) -> None:
    schema = definition(real_data, kind)
    found = manifests(kind)
    assert found
    for manifest in found:
        assert manifest["apiVersion"] == "ray.io/v1"
        assert errors(schema, manifest) == []
        manifest["spec"]["activDeadlineSeconds"] = 1
        assert any("activDeadlineSeconds" in error for error in errors(schema, manifest)), "a misspelt key is found"


def test_manifests_fit_the_rules_that_the_operator_has_beyond_its_definitions() -> None:
    for manifest in (one for one in manifests() if one["kind"].startswith("Ray")):
        name = manifest["metadata"].get("name") or manifest["metadata"]["generateName"] + 5 * "x"
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name)
    for spec in clusters():
        assert spec["authOptions"]["mode"] == "token"
        assert spec["enableInTreeAutoscaling"]
        assert spec["autoscalerOptions"]["version"] == "v2"
        for group in groups(spec):
            assert group["template"]["spec"].get("restartPolicy", "Never") == "Never", "as autoscaler v2 wants"
            if "resources" in group:
                assert not {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])
            assert "labels" not in group["rayStartParams"]
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for group in spec["workerGroupSpecs"]:
            assert 0 <= group["minReplicas"] <= group.get("replicas", group["minReplicas"]) <= group["maxReplicas"]


def test_the_plain_cronjob_has_the_fields_of_batch_v1() -> None:
    (cronjob,) = manifests("CronJob")
    assert cronjob["apiVersion"] == "batch/v1"
    spec, job = cronjob["spec"], cronjob["spec"]["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert set(spec) <= {
        *("schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds", "suspend", "jobTemplate"),
        *("successfulJobsHistoryLimit", "failedJobsHistoryLimit"),
    }
    assert set(job) <= {"backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "template"}
    assert job["backoffLimit"] == 0


def test_the_pod_of_the_plain_cronjob_fits_the_definition_of_a_submitter(real_data: Path) -> None:
    """Kubernetes' own definitions are not here, but KubeRay's hold that of a pod."""
    (cronjob,) = manifests("CronJob")
    template = cronjob["spec"]["jobTemplate"]["spec"]["template"]
    schema = definition(real_data, "RayJob")["properties"]["spec"]["properties"]["submitterPodTemplate"]
    assert errors(schema, template) == []


def test_schedules_are_five_fields_of_cron_and_end_before_the_next_begins() -> None:
    for manifest in [*manifests("CronJob"), *manifests("RayCronJob")]:
        spec = manifest["spec"]
        assert re.fullmatch(r"\d+ \d+ \* \* \*", spec["schedule"])
        job = spec["jobTemplate"].get("spec", spec["jobTemplate"])
        assert job["activeDeadlineSeconds"] < 24 * 3600


def test_the_file_of_ray_up_is_one_that_ray_takes() -> None:
    given = load(CLUSTER / "ray-up.yaml")[0]
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    assert errors(schema, given) == []
    whole = prepare_config(given)
    validate_config(whole)
    assert {name: kind["min_workers"] for name, kind in whole["available_node_types"].items()} == {
        **{"head": 0, "reader": 0, "scorer": 0},
    }
    assert whole["available_node_types"]["head"]["resources"] == {"CPU": 0}
    workers = [kind for name, kind in whole["available_node_types"].items() if name != whole["head_node_type"]]
    assert sum(kind["max_workers"] for kind in workers) == whole["max_workers"]
    for kind in whole["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"], "keys come by role"
    assert not whole["head_setup_commands"], "everything is in the image"


# What the nodes are made for -----------------------------------------------------------------------------------------


def test_no_task_runs_on_the_head_and_gpu_groups_ask_for_their_nodes() -> None:
    for spec in clusters():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        roles = {group["labels"]["ssvq/role"]: group for group in spec["workerGroupSpecs"]}
        assert "nvidia.com/gpu" not in container(roles.pop("reader"))["resources"]["limits"]
        (gpu,) = roles.values()
        assert container(gpu)["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert gpu["template"]["spec"]["nodeSelector"]
        assert gpu["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_a_gpu_is_there_or_asked_for_before_a_job_looks_for_one() -> None:
    """`--device cuda` refuses a cluster that has none yet."""
    for job in jobs():
        (gpu,) = (one for one in job["rayClusterSpec"]["workerGroupSpecs"] if one["labels"]["ssvq/role"] != "reader")
        assert gpu["replicas"] >= 1
    (cluster,), (cronjob,) = manifests("RayCluster"), manifests("CronJob")
    (asked,) = (
        json.loads(argument.split("=", 1)[1])
        for argument in next(values(cronjob, "args"))
        if argument.startswith("--entrypoint-resources=")
    )
    providers = {one["groupName"]: set(one.get("resources", {})) for one in cluster["spec"]["workerGroupSpecs"]}
    assert [name for name, resources in providers.items() if set(asked) <= resources] == ["scorers"]
    scorer = load(CLUSTER / "ray-up.yaml")[0]["available_node_types"]["scorer"]
    assert set(asked) <= set(scorer["resources"])


def test_the_object_store_fits_in_shared_memory_and_holds_a_block_for_each_cpu() -> None:
    from ssvq.runtime.placement import SHARE_OF_STORE, SMALLEST_BLOCK

    for spec in clusters():
        for group in groups(spec):
            resources = container(group)["resources"]
            assert resources["limits"]["memory"] == resources["requests"]["memory"]
            store = int(group["rayStartParams"]["object-store-memory"])
            (mount,) = (one for one in container(group)["volumeMounts"] if one["mountPath"] == "/dev/shm")
            (volume,) = (one for one in group["template"]["spec"]["volumes"] if one["name"] == mount["name"])
            assert volume["emptyDir"]["medium"] == "Memory"
            shared, memory = size(volume["emptyDir"]["sizeLimit"]), size(resources["limits"]["memory"])
            assert store <= 0.95 * shared, "Ray leaves a twentieth of it free"
            assert shared <= 0.2 * memory
            if group is not spec["headGroupSpec"]:
                cpus = int(resources["requests"]["cpu"])
                assert SHARE_OF_STORE * store / cpus >= SMALLEST_BLOCK
                bound = config.ReadLimits().memory * MIB + GIB // 2
                assert cpus * bound + shared + 2 * GIB <= memory, "decoding at its limit on every CPU"


def test_pods_are_not_root_and_cannot_become_it() -> None:
    for spec in [*(group["template"]["spec"] for one in clusters() for group in groups(one)), *pod_of_cronjob()]:
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] == 1000
        for one in spec["containers"]:
            assert one["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod_of_cronjob() -> list[Json]:
    """The spec of its pod."""
    return [one["spec"]["jobTemplate"]["spec"]["template"]["spec"] for one in manifests("CronJob")]


# Versions -----------------------------------------------------------------------------------------------------------


def test_image_tags_name_the_pinned_versions() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    tag = f"{version}-ray{pinned('ray')}"
    files = [*MANIFESTS, CLUSTER / "ray-up.yaml", CLUSTER / "Dockerfile", *DOCUMENTS]
    found = {file.name: set(re.findall(r"/ssvq:(\S+)", file.read_text())) for file in files}
    assert {name: tags for name, tags in found.items() if tags - {tag}} == {}
    assert all(found[name] for name in ("ray-up.yaml", "raycluster.yaml", "Dockerfile", "README.md"))
    images = [*values(manifests(), "image"), *values(load(CLUSTER / "ray-up.yaml")[0], "image")]
    assert len(set(images)) == 1


def test_manifests_name_the_pinned_version_of_ray() -> None:
    assert {spec["rayVersion"] for spec in clusters()} == {pinned("ray")}
    assert ray.__version__ == pinned("ray")


def test_the_dockerfile_is_of_this_version_pinned_and_not_root() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    base = re.findall(r"^FROM (\S+)$", text, re.M)
    assert len(base) == 1
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu24\.04", base[0])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f'image.version="{project["version"]}"' in text
    assert f'image.licenses="{project["license"]}"' in text
    assert re.findall(r"^USER (\S+)$", text, re.M) == ["1000:1000"]
    assert "RAY_AUTH_MODE=token" in text
    assert "-c constraints.txt -r requirements.txt" in text
    assert text.index("requirements.txt boto3") < text.index("COPY --chown=1000:1000 ssvq"), "dependencies before code"


@pytest.mark.parametrize("file", ["Dockerfile", "README.md"])
def test_nodes_have_the_keepalive_of_drivers(file: str) -> None:
    text = (CLUSTER / file).read_text()
    for name, value in KEEPALIVE.items():
        assert f" {name}={value} " in text
    for name, value in NODE_SETTINGS.items():
        assert f"{name}={value}" in text
    reference = (REPOSITORY / "docs" / "results" / "reliability.md").read_text()
    assert all(f"| `{name}` | {value} |" in reference for name, value in KEEPALIVE.items())


def test_the_requirements_of_the_image_are_those_of_the_project() -> None:
    """The command of the Dockerfile, run here."""
    command = re.search(r'python -c "(import tomllib; [^"]+)"', (CLUSTER / "Dockerfile").read_text())
    assert command is not None
    project = (REPOSITORY / "pyproject.toml").read_bytes()
    done = subprocess.run([sys.executable, "-c", command[1]], input=project, capture_output=True, check=True)
    dependencies = tomllib.loads(project.decode())["project"]["dependencies"]
    assert done.stdout.decode().splitlines() == dependencies


def test_what_the_image_copies_is_not_ignored_and_all_else_is() -> None:
    rules = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule[0] == "!"}
    text = (CLUSTER / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (?:--\S+ )?(.+)$", text, re.M) for name in line.split()[:-1]}
    assert kept == copied
    assert all((REPOSITORY / name).exists() for name in copied)


# Secrets ------------------------------------------------------------------------------------------------------------


def test_no_secret_stands_in_a_file() -> None:
    assert manifests("Secret") == []
    secret = re.compile("token$|secret|password|access_key", re.I)
    for manifest in manifests():
        for variables in values(manifest, "env"):
            for variable in variables:
                if secret.search(variable["name"]):
                    assert set(variable) == {"name", "valueFrom"}
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    files = [file for file in [*CLUSTER.rglob("*"), *DOCUMENTS] if file.is_file()]
    for file in files:
        text = file.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}|\b[0-9a-f]{32,}\b|://[^/\s]+:[^/\s]+@", text), file
        given = re.findall(r"(?:TOKEN|SECRET_ACCESS_KEY|PASSWORD)=(\S+)", text)
        assert given == [], f"{file} gives a value to a variable that should be secret"


def test_secrets_that_manifests_name_are_documented() -> None:
    text = (CLUSTER / "README.md").read_text()
    made = dict(re.findall(r"kubectl create secret generic (\S+) (.*)", text))
    for reference in values(manifests(), "secretKeyRef"):
        assert re.search(rf"--from-file={reference['key']}(=|\s|$)", made[reference["name"]])
    for name in values(clusters(), "secretName"):
        assert "--from-file=auth_token=" in made[name], "KubeRay looks for this key"


# Commands -----------------------------------------------------------------------------------------------------------


def entry_points() -> Iterator[tuple[str, str]]:
    """Commands that the manifests and units run, each with its file."""
    for file in MANIFESTS:
        for manifest in load(file):
            for entry in values(manifest, "entrypoint"):
                yield file.name, entry
            for one in values(manifest, "containers"):
                if "args" in one[0]:
                    yield file.name, shlex.join([*one[0]["command"], *one[0]["args"]])
    for file in UNITS:
        for entry in re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", file.read_text(), re.M):
            yield file.name, entry.replace("\\\n", " ")
    for file in DOCUMENTS:
        text = file.read_text() if file.exists() else ""
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                yield file.name, line


def our_commands() -> list[tuple[str, str, list[str]]]:
    """(file, command, its arguments) of every `ssvq COMMAND` and `jobs/COMMAND.py` among the entry points."""
    found = []
    for file, line in entry_points():
        words = shlex.split(line, comments=True)
        for index, word in enumerate(words):
            job = re.fullmatch(r"(?:.*/)?jobs/(\w+)\.py", word)
            if job and (index == 0 or words[index - 1] == "python"):
                found.append((file, job[1], words[index + 1 :]))
            elif Path(word).name == "ssvq" and (index == 0 or words[index - 1] == "nice"):
                found.append((file, words[index + 1], words[index + 2 :]))
    return found


@pytest.mark.parametrize(("file", "command", "arguments"), our_commands(), ids=lambda value: str(value)[:60])
def test_commands_are_accepted_by_their_settings(
    file: str, command: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "/etc/ssvq/train.yaml" in arguments:
        (settings,) = (one["data"]["train.yaml"] for one in manifests("ConfigMap"))
        (tmp_path / "train.yaml").write_text(settings)
        arguments = ["train.yaml" if one == "/etc/ssvq/train.yaml" else one for one in arguments]
    end = next((i for i, one in enumerate(arguments) if one in ("|", "&&", ";", "&", ">")), len(arguments))
    _parse(command, COMMANDS[command].settings, arguments[:end])


def test_every_file_of_commands_was_looked_at() -> None:
    files = {file for file, _, _ in our_commands()}
    assert {"rayjob-train.yaml", "rayjob-score.yaml", "raycronjob-nightly.yaml", "cronjob-nightly.yaml"} <= files
    assert {"ssvq-nightly.service", "README.md"} <= files
    assert {command for _, command, _ in our_commands()} >= {"train", "score", "nightly"}
    for name in ("train", "score", "nightly"):
        assert (REPOSITORY / "jobs" / f"{name}.py").is_file()


def test_options_of_ray_are_those_it_has() -> None:
    """Of `ray start` and `ray job submit`, wherever they are called."""
    from ray.scripts.scripts import cli

    start, submit = cli.commands["start"], cli.commands["job"].commands["submit"]
    known = {"start": options(start), "job submit": options(submit)}
    lines = [line for _, line in entry_points()]
    up = load(CLUSTER / "ray-up.yaml")[0]
    lines += [*up["head_start_ray_commands"], *up["worker_start_ray_commands"]]
    seen = set()
    for words in (shlex.split(line, comments=True) for line in lines):
        for index, word in enumerate(words):
            command = next((one for one in known if words[index + 1 :][: one.count(" ") + 1] == one.split()), None)
            if Path(word).name == "ray" and command:
                rest = words[index + 2 + command.count(" ") :]
                rest = rest[: rest.index("--")] if "--" in rest else rest
                assert {one.split("=")[0] for one in rest if one.startswith("-")} <= known[command]
                seen.add(command)
    assert seen == set(known)
    for spec in clusters():
        for group in groups(spec):
            assert {f"--{name}" for name in group["rayStartParams"]} <= known["start"]


def options(command: Any) -> set[str]:
    """Names of the options of a command line."""
    return {name for parameter in command.params for name in parameter.opts}


def test_volumes_that_are_mounted_exist_and_the_driver_finds_its_settings() -> None:
    names = {(one["kind"], one["metadata"].get("name")) for one in manifests()}
    for spec in clusters():
        for group in groups(spec):
            volumes = {one["name"]: one for one in group["template"]["spec"]["volumes"]}
            assert {one["name"] for one in container(group)["volumeMounts"]} == set(volumes)
            for one in volumes.values():
                if "configMap" in one:
                    assert ("ConfigMap", one["configMap"]["name"]) in names
                if "persistentVolumeClaim" in one:
                    assert ("PersistentVolumeClaim", one["persistentVolumeClaim"]["claimName"]) in names
    (train,) = (one for one in manifests("RayJob") if "train.py" in one["spec"]["entrypoint"])
    mounts = {one["mountPath"] for one in container(train["spec"]["rayClusterSpec"]["headGroupSpec"])["volumeMounts"]}
    assert {"/etc/ssvq", "/data"} <= mounts


# Figures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "measured"),
    [
        *(
            ("13.56 GFLOP", "13.56 GFLOP"),
            ("19,600", "19,600"),
            ("7,070", "7,070"),
            ("it is 20.1 with bf16", "| 20.08 "),
        ),
        *(("9.9 on one without", "9.91"), ("reaches 0.79", "| 0.79 | 0.85 | 0.90 |"), ("1.06, measured", "| 1.06 |")),
        *(("1.04 GB on photographs", "| 1,039 |"), ("1.01 GB on a raster", "1.01 GB"), ("3.7 kB an image", "3.7 kB")),
    ],
)
def test_figures_that_are_called_measured_are_those_of_the_measurements(said: str, measured: str) -> None:
    assert said in (REPOSITORY / "docs" / "guide" / "operations.md").read_text()
    assert measured in (REPOSITORY / "docs" / "results" / "performance.md").read_text()


def test_the_example_of_a_terabyte_follows_from_its_inputs() -> None:
    text = (REPOSITORY / "docs" / "guide" / "operations.md").read_text()
    arithmetic, read, image = 13.56e9, 0.0029, 46.5e3
    by_arithmetic = 0.34 * 121e12 / arithmetic
    speed = min(by_arithmetic, 7 / read)
    tiles = 1e12 / image
    hours = tiles / speed / 3600
    for figure in (
        f"could score {by_arithmetic:,.0f} tiles a second, with the u of the H200",
        f"s = 7 / r = {speed:,.0f}",
        f"| {tiles / 1e6:.1f} million |",
        f"| {hours:.1f} |",
        f"| {tiles * read / 3600:.0f}, all on the scorer's node |",
        f"| {hours * 1.0:.1f} |",
        f"| {tiles * 2.1e3 / 1e9:.0f} GB |",
    ):
        assert figure in text, figure


def test_the_metrics_to_watch_are_those_there_are() -> None:
    from ssvq.runtime.telemetry import METRICS

    assert set(re.findall(r"`(ssvq_\w+)`", (REPOSITORY / "docs" / "guide" / "operations.md").read_text())) <= set(
        METRICS
    )


# One machine --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_what_systemd_takes(unit: Path, tmp_path: Path) -> None:
    parser = ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    assert set(parser.sections()) <= {"Unit", "Service", "Timer", "Install"}
    verify = shutil.which("systemd-analyze")
    if verify is None:
        return
    for other in UNITS:  # with programs that are there
        (tmp_path / other.name).write_text(re.sub(r"/opt/ssvq/\.venv/bin/\w+", sys.executable, other.read_text()))
    done = subprocess.run([verify, "verify", str(tmp_path / unit.name)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if fnmatch(line, f"*{unit.stem}*")]
    assert said == [], said


def test_a_unit_is_stopped_by_the_signal_that_a_job_ends_cleanly_at() -> None:
    """Which is Ctrl-C's, with its own exit code."""
    assert ExitCode.INTERRUPTED == 128 + 2
    assert "KillSignal=SIGINT" in (CLUSTER / "single-machine" / "ssvq-nightly.service").read_text()

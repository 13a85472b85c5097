"""Writes what follows from the models and rules under `deploy/`; `--check` says whether the files are current.

`deploy/crds` gets the definitions, `deploy/base` the webhooks' configurations and the roles for people.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from crds import labels
from crds.definition import Definition
from crds.kvcache import KVCache
from crds.modeladapter import ModelAdapter
from crds.modelclaim import ModelClaim
from crds.objects import roles, webhook_configurations
from crds.podautoscaler import PodAutoscaler
from crds.podset import PodSet
from crds.raycluster import RayClusterFleet, RayClusterReplicaSet
from crds.roleset import RoleSet
from crds.schema import Whole, structural
from crds.stormservice import StormService

Json = dict[str, Any]
DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
FOLDER = DEPLOY / "crds"
READY_STATUS = f".status.conditions[?(@.type=='{labels.READY}')].status"
AGE = ("Age", "date", ".metadata.creationTimestamp")


PHASE = ("Phase", "string", ".status.phase")
DESIRED = ("Desired", "integer", ".status.desiredReplicas")
READY = ("Ready", "integer", ".status.readyReplicas")
DEFINITIONS = (
    Definition(
        StormService, labels.ORCHESTRATION_GROUP, "stormservices", scale=True,
        columns=(("Replicas", "integer", ".spec.replicas"), ("Ready", "string", READY_STATUS),
                 ("Paused", "boolean", ".spec.paused"), AGE),
    ),
    Definition(RoleSet, labels.ORCHESTRATION_GROUP, "rolesets", columns=(("Ready", "string", READY_STATUS), AGE)),
    Definition(
        PodSet, labels.ORCHESTRATION_GROUP, "podsets",
        columns=(("ReadyPods", "integer", ".status.readyPods"), ("TotalPods", "integer", ".status.totalPods"), PHASE,
                 AGE),
    ),
    Definition(KVCache, labels.ORCHESTRATION_GROUP, "kvcaches"),
    Definition(RayClusterFleet, labels.ORCHESTRATION_GROUP, "rayclusterfleets", scale=True),
    Definition(RayClusterReplicaSet, labels.ORCHESTRATION_GROUP, "rayclusterreplicasets"),
    Definition(
        PodAutoscaler, labels.AUTOSCALING_GROUP, "podautoscalers",
        columns=(("MINPODS", "integer", ".spec.minReplicas"), ("MAXPODS", "integer", ".spec.maxReplicas"),
                 ("REPLICAS", "integer", ".status.actualScale"), ("STRATEGY", "string", ".spec.scalingStrategy"),
                 ("AGE", "date", ".metadata.creationTimestamp")),
    ),
    Definition(
        ModelAdapter, labels.MODEL_GROUP, "modeladapters",
        columns=(PHASE, DESIRED, READY, ("Candidates", "integer", ".status.candidates"),
                 ("Model Path", "string", ".spec.artifactURL"), AGE),
    ),
    Definition(
        ModelClaim, labels.MODEL_GROUP, "modelclaims", short_names=("mc",),
        columns=(PHASE, DESIRED, READY, ("Engine", "string", ".spec.engine"),
                 ("Artifact", "string", ".spec.artifactURL"), AGE),
    ),
)  # fmt: skip


def manifest(definition: Definition) -> Json:
    """The CustomResourceDefinition as the API server takes it."""
    kind = definition.model.__name__
    names: Json = {"kind": kind, "listKind": f"{kind}List", "plural": definition.plural, "singular": kind.lower()}
    names["categories"] = [labels.CATEGORY]
    if definition.short_names:
        names["shortNames"] = list(definition.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.name},
        "spec": {
            "group": definition.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [_version(definition)],
        },
    }


def _version(definition: Definition) -> Json:
    schema = structural(definition.model)
    schema["properties"] = {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
    } | schema["properties"]  # fmt: skip
    subresources: Json = {"status": {}}
    if definition.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.scalingTargetSelector",
        }
    columns = [{"name": n, "type": t, "jsonPath": p} for n, t, p in definition.columns]
    return {
        "name": labels.VERSION,
        "served": True,
        "storage": True,
        **({"additionalPrinterColumns": columns} if columns else {}),
        "schema": {"openAPIV3Schema": schema},
        "subresources": subresources,
    }


class _Plain(yaml.SafeDumper):
    """Writes equal parts out in full: an alias is hard to read in a review."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (PyYAML's signature)
        return True


_Plain.add_representer(
    Whole, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", dict(data), flow_style=True)
)


def render(definition: Definition) -> str:
    return yaml.dump(manifest(definition), Dumper=_Plain, sort_keys=False, width=120)


def files() -> dict[Path, str]:
    """Every generated file with its text."""
    found = {FOLDER / f"{d.group}_{d.plural}.yaml": render(d) for d in DEFINITIONS}
    listing = {"resources": sorted(path.name for path in found)}
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"} | listing
    return found | {
        FOLDER / "kustomization.yaml": _text([kustomization]),
        DEPLOY / "base" / "webhooks.yaml": _text(webhook_configurations()),
        DEPLOY / "base" / "roles.yaml": _text(roles(DEFINITIONS)),
    }


def _text(documents: list[Json]) -> str:
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=120)


def stale() -> list[str]:
    """Names of generated files that differ from the models."""
    return [path.name for path, text in files().items() if not path.exists() or path.read_text() != text]


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        outdated = stale()
        sys.stderr.write("".join(f"{name} is not current: run python -m crds.generate\n" for name in outdated))
        return 1 if outdated else 0
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

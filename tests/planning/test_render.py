"""Objects as they are sent (orchestration cases 7, 28, 34 to 37; roleset cases 49 to 59, 68)."""

from __future__ import annotations

from copy import deepcopy

import pytest

from crds import labels
from planning.render import (
    RenderError,
    merge_patch,
    render_pod,
    render_revision,
    render_roleset,
    render_service,
    revision_template,
    roleset_update,
)
from planning.wire import CreateRevision, RoleRevision
from tests.planning.world import merge, role, roleset, storm

INDEX = labels.ROLE_REPLICA_INDEX


def stored(of, name="storm-abc", number=1, **role_revisions):
    made = CreateRevision(name=name, revision=number, hash="abc", digest="d", role_revisions=role_revisions)
    return render_revision(of, made)


def owned(*roles, **metadata):
    found = roleset(*roles, labels={labels.STORM_SERVICE_NAME: "storm"}, **metadata)
    found["metadata"]["annotations"] = {labels.ROLESET_INDEX: "2"}
    return found


def test_7_the_headless_service_reaches_members_before_they_are_ready():
    owner = storm(role())
    owner["metadata"]["labels"] = {"team": "a"}
    found = render_service(owner)
    assert found["spec"] == {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": {"storm-service-name": "storm"},
        "publishNotReadyAddresses": True,
    }
    assert found["metadata"]["labels"] == {"team": "a"}
    (reference,) = found["metadata"]["ownerReferences"]
    assert reference["uid"] == "storm-uid"
    assert reference["controller"]
    assert reference["blockOwnerDeletion"]


def test_a_revision_keeps_the_template_and_says_who_brought_each_role():
    of = storm(role("prefill", 3), role("decode"))
    found = stored(of, decode=RoleRevision(number=4, name="storm-old"))
    assert found["revision"] == 1
    assert found["metadata"]["labels"] == {"name": "storm", "controller.kubernetes.io/hash": "abc"}
    assert found["data"]["spec"]["template"]["$patch"] == "replace"
    assert revision_template(found) == of["spec"]["template"]
    made = render_roleset(of, found, 0, "set")
    notes = made["metadata"]["annotations"]
    assert notes[labels.role_revision_annotation("prefill")] == "1"
    assert notes[labels.role_revision_name_annotation("prefill")] == "storm-abc"
    assert notes[labels.role_revision_annotation("decode")] == "4"
    assert notes[labels.role_revision_name_annotation("decode")] == "storm-old"


def test_34_a_roleset_carries_its_index_labels_and_finalizer():
    of = storm(role())
    of["spec"]["template"]["metadata"]["annotations"] = {"note": "x"}
    found = render_roleset(of, stored(of), 5, "storm-roleset-abcde")["metadata"]
    assert found["annotations"][labels.ROLESET_INDEX] == "5"
    assert found["annotations"]["note"] == "x"
    assert found["annotations"][labels.REVISION] == "storm-abc"
    assert found["labels"] == {"app": "test", "storm-service-name": "storm", "storm-service-revision": "storm-abc"}
    assert found["finalizers"] == ["orchestration.aibrix.ai/roleset-finalizer"]
    assert found["ownerReferences"][0]["kind"] == "StormService"


def test_35_a_template_that_the_selector_does_not_match_is_refused():
    of = storm(role(), selector={"matchLabels": {"app": "different"}})
    with pytest.raises(RenderError, match="does not match stormService selector"):
        render_roleset(of, stored(of), 0, "set")


def test_36_a_template_without_spec_is_refused():
    of = storm(role())
    del of["spec"]["template"]["spec"]
    with pytest.raises(RenderError, match="bad stormService template: nil"):
        render_roleset(of, stored(of), 0, "set")


def test_an_old_revision_is_rendered_with_the_replicas_of_today():
    of = storm(role("a", 1), role("gone", 2))
    revision = stored(of)
    of["spec"]["template"]["spec"]["roles"] = [role("a", 7)]
    wanted = {made["name"]: made["replicas"] for made in render_roleset(of, revision, 0, "set")["spec"]["roles"]}
    assert wanted == {"a": 7, "gone": 2}
    kept = render_roleset(of, revision, 0, "set", storm_live_replicas=False)["spec"]["roles"]
    assert kept[0]["replicas"] == 1


def test_37_an_update_in_place_keeps_index_and_what_others_wrote():
    of = storm(role(image="engine:v1", upgradeOrder=3))
    live = render_roleset(of, stored(of), 0, "set")
    live["metadata"] |= {"resourceVersion": "17", "uid": "u"}
    live["metadata"]["labels"]["theirs"] = "x"
    of["spec"]["template"]["spec"]["roles"] = [role(image="engine:v2")]
    patch = roleset_update(of, stored(of, "storm-new", 2), live)
    assert patch["metadata"]["resourceVersion"] == "17"
    merge(live, patch)
    assert live["metadata"]["annotations"][labels.ROLESET_INDEX] == "0"
    assert live["metadata"]["labels"]["storm-service-revision"] == "storm-new"
    assert live["metadata"]["labels"]["theirs"] == "x"
    (updated,) = live["spec"]["roles"]
    assert "upgradeOrder" not in updated
    assert updated["template"]["spec"]["containers"][0]["image"] == "engine:v2"


def test_a_merge_patch_removes_what_is_no_longer_wanted():
    live = {"a": {"x": 1, "y": [1]}, "b": 2, "c": 3}
    wanted = {"a": {"y": [2]}, "c": 3, "d": {}}
    patch = merge_patch(live, wanted)
    assert patch == {"a": {"x": None, "y": [2]}, "b": None, "d": {}}
    merge(live, patch)
    assert live == wanted
    assert merge_patch(wanted, wanted) == {}


def test_49_a_stateful_pod_has_a_place_and_a_host_name():
    of = owned(role(stateful=True), name="set")
    of["metadata"]["labels"] |= {"name": "n", "other": "o"}
    found = render_pod(of, "worker", name="set-worker-h-0", slot=0)
    assert found["metadata"]["labels"][INDEX] == "0"
    assert found["metadata"]["labels"]["name"] == "n"
    assert "other" not in found["metadata"]["labels"]
    assert found["metadata"]["annotations"][INDEX] == "0"
    assert found["metadata"]["annotations"][labels.ROLESET_INDEX] == "2"
    assert found["spec"]["hostname"] == "set-worker-h-0"
    assert found["spec"]["subdomain"] == "storm"


def test_50_a_stateless_pod_has_neither():
    found = render_pod(owned(role()), "worker", name="p", slot=None)
    assert INDEX not in found["metadata"]["labels"]
    assert INDEX not in found["metadata"]["annotations"]
    assert "hostname" not in found["spec"]


@pytest.mark.parametrize(
    ("strategy", "key", "annotated"),
    [
        ("coschedulingSchedulingStrategy", "scheduling.x-k8s.io/pod-group", False),
        ("godelSchedulingStrategy", "godel.bytedance.com/pod-group-name", True),
        ("volcanoSchedulingStrategy", "scheduling.k8s.io/group-name", True),
    ],
)
def test_51_gang_scheduling_marks_the_pod_with_its_group(strategy, key, annotated):
    of = owned(role(), name="set")
    of["spec"]["schedulingStrategy"] = {strategy: {"minMember": 1}}
    found = render_pod(of, "worker", name="p", slot=None)["metadata"]
    assert found["labels"][key] == "set"
    assert found["annotations"].get(key) == ("set" if annotated else None)


def test_52_a_roleset_of_its_own_names_no_storm_service():
    assert render_pod(roleset(role()), "worker", name="p", slot=None)["metadata"]["labels"]["storm-service-name"] == ""


def test_53_every_main_container_gets_the_built_in_environment():
    made = role()
    made["template"]["spec"]["containers"].append({"name": "side", "image": "s"})
    made["template"]["spec"]["initContainers"] = [{"name": "init", "image": "i"}]
    found = render_pod(owned(made, name="set"), "worker", name="p", slot=None)["spec"]
    wanted = ["STORM_SERVICE_NAME", "ROLESET_NAME", "ROLESET_INDEX", "ROLE_NAME", "ROLE_TEMPLATE_HASH"]
    for container in found["containers"]:
        assert [entry["name"] for entry in container["env"]] == wanted
    assert [entry["value"] for entry in found["containers"][0]["env"]][:4] == ["storm", "set", "2", "worker"]
    assert "env" not in found["initContainers"][0]


def test_54_built_in_variables_come_first_and_win():
    made = role(stateful=True)
    env = [{"name": n, "value": "mine"} for n in ("Z", "M", "ROLESET_NAME", "A")]
    made["template"]["spec"]["containers"][0]["env"] = env
    found = render_pod(owned(made, name="set"), "worker", name="p", slot=3)["spec"]["containers"][0]["env"]
    assert [entry["name"] for entry in found[5:]] == ["ROLE_REPLICA_INDEX", "Z", "M", "A"]
    assert found[1] == {"name": "ROLESET_NAME", "value": "set"}
    assert found[5] == {"name": "ROLE_REPLICA_INDEX", "value": "3"}


def affinity(policy, *, owner_labels=None, own=None):
    made = role()
    if own is not None:
        made["template"]["spec"]["affinity"] = own
    of = owned(made, name="set")
    if owner_labels is not None:
        of["metadata"]["labels"] = owner_labels
    of["spec"]["topologyPolicy"] = policy
    return render_pod(of, "worker", name="p", slot=None)["spec"].get("affinity", {}).get("podAffinity", {})


REQUIRED, PREFERRED = (f"{kind}DuringSchedulingIgnoredDuringExecution" for kind in ("required", "preferred"))


def test_55_a_topology_policy_prefers_the_domain_of_its_roleset():
    found = affinity({"scope": "RoleSet", "key": "kubernetes.io/hostname"})
    (term,) = found[PREFERRED]
    assert term["weight"] == 100
    assert term["podAffinityTerm"] == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"storm-service-name": "storm", "roleset-name": "set"}},
    }
    assert REQUIRED not in found


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ("StormService", {"storm-service-name": "storm"}),
        ("Role", {"storm-service-name": "storm", "role-name": "worker"}),
    ],
)
def test_56_57_required_terms_select_by_scope(scope, wanted):
    found = affinity({"scope": scope, "mode": "Required", "key": "zone"})
    assert [term["labelSelector"]["matchLabels"] for term in found[REQUIRED]] == [wanted]
    assert PREFERRED not in found


@pytest.mark.parametrize(
    ("policy", "owner_labels"),
    [
        ({"scope": "RoleSet", "key": ""}, None),
        ({"scope": "RoleSet", "key": "zone"}, {}),
        ({"scope": "Cluster", "key": "zone"}, None),
    ],
)
def test_58_a_policy_without_key_owner_or_known_scope_does_nothing(policy, owner_labels):
    assert affinity(policy, owner_labels=owner_labels) == {}


def test_59_the_users_own_terms_stay_and_ours_comes_once():
    policy = {"scope": "RoleSet", "mode": "Required", "key": "zone"}
    (ours,) = affinity(policy)[REQUIRED]
    assert affinity(policy, own={"podAffinity": {REQUIRED: [{"topologyKey": "zone"}]}})[REQUIRED] == [
        {"topologyKey": "zone"},
        ours,
    ]
    assert affinity(policy, own={"podAffinity": {REQUIRED: [ours]}})[REQUIRED] == [ours]


def test_68_labels_annotations_and_finalizers_of_the_template_are_copied():
    made = role()
    made["template"]["metadata"] |= {"annotations": {"a": "1"}, "finalizers": ["f/x"]}
    found = render_pod(owned(made), "worker", name="p", slot=None)["metadata"]
    assert found["annotations"]["a"] == "1"
    assert found["labels"]["app"] == "test"
    assert found["finalizers"] == ["f/x"]
    assert found["ownerReferences"][0]["uid"] == "set-uid"


def test_rendering_changes_nothing_that_it_was_given():
    of = owned(role(stateful=True))
    before = deepcopy(of)
    render_pod(of, "worker", name="p", slot=0)
    assert of == before


def test_an_unknown_role_has_no_pod():
    with pytest.raises(RenderError, match="no role other"):
        render_pod(owned(role()), "other", name="p", slot=None)

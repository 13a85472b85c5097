"""Pods on a real node of a real cluster: start, configuration, volumes, restarts, ends."""

from __future__ import annotations

import asyncio
import json
import time

from tests.node.rig import Pods, condition, container, is_ready, is_running, restarts, waiting_reason

SLEEP = ("sleep", "1000")
LOOP = "while :; do sleep 0.1; done"


async def test_a_pod_has_an_address_a_name_and_processes_of_its_own(pods: Pods) -> None:
    await pods.run("own", "sh", "-c", "hostname; hostname -I; cat /etc/hosts; ls /proc | grep -c '^[0-9]'; sleep 1000")
    pod = await pods.until("own", is_ready)
    status = pod["status"]
    log = (await pods.text("own", "own")).splitlines()
    assert log[0] == "own"
    assert log[1].split() == [status["podIP"]]
    assert f"{status['podIP']}\town" in log
    assert int(log[-1]) < 10
    assert status["phase"] == "Running"
    assert status["hostIP"] == str(pods.agent.settings.bridge_address)
    assert status["qosClass"] == "BestEffort"
    assert container(pod)["imageID"].startswith("busybox@sha256:")
    for kind in ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady"):
        assert condition(pod, kind) == "True"


async def test_the_engine_image_serves_through_the_pod_proxy(pods: Pods) -> None:
    await pods.run(
        "engine",
        image="aibrix/vllm-mock:nightly",
        command=["python3", "app.py"],
        ports=[{"name": "http", "containerPort": 8000}],
        readinessProbe={"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
    )
    await pods.until("engine", is_ready)
    models = json.loads(
        await asyncio.to_thread(pods.kubectl, "get", "--raw", f"{pods.path}/pods/engine:8000/proxy/v1/models")
    )
    assert models["data"]


IN_CLUSTER = """
import json, os, ssl, urllib.request, urllib.error
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
address = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
request = urllib.request.Request(address + "/apis/authentication.k8s.io/v1/selfsubjectreviews", method="POST")
request.add_header("Authorization", "Bearer " + open(folder + "token").read())
request.add_header("Content-Type", "application/json")
body = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode()
print(json.load(urllib.request.urlopen(request, body, context=context))["status"]["userInfo"]["username"])
print("user", os.getuid())
"""


async def test_a_plain_user_reaches_the_api_server_with_its_token_over_verified_tls(pods: Pods) -> None:
    await pods.run(
        "inside",
        image="python:3.11",
        command=["python3", "-c", IN_CLUSTER],
        securityContext={"runAsUser": 1234, "runAsGroup": 1234},
        spec={"restartPolicy": "Never", "securityContext": {"fsGroup": 77}},
    )
    await pods.until("inside", lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"))
    log = await pods.text("inside", "user")
    assert log.splitlines() == [f"system:serviceaccount:{pods.namespace}:default", "user 1234"]


async def test_init_containers_run_in_order_and_sidecars_beside(pods: Pods) -> None:
    shared = [{"name": "shared", "mountPath": "/shared"}]
    write = "echo {0} >> /shared/order; sleep 0.2"
    inits = [
        {"name": "one", "image": "busybox", "command": ["sh", "-c", write.format("one")], "volumeMounts": shared},
        {
            "name": "side",
            "image": "busybox",
            "restartPolicy": "Always",
            "command": ["sh", "-c", f"{write.format('side')}; touch /shared/up; {LOOP}"],
            "startupProbe": {
                "exec": {"command": ["test", "-e", "/shared/up"]},
                "periodSeconds": 1,
                "failureThreshold": 30,
            },
            "volumeMounts": shared,
        },
        {"name": "two", "image": "busybox", "command": ["sh", "-c", write.format("two")], "volumeMounts": shared},
    ]
    await pods.run(
        "ordered",
        "cat",
        "/shared/order",
        volumeMounts=shared,
        spec={"initContainers": inits, "restartPolicy": "Never", "volumes": [{"name": "shared", "emptyDir": {}}]},
    )
    pod = await pods.until("ordered", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert (await pods.text("ordered", "two", "-c", "main")).split() == ["one", "side", "two"]
    assert container(pod, "one")["state"]["terminated"]["reason"] == "Completed"
    assert container(pod, "side")["state"]["terminated"], "a sidecar ends with its pod"


async def test_environment_and_volumes_carry_what_the_objects_hold(pods: Pods) -> None:
    await pods.add("configmaps", "plain", {"a": "one", "b": "two"})
    await pods.add("secrets", "hidden", {"p": "secret"})
    volumes = [
        {"name": "plain", "configMap": {"name": "plain", "items": [{"key": "a", "path": "deep/a"}]}},
        {"name": "all", "configMap": {"name": "plain"}},
        {"name": "hidden", "secret": {"secretName": "hidden", "defaultMode": 0o400}},
        {
            "name": "labels",
            "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
        },
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "host", "hostPath": {"path": "/etc", "type": "Directory"}},
    ]
    mounts = [
        {"name": "plain", "mountPath": "/plain"},
        {"name": "all", "mountPath": "/one/file", "subPath": "b"},
        {"name": "hidden", "mountPath": "/hidden"},
        {"name": "labels", "mountPath": "/labels"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "memory", "mountPath": "/part", "subPath": "x/y"},
        {"name": "host", "mountPath": "/host", "readOnly": True},
    ]
    script = """
        echo env $A $X $LIMIT $P_p [$NONE]; cat /plain/deep/a /one/file /hidden/p; echo; cat /labels/labels; echo
        stat -L -c 'mode %a' /hidden/p; stat -f -c 'type %T' /memory; touch /part/seen; ls /memory/x/y
        cmp /etc/passwd /host/passwd && echo same; touch /host/no 2>&1 | grep -o 'Read-only'; pwd; echo done; sleep 1000
    """
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "plain", "key": "a"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "plain", "key": "z", "optional": True}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "X", "value": "$(A)-$$(A)"},
    ]
    body = {
        "metadata": {"name": "full", "labels": {"color": "red"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": volumes,
            "containers": [
                {
                    "name": "main",
                    "image": "busybox",
                    "command": ["sh", "-c", script],
                    "workingDir": "/made/here",
                    "env": env,
                    "envFrom": [{"prefix": "P_", "secretRef": {"name": "hidden"}}],
                    "resources": {"limits": {"memory": "64Mi"}},
                    "volumeMounts": mounts,
                }
            ],
        },
    }
    await pods.create(body)
    log = (await pods.text("full", "done")).split("\n")
    expected = [
        "env one one-$(A) 64 secret []",
        "onetwosecret",
        'color="red"',
        "mode 400",
        "type tmpfs",
        "seen",
        "same",
    ]
    assert log[:9] == [*expected, "Read-only", "/made/here"]


async def test_mounted_configuration_follows_its_objects(pods: Pods) -> None:
    await pods.add("configmaps", "plain", {"a": "old"})
    volumes = [
        {"name": "plain", "configMap": {"name": "plain"}},
        {
            "name": "labels",
            "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
        },
    ]
    mounts = [{"name": "plain", "mountPath": "/plain"}, {"name": "labels", "mountPath": "/labels"}]
    script = "until grep -q new /plain/a && grep -q blue /labels/labels; do sleep 0.2; done; echo followed; sleep 1000"
    await pods.run("follows", "sh", "-c", script, volumeMounts=mounts, spec={"volumes": volumes})
    await pods.until("follows", is_ready)
    await pods.api.patch(f"{pods.path}/configmaps/plain", {"data": {"a": "new"}})
    await pods.patch("follows", {"metadata": {"labels": {"color": "blue"}}})
    await pods.text("follows", "followed")


async def test_an_unknown_image_waits_and_a_known_one_then_runs(pods: Pods) -> None:
    await pods.run("strange", *SLEEP, image="no/such:1")
    await pods.until("strange", lambda pod: waiting_reason(pod) == "ErrImagePull")
    pod = await pods.until("strange", lambda pod: waiting_reason(pod) == "ImagePullBackOff")
    assert pod["status"]["phase"] == "Pending"
    await pods.patch("strange", {"spec": {"containers": [{"name": "main", "image": "busybox:1"}]}})
    pod = await pods.until("strange", is_ready)
    assert restarts(pod) == 0


async def test_a_missing_object_is_named_and_waited_for(pods: Pods) -> None:
    reference = {"configMapKeyRef": {"name": "late", "key": "a"}}
    await pods.run("early", *SLEEP, env=[{"name": "A", "valueFrom": reference}])
    pod = await pods.until("early", lambda pod: waiting_reason(pod) == "CreateContainerConfigError")
    assert container(pod)["state"]["waiting"]["message"] == 'configmap "late" not found'
    await pods.add("configmaps", "late", {"a": "1"})
    assert restarts(await pods.until("early", is_ready)) == 0


async def test_a_program_that_does_not_exist_is_a_start_error(pods: Pods) -> None:
    await pods.run("absent", "no-such-program", spec={"restartPolicy": "Never"})
    pod = await pods.until("absent", lambda pod: pod["status"]["phase"] == "Failed")
    ended = container(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "no-such-program" in ended["message"]


async def test_a_crash_loop_backs_off_and_keeps_the_last_state(pods: Pods) -> None:
    await pods.run("loop", "sh", "-c", "echo why > /dev/termination-log; echo attempt; sleep 0.3; exit 7")
    pod = await pods.until("loop", lambda pod: waiting_reason(pod) == "CrashLoopBackOff")
    last = container(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (7, "Error", "why\n")
    assert restarts(pod) >= 1, "the first restart is immediate"
    assert pod["status"]["phase"] == "Running"
    assert "attempt" in pods.kubectl("logs", "loop", "--previous")
    await pods.until("loop", lambda pod: restarts(pod) >= 2)


async def test_pods_that_end_say_how(pods: Pods) -> None:
    await pods.run("good", "true", spec={"restartPolicy": "Never"})
    await pods.run("bad", "sh", "-c", "kill -9 $$$$", spec={"restartPolicy": "Never"})
    await pods.run(
        "again",
        "sh",
        "-c",
        "test -e /e/x || { touch /e/x; exit 1; }",
        volumeMounts=[{"name": "e", "mountPath": "/e"}],
        spec={"restartPolicy": "OnFailure", "volumes": [{"name": "e", "emptyDir": {}}]},
    )
    good = await pods.until("good", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert condition(good, "Initialized") == "True"
    assert condition(good, "Ready") == "False"
    bad = await pods.until("bad", lambda pod: pod["status"]["phase"] == "Failed")
    assert container(bad)["state"]["terminated"]["exitCode"] == 137
    again = await pods.until("again", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert restarts(again) == 1


async def test_a_changed_image_restarts_that_container_only(pods: Pods) -> None:
    both = [{"name": name, "image": "busybox:1", "command": ["sleep", "1000"]} for name in ("main", "other")]
    await pods.run("patched", spec={"containers": both})
    before = await pods.until("patched", is_ready)
    await pods.patch("patched", {"spec": {"containers": [{"name": "main", "image": "busybox:2"}]}})
    after = await pods.until("patched", lambda pod: is_ready(pod) and restarts(pod) == 1)
    assert container(after)["imageID"] != container(before)["imageID"]
    assert container(after)["image"] == "busybox:2"
    assert container(after, "other") == container(before, "other")
    assert after["status"]["podIP"] == before["status"]["podIP"]


async def test_a_hook_after_the_start_is_waited_for(pods: Pods) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "sleep 1; touch /tmp/hooked"]}}}
    await pods.run("hooked", *SLEEP, lifecycle=hook)
    began = await pods.until("hooked", is_running)
    assert not is_ready(began)
    await pods.until("hooked", is_ready)
    assert await asyncio.to_thread(pods.kubectl, "exec", "hooked", "--", "ls", "/tmp/hooked") == "/tmp/hooked\n"


async def test_a_failing_hook_restarts_the_container(pods: Pods) -> None:
    hook = {"postStart": {"httpGet": {"port": 1, "path": "/"}}}
    await pods.run("unhooked", *SLEEP, lifecycle=hook)
    await pods.until("unhooked", lambda pod: restarts(pod) >= 1)


async def test_repeated_events_are_counted_on_one_object(pods: Pods) -> None:
    await pods.run("noisy", "false")
    await pods.until("noisy", lambda pod: restarts(pod) >= 2)
    events = [one for one in (await pods.api.get(f"{pods.path}/events"))["items"] if one["reason"] == "Started"]
    assert len(events) == 1
    assert events[0]["count"] >= 2
    assert events[0]["involvedObject"]["fieldPath"] == "spec.containers{main}"


async def test_a_pod_in_the_hosts_network_has_the_nodes_address(pods: Pods) -> None:
    await pods.run("host", *SLEEP, spec={"hostNetwork": True})
    pod = await pods.until("host", is_ready)
    assert pod["status"]["podIP"] == str(pods.agent.settings.bridge_address)


async def test_deletion_runs_the_hook_sends_term_and_then_kills(pods: Pods) -> None:
    host = {"name": "host", "hostPath": {"path": str(pods.agent.settings.home / "seen"), "type": "DirectoryOrCreate"}}
    mount = [{"name": "host", "mountPath": "/seen"}]
    stubborn = f"trap 'echo term >> /seen/log' TERM; echo up; {LOOP}"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /seen/log"]}}}
    spec = {"volumes": [host], "terminationGracePeriodSeconds": 2}
    await pods.run("stubborn", "sh", "-c", stubborn, volumeMounts=mount, lifecycle=hook, spec=spec)
    await pods.text("stubborn", "up")
    began = time.monotonic()
    await pods.delete("stubborn")
    await pods.until("stubborn", lambda pod: condition(pod, "Ready") == "False")
    await pods.until_gone("stubborn")
    assert 1.5 < time.monotonic() - began < 8
    assert (pods.agent.settings.home / "seen" / "log").read_text().split() == ["hook", "term"]


async def test_a_second_deletion_shortens_the_grace_period(pods: Pods) -> None:
    await pods.run("slow", "sh", "-c", f"trap '' TERM; {LOOP}", spec={"terminationGracePeriodSeconds": 300})
    await pods.until("slow", is_running)
    await pods.delete("slow")
    await pods.until("slow", lambda pod: condition(pod, "Ready") == "False")
    await pods.delete("slow", gracePeriodSeconds=1)
    await pods.until_gone("slow", 10)

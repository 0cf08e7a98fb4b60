"""The tests' own checker of Pod Security finds what is planted."""

from __future__ import annotations

import copy

import pytest
from made_plans import NEW_CLAIM, plan, settings
from restricted import violations

from bench.launch.kubernetes.manifests import build
from bench.launch.kubernetes.yaml import plain

PLANTED = {
    "hostNetwork is set": lambda s: s.update(hostNetwork=True),
    "is of kind": lambda s: s["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "runs as the superuser": lambda s: s["securityContext"].update(runAsUser=0),
    "may run as the superuser": lambda s: s["securityContext"].pop("runAsNonRoot"),
    "no seccomp profile": lambda s: s["securityContext"].pop("seccompProfile"),
    "may gain": lambda s: s["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "keeps capabilities": lambda s: s["containers"][0]["securityContext"].pop("capabilities"),
    "adds capabilities": lambda s: s["containers"][0]["securityContext"]["capabilities"].update(
        add=["IPC_LOCK"]
    ),
    "is privileged": lambda s: s["containers"][0]["securityContext"].update(privileged=True),
    "port of the host": lambda s: s["containers"][0].update(ports=[{"hostPort": 80}]),
}


@pytest.mark.parametrize("words", PLANTED)
def test_what_is_planted_is_found(words: str) -> None:
    pod = plain(build(plan(NEW_CLAIM), cluster=settings()).anchor)["spec"]["template"]["spec"]
    assert violations(pod) == []
    broken = copy.deepcopy(pod)
    PLANTED[words](broken)
    assert any(words in one for one in violations(broken))

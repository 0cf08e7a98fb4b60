"""Pod Security `restricted`, as its standard words it, over the plain form of a pod's spec.

Written from the standard and not from what we build, so that it can disagree.
"""

from __future__ import annotations

from typing import Any

ALLOWED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}

HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")


def violations(spec: dict[str, Any]) -> list[str]:
    """Return every rule that the spec of a pod breaks."""
    found = [f"{field} is set" for field in HOST_FIELDS if spec.get(field)]
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= ALLOWED_VOLUMES or len(kinds) != 1:
            found.append(f"volume {volume['name']} is of kind {sorted(kinds)}")
    pod = spec.get("securityContext", {})
    if pod.get("runAsUser") == 0:
        found.append("the pod runs as the superuser")
    if pod.get("sysctls") or pod.get("windowsOptions", {}).get("hostProcess"):
        found.append("the pod sets sysctls or is a host process")
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind, []):
            found += _of_container(container, pod)
    return found


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    name, own = container["name"], container.get("securityContext", {})
    found = []
    if own.get("privileged"):
        found.append(f"{name} is privileged")
    if own.get("allowPrivilegeEscalation") is not False:
        found.append(f"{name} may gain privileges")
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        found.append(f"{name} may run as the superuser")
    if own.get("runAsUser") == 0:
        found.append(f"{name} runs as the superuser")
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        found.append(f"{name} keeps capabilities")
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        found.append(f"{name} adds capabilities")
    seccomp = own.get("seccompProfile", pod.get("seccompProfile", {}))
    if seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
        found.append(f"{name} has no seccomp profile")
    if own.get("procMount", "Default") != "Default":
        found.append(f"{name} sees an unmasked /proc")
    if any(port.get("hostPort") for port in container.get("ports", [])):
        found.append(f"{name} takes a port of the host")
    return found

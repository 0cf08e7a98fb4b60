"""The cluster's programs: Debian packages, Go modules and one small C program.

Needs the package sources that this machine is set up with, so it runs in the machine's own
network, before the cluster's exists. What it built stays in the cache under its version.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.cluster.processes import run
from tests.cluster.settings import ClusterError, Layout, Module

MODULE_FILES = Path(__file__).resolve().parent / "modules"

Tell = Callable[[str], None]
"""Takes one line about what is going on."""

PACKAGES = {
    "buildah": "buildah",
    "containerd": "containerd",
    "debootstrap": "debootstrap",
    "etcd": "etcd-server",
    "gcc": "gcc",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/include/stdlib.h": "libc6-dev",
}
"""Program or file -> the Debian package that has it."""

MOOSEFS_PACKAGES = {
    "mfsmaster": "moosefs-master",
    "mfschunkserver": "moosefs-chunkserver",
    "mfsmount": "moosefs-client",
}

POLICY = Path("/usr/sbin/policy-rc.d")
"""Asked by package scripts whether to start the daemon that they bring."""


def require_packages(wanted: dict[str, str], *, tell: Tell) -> None:
    """Install the Debian packages whose programs are missing.

    Raises:
        ClusterError: If this is not root, or they cannot be installed; names them.
    """
    missing = sorted({package for has, package in wanted.items() if not is_there(has)})
    if os.geteuid() != 0:
        raise ClusterError("the cluster needs root: namespaces, mounts, control groups")
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"missing, and no apt-get to install them: {names}")
    tell(f"installing {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_daemons_started():
        run(["apt-get", "update", "-qq"], env=environment)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            env=environment)  # fmt: skip
    still = sorted({package for has, package in wanted.items() if not is_there(has)})
    if still:
        raise ClusterError(f"installed, but their programs are missing: {' '.join(still)}")


def is_there(name: str) -> bool:
    """Whether a program or file exists; daemons lie outside of some users' PATH."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin"
    return (
        os.path.exists(name)
        if name.startswith("/")
        else shutil.which(name, path=search) is not None
    )


@contextlib.contextmanager
def no_daemons_started() -> Iterator[None]:
    """Keep package scripts from starting a second etcd or containerd on this machine."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: two builds of the same thing wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_modules(layout: Layout, modules: Iterable[Module], *, tell: Tell) -> None:
    """Build the programs of the modules that the cache lacks.

    Raises:
        ClusterError: If Go is missing or a build fails.
    """
    with locked(layout.cache / "build.lock"):
        for module in modules:
            if not all(layout.program(p).is_file() for p in module.programs):
                build_module(layout, module, tell=tell)


def build_module(layout: Layout, module: Module, *, tell: Tell) -> None:
    """Build one module's programs into the cache, complete or not at all."""
    if shutil.which("go") is None:
        raise ClusterError(f"building {module.name} needs Go 1.25 or later in PATH")
    slow = ", some minutes the first time" if len(module.programs) > 1 else ""
    tell(f"building {module.name} {module.version}{slow}")
    partial = layout.cache / f".{module.name}-{module.version}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    flags = " ".join(["-s -w", *(f"-X {value}" for value in module.defaults)])
    run(
        # Everything else on the machine goes first: others may be measuring.
        ["nice", "-n", "15", "go", "build", "-mod=readonly", "-ldflags", flags,
         "-o", f"{partial}/", "tool"],
        cwd=MODULE_FILES / module.name,
        env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
    )  # fmt: skip
    final = layout.programs(module)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


def build_pause(layout: Layout, *, tell: Tell) -> Path:
    """Compile the program that holds a pod's namespaces; its source is in Kubernetes' module."""
    program = layout.cache / "pause" / "pause"
    if program.is_file():
        return program
    tell("building pause")
    where = ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]
    module = run(where, cwd=MODULE_FILES / "kubernetes").strip()
    program.parent.mkdir(parents=True, exist_ok=True)
    partial = program.with_suffix(".partial")
    source = Path(module) / "build" / "pause" / "linux" / "pause.c"
    run(["gcc", "-Os", "-static", "-DVERSION=3.10", "-o", partial, source])
    partial.rename(program)
    return program

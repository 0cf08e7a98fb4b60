"""Images as containerd keeps them, unpacked once and shared by all nodes of later clusters.

Unpacking takes a slow disk half a minute a node. containerd never changes a layer or a blob
once it is there, so a node's directory can start as links to an unpacked one; only the two
small databases beside them are copied.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.build import Tell, locked
from tests.cluster.images import Image
from tests.cluster.processes import PATH, run
from tests.cluster.settings import ClusterError, Layout

# Among mounts, processes and a network of its own: neither socket nor process can be left.
IMPORT_PROGRAM = """\
mount -t tmpfs tmpfs /run
containerd --root "$0" --state /run/containerd --address /run/containerd.sock --config "$1" &
until [ -S /run/containerd.sock ]; do kill -0 $!; sleep 0.05; done
shift
while [ $# -gt 0 ]; do
    ctr -a /run/containerd.sock -n k8s.io images import --digests --base-name "$1" "$2"
    shift 2
done
kill $!
wait $!
"""

CONFIG = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'


class UnpackedImages:
    """The cache of unpacked images: one directory for each set of images.

    Args:
        layout: Where the cache is.
        tell: Takes lines of progress.
    """

    def __init__(self, layout: Layout, *, tell: Tell) -> None:
        self.cache = layout.cache / "unpacked"
        self.tell = tell

    def of(self, images: Sequence[Image]) -> Path:
        """Return the directory that holds these images, made where it is missing."""
        names = "\n".join(sorted(image.reference for image in images))
        final = self.cache / hashlib.sha256(names.encode()).hexdigest()[:12]
        with locked(self.cache / "lock"):
            if not final.is_dir():
                self.tell("unpacking images")
                others = [p for p in self.cache.glob("[!.]*") if p.is_dir()]
                self.unpack(images, start_from=others, final=final)
        return final

    def unpack(self, images: Sequence[Image], *, start_from: list[Path], final: Path) -> None:
        """Import images into a directory; layers of an earlier one need no second unpacking."""
        partial = self.cache / ".new"
        shutil.rmtree(partial, ignore_errors=True)
        config = self.cache / "containerd.toml"
        config.write_text(CONFIG, encoding="ascii")
        if start_from:
            link_tree(max(start_from, key=lambda p: p.stat().st_mtime), partial)
        else:
            partial.mkdir()
        words = [word for image in images for word in (image.base_name, image.archive)]
        run(
            ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc",
             "--propagation", "private", "sh", "-euc", IMPORT_PROGRAM, partial, config, *words],
            env={"PATH": PATH},
        )  # fmt: skip
        partial.rename(final)
        for old in start_from:
            shutil.rmtree(old)


def link_tree(source: Path, target: Path) -> None:
    """Make a containerd directory that shares layers and blobs with another.

    Raises:
        ClusterError: If they lie on different file systems.
    """
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    # Special files are layers' too (device nodes, white-outs): cp knows them all.
    try:
        run(["cp", "--archive", "--link", source, partial])
    except ClusterError as error:
        if source.stat().st_dev == partial.parent.stat().st_dev:
            raise
        raise ClusterError(
            f"{source} and {target}: not on one file system; set BENCH_CLUSTER_CACHE or "
            "BENCH_CLUSTER_STATE so that they are"
        ) from error
    for database in partial.rglob("*.db"):
        if "fs" in database.relative_to(partial).parts:
            continue  # a layer's
        copy = database.with_suffix(".copy")
        shutil.copy2(database, copy)
        copy.replace(database)
    partial.rename(target)

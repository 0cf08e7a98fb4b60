"""The images of the cluster, made without a registry and without an engine.

`bench`'s own comes from the repository's real Dockerfile; the base below it from debootstrap,
which stands for the Debian image that people build on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.build import Tell, locked
from tests.cluster.processes import run
from tests.cluster.settings import PAUSE_IMAGE, REPOSITORY, ClusterError, Layout

BASE_IMAGE = "localhost/bench-base:bookworm"
REPOSITORY_NAME = "localhost/bench"
CERTIFICATES = Path("/etc/ssl/certs")

CONTEXT = (
    "Dockerfile",
    ".dockerignore",
    "README.md",
    "bench",
    "pyproject.toml",
    "requirements.lock",
    "requirements-gpu.lock",
    "storageclasses",
    "workloads",
)
"""What the Dockerfile copies: the image's name comes from the content of these."""

REF_NAME = "org.opencontainers.image.ref.name"

MAX_NAMELESS_IMAGES = 30

UNUSED_IN_BASE = ("usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/info",
                  "var/cache/apt", "var/lib/apt/lists", "usr/share/i18n")  # fmt: skip


@dataclass(frozen=True)
class Image:
    """An image as a file: its name, and the archive that holds it."""

    reference: str
    archive: Path

    @property
    def base_name(self) -> str:
        """The reference without its tag."""
        return self.reference.rpartition(":")[0]


def content_hash(repository: Path) -> str:
    """Return twelve digits that change with any file that goes into the image."""
    digest = hashlib.sha256()
    for name in CONTEXT:
        path = repository / name
        files = [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]
        for file in files:
            if "__pycache__" in file.parts:
                continue
            digest.update(f"{file.relative_to(repository)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


class ImageStore:
    """Builds images into the cache; each is an archive named after what went into it."""

    def __init__(self, layout: Layout, *, tell: Tell) -> None:
        self.layout = layout
        self.tell = tell
        self.archives = layout.cache / "images"

    def buildah(self, *words: str | Path) -> str:
        """Run buildah on the cache's own storage."""
        root = self.layout.cache / "buildah"
        environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
        return run(
            ["buildah", "--root", root / "root", "--runroot", root / "run", *words],
            env=environment,
        )

    def has(self, reference: str) -> bool:
        """Whether buildah's storage holds an image."""
        try:
            self.buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", reference)
        except ClusterError:
            return False
        return True

    def archive_of(self, reference: str) -> Image:
        """Return where an image's archive lies, made or not."""
        name = reference.replace("/", "-").replace(":", "-")
        return Image(reference, self.archives / f"{name}.tar")

    def push(self, image: Image) -> None:
        """Write an image's archive, complete or not at all.

        By way of a directory that keeps layers between builds: there they are compressed once.
        Blobs carry the same digests ever after, so that nodes skip those that they have.
        """
        layout = self.archives / "layout"
        layout.mkdir(parents=True, exist_ok=True)
        self.buildah("push", "--quiet", image.reference, f"oci:{layout}:{image.reference}")
        index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
        index["manifests"] = [
            m for m in index["manifests"] if m["annotations"][REF_NAME] == image.reference
        ]
        partial = image.archive.with_suffix(".partial")
        with tarfile.open(partial, "w") as archive:
            archive.add(layout / "oci-layout", "oci-layout")
            text = json.dumps(index).encode()
            entry = tarfile.TarInfo("index.json")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
            for digest in blobs(layout, index):
                archive.add(blob(layout, digest), f"blobs/{digest.replace(':', '/')}")
        partial.rename(image.archive)

    def pause(self, program: Path) -> Image:
        """Return the image of the one program that holds a pod together."""
        image = self.archive_of(PAUSE_IMAGE)
        with locked(self.layout.cache / "images.lock"):
            if not image.archive.is_file():
                dockerfile = program.parent / "Dockerfile"
                dockerfile.write_text(
                    'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n',
                    encoding="ascii",
                )
                self.buildah("bud", "--quiet", "-f", dockerfile, "-t", PAUSE_IMAGE, program.parent)
                self.push(image)
        return image

    def base(self) -> str:
        """Return the name of the Debian base image, made where it is missing."""
        if self.has(BASE_IMAGE):
            return BASE_IMAGE
        self.tell("making the base image, about a minute")
        root = self.layout.cache / "base.partial"
        shutil.rmtree(root, ignore_errors=True)
        run(["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates",
             "bookworm", root])  # fmt: skip
        for name in UNUSED_IN_BASE:
            shutil.rmtree(root / name, ignore_errors=True)
        dockerfile = self.layout.cache / "Dockerfile.base"
        dockerfile.write_text("FROM scratch\nCOPY . /\n", encoding="ascii")
        self.buildah("bud", "--quiet", "-f", dockerfile, "-t", BASE_IMAGE, root)
        shutil.rmtree(root, ignore_errors=True)
        return BASE_IMAGE

    def bench(self, repository: Path = REPOSITORY, *, variant: str = "cpu") -> Image:
        """Return the image of `bench` as it is in a checkout, built where it is missing."""
        suffix = "" if variant == "cpu" else f"-{variant}"
        image = self.archive_of(f"{REPOSITORY_NAME}:{content_hash(repository)}{suffix}")
        with locked(self.layout.cache / "images.lock"):
            if not image.archive.is_file():
                base = self.base()
                self.tell(f"building {image.reference}")
                self.build(repository, reference=image.reference, base=base, variant=variant)
                self.push(image)
                self.forget_all_but(image)
        return image

    def build(self, repository: Path, *, reference: str, base: str, variant: str) -> None:
        """Run the repository's Dockerfile."""
        settings = [
            f"--build-arg={name}={os.environ[name]}"
            for name in ("PIP_INDEX_URL", "PIP_CERT")
            if os.environ.get(name)
        ]
        self.buildah(
            "bud", "--quiet", "--layers", "--network=host", "--format=oci",
            f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",  # the machine trusts what it trusts
            f"--build-arg=BASE_IMAGE={base}", f"--build-arg=VARIANT={variant}", *settings,
            "-f", repository / "Dockerfile", "-t", reference, repository,
        )  # fmt: skip

    def forget_all_but(self, image: Image) -> None:
        """Drop the archives of earlier states of `bench`, their images and their layers."""
        for old in self.archives.glob(f"{image.archive.name.rpartition('-')[0]}-*.tar"):
            if old != image.archive:
                old.unlink()
        names = self.buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
        old_names = [
            n for n in names if n.startswith(f"{REPOSITORY_NAME}:") and n != image.reference
        ]
        if old_names:
            self.buildah("rmi", *old_names)
        # Nameless images are what the next build need not repeat; from time to time most of
        # them are of builds that nobody will repeat.
        if sum("<none>" in name for name in names) > MAX_NAMELESS_IMAGES:
            self.buildah("rmi", "--prune")
        layout = self.archives / "layout"
        index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
        index["manifests"] = [
            m for m in index["manifests"] if m["annotations"][REF_NAME] not in old_names
        ]
        (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")
        kept = {blob(layout, digest) for digest in blobs(layout, index)}
        for path in (layout / "blobs" / "sha256").iterdir():
            if path not in kept:
                path.unlink()


def blob(layout: Path, digest: str) -> Path:
    """Return the file of a blob in an OCI layout."""
    return layout / "blobs" / digest.replace(":", "/")


def blobs(layout: Path, index: dict[str, Any]) -> set[str]:
    """Return the digests of all that an index of an OCI layout leads to."""
    found = set()
    for entry in index["manifests"]:
        manifest = json.loads(blob(layout, entry["digest"]).read_text(encoding="utf-8"))
        parts = [entry, manifest["config"], *manifest["layers"]]
        found.update(part["digest"] for part in parts)
    return found

"""The manifest: what a data set consists of, in a Parquet file beside its data."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.dataset.layout import MANIFEST_NAME
from bench.dataset.shape import (
    GENERATOR_VERSION,
    file_sizes,
    object_name,
    samples_in_files,
)
from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = ["MANIFEST_NAME", "Manifest"]

REMAKE = "run `bench prepare --remake` to make it again"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A data set's files.

    Attributes:
        name: Name of the workload it was made for.
        dataset: Description.
        generator_version: Of the generator that made it.
        names: Shape (N,), fixed-width bytes: paths below the directory.
        size_bytes: Shape (N,), int64.
        num_samples: Shape (N,), int64.
        crc32c: Shape (N,), uint32, of the whole file.
        etags: Shape (N,), fixed-width bytes: what the object store called each object's
            state; None for files.
    """

    name: str
    dataset: Dataset
    generator_version: int
    names: npt.NDArray[np.bytes_]
    size_bytes: npt.NDArray[np.int64]
    num_samples: npt.NDArray[np.int64]
    crc32c: npt.NDArray[np.uint32]
    etags: npt.NDArray[np.bytes_] | None = None

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return int(self.size_bytes.sum())

    @property
    def total_samples(self) -> int:
        """Samples of all files."""
        return int(self.num_samples.sum())

    @property
    def num_prefixes(self) -> int:
        """Directories, or key prefixes, that the files are spread over."""
        return len({name.rpartition(b"/")[0] for name in self.names.tolist()})

    @property
    def digest(self) -> str:
        """sha256 over the rows, whatever the Parquet encoding."""
        state = hashlib.sha256()
        state.update(str(self.generator_version).encode())
        for column in (self.names, self.size_bytes, self.num_samples, self.crc32c):
            state.update(np.ascontiguousarray(column).tobytes())
        if self.etags is not None:
            state.update(np.ascontiguousarray(self.etags).tobytes())
        return state.hexdigest()

    @property
    def sample_stride_bytes(self) -> npt.NDArray[np.int64]:
        """Stored bytes of each sample of a file, framing included; shape (N,)."""
        return self.size_bytes // self.num_samples

    @classmethod
    def synthetic(cls, name: str, dataset: Dataset) -> Manifest:
        """Return the manifest of a data set without bytes, for simulated targets."""
        sizes = file_sizes(dataset)
        return cls(
            name,
            dataset,
            GENERATOR_VERSION,
            np.zeros(len(sizes), "S1"),
            sizes,
            samples_in_files(dataset),
            np.zeros(len(sizes), np.uint32),
        )

    @classmethod
    def of_files(
        cls,
        name: str,
        dataset: Dataset,
        crc32c: npt.NDArray[np.uint32],
        etags: npt.NDArray[np.bytes_] | None = None,
    ) -> Manifest:
        """Return the manifest of a generated data set."""
        sizes = file_sizes(dataset)
        names = np.array([object_name(dataset, i).encode() for i in range(len(sizes))])
        counts = samples_in_files(dataset)
        return cls(name, dataset, GENERATOR_VERSION, names, sizes, counts, crc32c, etags)

    def to_bytes(self) -> bytes:
        """Return the manifest as a Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {
            "object": pa.array(self.names.astype(str)),
            "size_bytes": self.size_bytes,
            "num_samples": self.num_samples,
            "crc32c": self.crc32c,
        }
        if self.etags is not None:
            columns["etag"] = pa.array(self.etags.astype(str))
        table = pa.table(columns).replace_schema_metadata(
            {
                "bench.name": self.name,
                "bench.generator_version": str(self.generator_version),
                "bench.dataset": self.dataset.model_dump_json(),
                "bench.digest": self.digest,
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return bytes(sink.getvalue())

    def save(self, directory: Path) -> None:
        """Write the manifest, atomically.

        Raises:
            OSError: As the file system says.
        """
        data = self.to_bytes()
        temporary = directory / f".{MANIFEST_NAME}.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(directory / MANIFEST_NAME)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read the manifest of a data set.

        Raises:
            DatasetError: It is missing, damaged, or of another generator version.
        """
        path = directory / MANIFEST_NAME
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise DatasetError(
                str(path), "the data set has no manifest", "run `bench prepare` to make it"
            ) from error
        except OSError as error:
            raise DatasetError(
                str(path), f"the manifest cannot be read ({error})", REMAKE
            ) from error
        return cls.of_bytes(data, str(path))

    @classmethod
    def of_bytes(cls, data: bytes, place: str) -> Manifest:
        """Read a manifest from the bytes of its file.

        Args:
            data: Of the file.
            place: Where it lies, for errors.

        Raises:
            DatasetError: It is damaged, or of another generator version.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # Not read_table, which brings threads and the whole of pyarrow.dataset with it.
            table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(place, f"the manifest cannot be read ({error})", REMAKE) from error
        try:
            manifest = cls._of_table(table, place)
            digest = table.schema.metadata[b"bench.digest"].decode()
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise DatasetError(place, "the manifest is not one of ours", REMAKE) from error
        if manifest.digest != digest:
            raise DatasetError(place, "the manifest's rows are not what bench wrote", REMAKE)
        return manifest

    @classmethod
    def _of_table(cls, table: Any, place: str) -> Manifest:
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        version = int(metadata["bench.generator_version"])
        if version != GENERATOR_VERSION:
            raise DatasetError(
                place,
                f"made by generator version {version}, this is version {GENERATOR_VERSION}",
                REMAKE,
            )
        return cls(
            metadata["bench.name"],
            Dataset.model_validate(json.loads(metadata["bench.dataset"])),
            version,
            np.array(table["object"].to_pylist(), np.bytes_),
            table["size_bytes"].to_numpy().astype(np.int64),
            table["num_samples"].to_numpy().astype(np.int64),
            table["crc32c"].to_numpy().astype(np.uint32),
            np.array(table["etag"].to_pylist(), np.bytes_)
            if "etag" in table.column_names
            else None,
        )

    def sample_extent(self, file: int, sample: int) -> tuple[int, int]:
        """Return (offset, length) of a sample inside a file, in bytes, its framing included.

        Args:
            file: Index of the file.
            sample: Index inside the file.

        Raises:
            IndexError: The file has no such sample.
        """
        if not 0 <= sample < self.num_samples[file]:
            raise IndexError(f"file {file} has {self.num_samples[file]} samples, no {sample}")
        stride = int(self.size_bytes[file] // self.num_samples[file])
        return sample * stride, stride

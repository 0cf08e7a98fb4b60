"""The documents that people write: Workload and StorageTarget.

Requirements stand in `bench.spec.requirements`.

Frozen values with strict parsing; `bench.spec.load` reads them from YAML and words their
errors. Field docstrings are exported into the JSON Schemas that editors use.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.spec.quantities import Bytes, BytesPerSecond, Seconds

__all__ = [
    "API_VERSION",
    "Accelerator",
    "Access",
    "CacheTier",
    "Dataset",
    "Decode",
    "Directory",
    "Engine",
    "Ephemeral",
    "Io",
    "Metadata",
    "ObjectPrefix",
    "Pod",
    "Pvc",
    "SampleBytes",
    "Simulated",
    "StorageSpec",
    "StorageTarget",
    "Strict",
    "Workload",
    "WorkloadSpec",
]

API_VERSION = "bench/v1alpha1"

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A DNS label, since names become parts of Kubernetes names and of paths."""


class Strict(BaseModel):
    """Base of all documents: immutable, unknown keys refused, docstrings become descriptions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=False,
        validate_default=True,
        use_attribute_docstrings=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )


class Metadata(Strict):
    """Name and remarks of a document."""

    name: Name
    """Short name; part of paths and of Kubernetes names."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free labels, copied into results."""
    description: str = ""
    """One sentence for people."""


class SampleBytes(Strict):
    """Distribution of sample sizes: a normal one, truncated at 0.05 and at 4 times the mean."""

    mean: Bytes = Field(gt=0)
    """Mean payload bytes of a sample."""
    stdev: Bytes = Field(default=0, ge=0)
    """Standard deviation before truncation; 0 makes all samples equal."""


class Dataset(Strict):
    """Shape of a data set, made by `bench prepare`, or the address of an existing one."""

    format: Literal["npz", "tfrecord", "jpeg", "raw"]
    """Container format of the files."""
    samples: int = Field(gt=0, le=10**12)
    """Number of samples: a minimum; a run may need more to be long and cold enough."""
    samples_per_file: int = Field(default=1, gt=0, le=10**9)
    """Samples in each file; more than one for tfrecord and raw only."""
    sample_bytes: SampleBytes
    """Payload bytes of a sample."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of sizes and contents."""
    url: str | None = None
    """Directory or fsspec URL of an existing data set with a manifest; nothing is made then."""

    @model_validator(mode="after")
    def _one_sample_formats(self) -> Dataset:
        if self.format in ("npz", "jpeg") and self.samples_per_file != 1:
            raise ValueError(f"a {self.format} file holds one sample; set samples_per_file: 1")
        if self.samples_per_file > 1 and self.sample_bytes.stdev > 0:
            raise ValueError(
                "samples of one file must be equal in size; set sample_bytes.stdev: 0 "
                "or samples_per_file: 1"
            )
        return self


class Access(Strict):
    """In which order the samples are read."""

    pattern: Literal[
        "shuffled-files",
        "sequential-shards",
        "random-samples",
        "columns",
        "checkpoint-save",
        "checkpoint-restore",
        "model-load",
    ] = "shuffled-files"
    """shuffled-files: whole files in a new order each epoch; sequential-shards: shards in a
    new order, samples of a shard in sequence; random-samples: each sample by itself."""
    epochs: int = Field(default=1, gt=0, le=10**6)
    """Passes over the data set in one repeat."""
    shuffle_seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the order; each repeat and each epoch derives its own from it."""
    drain: bool = False
    """Stop reading ahead at the end of an epoch, as loaders that restart their workers do."""


class Accelerator(Strict):
    """One accelerator's pace on this workload."""

    step_seconds: Seconds = Field(gt=0)
    """Time of one training step with its batch already on the device."""


class Decode(Strict):
    """Work done on the host between reading a piece and handing it over."""

    kind: Literal["none", "emulated"] = "none"
    """none: bytes go to the device as stored; emulated: burn CPU for a stated time a sample."""
    seconds_per_sample: Seconds = Field(default=0.0, ge=0)
    """CPU time per sample of the emulated decoder, on one reader thread."""


class WorkloadSpec(Strict):
    """Data set shape, access pattern, batch, accelerator step times."""

    source: str = ""
    """Where the parameters come from."""
    dataset: Dataset
    """What is read."""
    access: Access = Access()
    """In which order."""
    batch_size: int = Field(gt=0, le=10**9)
    """Samples of one step on one accelerator."""
    accelerators: dict[Name, Accelerator] = Field(min_length=1)
    """Step times by accelerator name."""
    reader_threads: int = Field(default=4, gt=0, le=1024)
    """Concurrent reads per accelerator where the storage target does not say."""
    decode: Decode = Decode()
    """Host work per sample."""


class Workload(Strict):
    """A training workload as storage sees it."""

    api_version: Literal["bench/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Workload"]
    metadata: Metadata
    spec: WorkloadSpec


class Directory(Strict):
    """A directory on this machine."""

    path: str = Field(min_length=1)
    """Where data sets are made and read; relative to the working directory."""


class Pvc(Strict):
    """A PersistentVolumeClaim: an existing one by name, or one to create."""

    claim_name: str | None = Field(default=None, alias="claimName")
    """Existing claim; it is never deleted."""
    storage_class_name: str | None = Field(default=None, alias="storageClassName")
    """Class of a claim to create."""
    size: Bytes | None = Field(default=None, gt=0)
    """Size of a claim to create."""
    access_modes: tuple[
        Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"], ...
    ] = Field(default=("ReadWriteMany",), alias="accessModes", min_length=1)
    """Access modes of a claim to create."""
    sub_path: str = Field(default="", alias="subPath")
    """Directory inside the volume."""

    @model_validator(mode="after")
    def _existing_or_new(self) -> Pvc:
        new = self.storage_class_name is not None
        if (self.claim_name is not None) == new:
            raise ValueError("give either claimName, or storageClassName with size")
        if new and self.size is None:
            raise ValueError("storageClassName needs size")
        return self


class Ephemeral(Strict):
    """A generic ephemeral volume of each pod: local SSD."""

    storage_class_name: str = Field(alias="storageClassName", min_length=1)
    """Class of the volume."""
    size: Bytes = Field(gt=0)
    """Size of the volume."""


class Credentials(Strict):
    """Where credentials come from; never the credentials themselves."""

    source: Literal["environment", "secret", "anonymous"] = "environment"
    """environment: the AWS chain; secret: a Kubernetes Secret; anonymous: unsigned requests."""
    secret_name: str | None = Field(default=None, alias="secretName")
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""


class ObjectPrefix(Strict):
    """A prefix in an object store."""

    url: str = Field(pattern=r"^[a-z][a-z0-9+.-]*://")
    """s3://bucket/prefix."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server."""
    region: str | None = None
    """Region to sign for."""
    ca_bundle: str | None = None
    """File with the certificate authority of the endpoint."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Bucket in the path or in the host name; auto: in the name at Amazon, else in the path."""
    credentials: Credentials = Credentials()
    """Where credentials come from."""


class Simulated(Strict):
    """Storage with an exactly known speed, without any bytes behind it."""

    bandwidth_bytes_per_second: BytesPerSecond | None = Field(default=None, gt=0)
    """One shared pipe for all readers of a node; None for no limit."""
    latency_seconds: Seconds = Field(default=0.0, ge=0)
    """Time from request to first byte, of each request by itself."""
    jitter_seconds: Seconds = Field(default=0.0, ge=0)
    """Mean of an exponential extra latency, seeded."""
    slow_every: int = Field(default=0, ge=0, le=10**12)
    """Every n-th request is slow; 0 for none."""
    slow_seconds: Seconds = Field(default=0.0, ge=0)
    """Extra latency of a slow request."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the jitter."""


Engine = Literal["posix", "http", "boto3", "obstore", "s3torchconnector", "s3fs"]


class Io(Strict):
    """How the target is read."""

    mode: Literal["direct", "buffered", "dontcache"] = "direct"
    """direct: O_DIRECT; buffered: through the page cache; dontcache: RWF_DONTCACHE."""
    engine: Engine = "posix"
    """Client library: posix for files; http where an object target names none."""
    block_bytes: Bytes = Field(default=4 * 2**20, ge=4096, le=2**30)
    """Bytes of one read; also the size of a slot of the ring."""
    threads: int | None = Field(default=None, gt=0, le=1024)
    """Concurrent reads per accelerator; None takes the workload's reader_threads."""
    timeout_seconds: Seconds = Field(default=30.0, ge=0.05, le=3600)
    """Objects: longest time without a byte before a request is given up and tried again."""
    max_attempts: int = Field(default=8, gt=0, le=64)
    """Objects: tries of one request, the first included."""


class CacheTier(Strict):
    """A cache in front of the medium that no client can empty."""

    name: str
    """For example "OSS read cache"."""
    capacity_bytes: Bytes = Field(ge=0)
    """Its size, summed over servers."""


class Pod(Strict):
    """Settings of the measuring pods."""

    node_selector: dict[str, str] = Field(default_factory=dict, alias="nodeSelector")
    """Labels a node must have."""
    tolerations: tuple[dict[str, str | int], ...] = ()
    """Tolerations as in a pod spec."""
    resources: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Requests and limits as in a pod spec."""


class StorageSpec(Strict):
    """One place to read from, and how."""

    directory: Directory | None = None
    pvc: Pvc | None = None
    ephemeral: Ephemeral | None = None
    object: ObjectPrefix | None = None
    simulated: Simulated | None = None
    io: Io = Io()
    """How it is read."""
    cache_tiers: tuple[CacheTier, ...] = ()
    """Caches in front of the medium, as declared by whoever runs it."""
    pod: Pod = Pod()
    """Settings of the measuring pods."""

    @model_validator(mode="after")
    def _exactly_one_place(self) -> StorageSpec:
        given = [k for k in PLACES if getattr(self, k) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of {', '.join(PLACES)} (found {found})")
        return self

    @property
    def kind(self) -> str:
        """Name of the one place that is given."""
        return next(k for k in PLACES if getattr(self, k) is not None)


PLACES = ("directory", "pvc", "ephemeral", "object", "simulated")


class StorageTarget(Strict):
    """A storage target."""

    api_version: Literal["bench/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["StorageTarget"]
    metadata: Metadata
    spec: StorageSpec

"""`bench scan`: turn an existing data set into a workload file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
from rich.console import Console

from bench.analysis.wording import data_bytes
from bench.cli.live import LiveLine, Progress
from bench.dataset.scan import Scan, Sizes, scan_entries
from bench.errors import UsageError
from bench.spec.documents import API_VERSION, Credentials, ObjectPrefix
from bench.storage.base import PeekStore
from bench.storage.directory import DirectoryStore
from bench.storage.object.access import open_access
from bench.storage.object.store import ObjectStore

__all__ = ["command"]

BAR = 40


@click.command(name="scan")
@click.argument("url")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Workload file to write.")
@click.option("--name", help="Name of the workload; by default from the address.")
@click.option("--endpoint-url", help="S3 server, where it is not Amazon's.")
@click.option("--region", help="Region to sign for.")
@click.option("--ca-bundle", help="File with the certificate authority of the endpoint.")
@click.option("--anonymous", is_flag=True, help="Send unsigned requests.")
def command(
    *,
    url: str,
    output: Path | None,
    name: str | None,
    endpoint_url: str | None,
    region: str | None,
    ca_bundle: str | None,
    anonymous: bool,
) -> None:
    """Describe the data at URL, a directory or s3://BUCKET/PREFIX, as a workload.

    The workload has the shape of the data: `bench run` makes a data set of that shape on the
    target that is to be measured, and leaves the data itself alone.
    """
    store: PeekStore
    if "://" in url:
        target = ObjectPrefix(
            url=url,
            endpoint_url=endpoint_url,
            region=region,
            ca_bundle=ca_bundle,
            credentials=Credentials(source="anonymous" if anonymous else "environment"),
        )
        store = ObjectStore(open_access(target))
    elif Path(url).is_dir():
        store = DirectoryStore(url)
    else:
        raise UsageError(url, "is neither a directory nor s3://BUCKET/PREFIX")
    with LiveLine(Console(stderr=True)) as line:
        found = scan_entries(
            store.entries(),
            store.peek,
            place=url,
            progress=lambda count, size, seconds: line.update(
                Progress(
                    phase="scan",
                    elapsed_seconds=seconds,
                    bytes_done=size,
                    note=f"{count} objects, {count / seconds if seconds else 0:.0f} a second",
                )
            ),
        )
    text = workload_yaml(found, url=url, name=name or _name(url))
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(str(output), f"cannot be written ({error.strerror})") from error
    print(_histogram(found.sizes), file=sys.stderr)
    print(
        f"{output}: {found.sizes.count} objects, {data_bytes(found.sizes.total)}, {found.seen_as}"
    )


def _name(url: str) -> str:
    words = re.findall(r"[a-z0-9]+", url.rstrip("/").rpartition("/")[2].lower())
    return "-".join(words)[:40].strip("-") or "scanned"


def _histogram(sizes: Sizes) -> str:
    """Return a line for each power of two that occurs."""
    most = max(sizes.bins.values())
    return "\n".join(
        f"{data_bytes(1 << max(0, bits - 1)):>8} to {data_bytes(1 << bits):>8}  {count:>9}  "
        + "#" * max(1, round(BAR * count / most))
        for bits, count in sorted(sizes.bins.items())
    )


def workload_yaml(found: Scan, *, url: str, name: str) -> str:
    """Return the workload file; what a person must still decide stands in comments."""
    sizes = found.sizes
    several = found.samples_per_object > 1
    remarks = [
        f"Scanned from {url}: {sizes.count} objects, {data_bytes(sizes.total)},",
        (
            f"{data_bytes(sizes.smallest)} to {data_bytes(sizes.largest)}; the first bytes of "
            f"{found.looked_into} look like {found.seen_as}."
        ),
        *_histogram(sizes).splitlines(),
    ]
    if found.seen_as != found.format:
        remarks.append(f"There is no format {found.seen_as} here; raw files have its sizes.")
    if several:
        remarks.append("Samples per file are estimated from first records, all of one size.")
    lines = [
        *(f"# {remark}" for remark in remarks),
        f"apiVersion: {API_VERSION}",
        "kind: Workload",
        "metadata:",
        f"  name: {name}",
        "spec:",
        "  dataset:",
        f"    format: {found.format}",
        f"    samples: {sizes.count * found.samples_per_object}",
        f"    samples_per_file: {found.samples_per_object}",
        "    sample_bytes:",
        f"      mean: {max(1, round(found.sample_bytes))}",
        f"      stdev: {0 if several else round(sizes.stdev)}",
        "  access:",
        f"    pattern: {'sequential-shards' if several else 'shuffled-files'}",
        "  batch_size: 8 # of one accelerator: set it to your job's",
        "  accelerators:",
        "    h100:",
        "      step_seconds: 100ms # set it to your step's time with its batch on the device",
    ]
    return "\n".join(lines) + "\n"

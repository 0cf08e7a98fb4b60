"""`python -m tests.cluster`: up, down, status, exec, kubectl."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.cluster.cluster import EXTRAS, Cluster
from tests.cluster.settings import ClusterError, Layout


def main() -> int:
    """Run one command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="bring the cluster up, or add to it")
    up.add_argument(
        "--with",
        dest="extras",
        action="append",
        choices=sorted(EXTRAS),
        default=[],
        help="; ".join(f"{name}: {what}" for name, what in EXTRAS.items()),
    )
    verbs.add_parser("down", help="end the cluster and remove all of it but the cache")
    verbs.add_parser("status", help="what runs")
    for verb, what in (
        ("exec", "run a command in the cluster's network"),
        ("kubectl", "run kubectl as administrator"),
    ):
        verbs.add_parser(verb, help=what, add_help=False, prefix_chars="\0").add_argument(
            "words", nargs="*"
        )
    options = parser.parse_args()
    started = time.monotonic()

    def tell(line: str) -> None:
        print(f"cluster: {time.monotonic() - started:5.1f} s  {line}", file=sys.stderr, flush=True)

    try:
        return run(options, Cluster(Layout.of_environment(), tell=tell))
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted; `make cluster-down` removes what there is", file=sys.stderr)
        return 130


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Do what the parsed command line says."""
    match options.verb:
        case "up":
            cluster.up(extras=options.extras)
            cluster.tell("ready")
            print(f"export KUBECONFIG={cluster.kubeconfig}")
            return 0
        case "down":
            cluster.down()
            return 0
        case "status":
            for name, pid in sorted(cluster.processes.running().items()):
                print(f"{name:28} {pid}")
            for name, status in sorted(cluster.processes.ended().items()):
                print(f"{name:28} ended with status {status}")
            return 0
        case verb:
            words = options.words[1:] if options.words[:1] == ["--"] else options.words
            if verb == "kubectl":
                words = [str(cluster.layout.program("kubectl")), *words]
            argv = [*cluster.exec_words(), *words]
            environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
            os.execvpe(argv[0], argv, environment)
    return None


if __name__ == "__main__":
    sys.exit(main())

# bench, as pods run it and as the launcher runs in a cluster.
#
#   docker build -t REGISTRY/bench:TAG .                          emulated accelerators
#   docker build -t REGISTRY/bench:TAG --build-arg VARIANT=gpu .  with torch for CUDA
#
# Any base with Python 3.11 or later under the name python3 and its venv module will do. Only
# locked packages are fetched, from wherever pip is told to (PIP_INDEX_URL, PIP_CERT).
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS packages
ARG VARIANT=cpu
ARG PIP_INDEX_URL
ARG PIP_CERT
WORKDIR /opt/locks
COPY requirements.lock requirements-gpu.lock ./
# Bytecode is compiled now, since pods cannot write it. Tests, headers and pip stay out.
RUN case "$VARIANT" in \
        cpu) lock=requirements.lock ;; \
        gpu) lock=requirements-gpu.lock ;; \
        *) echo "VARIANT is cpu or gpu, not $VARIANT" >&2; exit 1 ;; \
    esac \
    && python3 -m venv /opt/packages \
    && /opt/packages/bin/python -m pip --disable-pip-version-check install --quiet --no-cache-dir \
        --require-hashes --only-binary :all: -r "$lock" \
    && rm -rf /opt/packages/lib/python3*/site-packages/pyarrow/include \
        /opt/packages/lib/python3*/site-packages/*/tests \
    && if ! grep -q ^setuptools== "$lock"; then rm_too=setuptools; fi \
    && /opt/packages/bin/python -m pip uninstall --quiet --yes $rm_too pip

FROM packages AS bench
WORKDIR /build
COPY pyproject.toml README.md ./
COPY bench bench
COPY workloads workloads
COPY storageclasses storageclasses
RUN python3 -m venv /opt/pip \
    && /opt/pip/bin/python -m pip --python /opt/packages/bin/python install --quiet \
        --no-deps --no-build-isolation --target /opt/bench .

# A change of bench changes the last layer alone, a few hundred kilobytes.
FROM packages
COPY --from=bench /opt/bench /opt/bench
# Nothing is written but to HOME, which the pod provides where the root is read-only.
ENV PATH=/opt/bench/bin:/opt/packages/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/bench \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /tmp
# A number, so that runAsNonRoot can be checked without the image's user list.
USER 65532:65532
CMD ["bench", "--help"]

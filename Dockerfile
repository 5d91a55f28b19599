# Two images. Nothing is downloaded while they are built: fill a wheelhouse first, with the Python version of the base
# image (3.11 here: make setup PYTHON=python3.11). Any base with python3, its venv module and CA certificates will do.
#
#   the manager            make wheelhouse && docker build .
#   the inference server   make wheelhouse-inference && docker build --target inference .
#     on CPUs alone        make wheelhouse-inference TORCH=cpu CPU=URL && docker build --target inference .
#     with vLLM            make wheelhouse-inference TORCH=none &&
#                          docker build --target inference --build-arg BASE_IMAGE=IMAGE --build-arg VENV=--system-site-packages .
#                          where IMAGE has vllm in PATH, and torch in its python3's own packages
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS install-inference
ARG VENV=""
USER 0:0
COPY wheelhouse-inference /tmp/wheelhouse
# vLLM's pins and ours exclude each other. So ours are in an environment that sees the base image's torch through its
# own packages, and vLLM's own python does not see it. pip check would judge both together.
RUN python3 -m venv ${VENV} /opt/kaito \
    && /opt/kaito/bin/python -m pip install --no-cache-dir --no-index --no-deps --ignore-installed \
        --find-links /tmp/wheelhouse --require-hashes -r /tmp/wheelhouse/inference.lock \
    && /opt/kaito/bin/python -m pip install --no-cache-dir --no-index --no-deps /tmp/wheelhouse/kaito-*.whl \
    && if [ -z "${VENV}" ]; then /opt/kaito/bin/python -m pip check; fi \
    && /opt/kaito/bin/python -c "import torch, kaito.inference.process"

FROM ${BASE_IMAGE} AS inference
LABEL org.opencontainers.image.title="kaito-inference" org.opencontainers.image.licenses="Apache-2.0"
# python is ours, whatever else is in the base. The home of a user without a name, where downloads go, can be written to.
ENV PATH=/opt/kaito/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/home/kaito HF_HOME=/home/kaito/huggingface
COPY --from=install-inference /opt/kaito /opt/kaito
USER 0:0
RUN mkdir -p /home/kaito && chown 65532:65532 /home/kaito
USER 65532:65532
WORKDIR /
EXPOSE 5000
ENTRYPOINT ["python", "-m", "kaito.inference"]
CMD ["--help"]

FROM ${BASE_IMAGE} AS install
COPY requirements/manager.lock /tmp/manager.lock
COPY wheelhouse /tmp/wheelhouse
# kaito itself was built from this very tree, so the lock has no hash for it and it goes in by its own name.
RUN python3 -m venv /opt/kaito \
    && /opt/kaito/bin/pip install --no-cache-dir --no-index --find-links /tmp/wheelhouse --require-hashes \
        -r /tmp/manager.lock \
    && /opt/kaito/bin/pip install --no-cache-dir --no-index --no-deps /tmp/wheelhouse/kaito-*.whl \
    && /opt/kaito/bin/pip check

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="kaito" org.opencontainers.image.licenses="Apache-2.0"
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=install /opt/kaito /opt/kaito
# Numbers, not names: the base image need not know the user, and runAsNonRoot can be checked.
USER 65532:65532
WORKDIR /
# metrics, health, webhooks
EXPOSE 8080 8081 9443
ENTRYPOINT ["/opt/kaito/bin/kaito"]
CMD ["manager"]

# The manager's image. Nothing is downloaded while it is built: `make wheelhouse` first, with the Python version of the
# base image (3.11 here: make setup PYTHON=python3.11). Any base with python3, its venv module and CA certificates will do.
ARG BASE_IMAGE=python:3.11-slim

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

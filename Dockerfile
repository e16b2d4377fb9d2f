# Atlas. A stage builds the wheel, a stage each installs what an image needs and nothing else: all wheels, no compiler, no pip.
FROM python:3.13-slim-bookworm AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements-build.lock ./
RUN pip install --only-binary :all: --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY atlas atlas
COPY examples examples
COPY migrations migrations
COPY seed seed
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM python:3.13-slim-bookworm AS worker-packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /packages
RUN python -m venv --without-pip /venv
COPY requirements-image.lock ./
RUN pip --python /venv/bin/python install --only-binary :all: --require-hashes -r requirements-image.lock
COPY --from=wheel /dist /dist
# without the bytecode of what commands, traces and the mirror load: 22 MB less, and some tenths of a second more at each start of those
RUN pip --python /venv/bin/python install --no-deps /dist/*.whl \
  && find /venv/lib -type d -name __pycache__ -regex '.*/\(sqlalchemy\|pygments\|google\|grpc\|opentelemetry\)/.*' -prune -exec rm -rf {} +

FROM python:3.13-slim-bookworm AS rag-packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /packages
RUN python -m venv --without-pip /venv
COPY requirements-rag.lock ./
RUN pip --python /venv/bin/python install --only-binary :all: --require-hashes -r requirements-rag.lock
COPY --from=wheel /dist /dist
RUN pip --python /venv/bin/python install --no-deps /dist/*.whl

# `docker build --target rag`: the knowledge service, which clones repositories
FROM python:3.13-slim-bookworm AS rag
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
  && useradd --system --uid 10001 --no-create-home --home-dir /tmp atlas
COPY --from=rag-packages /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ATLAS_LOG_FORMAT=json ATLAS_HOME=/tmp/atlas \
  RAG_HTTP_HOST=0.0.0.0 RAG_HTTP_PORT=8501
USER 10001
EXPOSE 8501
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-m", "atlas.probe", "RAG_HTTP_PORT"]
ENTRYPOINT ["atlas"]
CMD ["rag", "serve"]

# the worker, and every `atlas` command but those of the extras stack and rag
FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="Atlas" org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp atlas
COPY --from=worker-packages /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
  ATLAS_HTTP_HOST=0.0.0.0 ATLAS_HTTP_PORT=8000 ATLAS_LOG_FORMAT=json ATLAS_HOME=/tmp/atlas
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-m", "atlas.probe", "ATLAS_HTTP_PORT"]
ENTRYPOINT ["atlas"]
CMD ["worker"]

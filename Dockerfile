# The daemon without training, tests or demo; with `--build-arg EXTRAS=train` what the trainer needs too.
# Runs as a plain user and needs to write only below /tmp (the trainer to the models as well).
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /venv
# The pinned packages first: they change less often than the code, so their layer is kept.
COPY constraints.txt pyproject.toml README.md ./
ARG EXTRAS=
RUN /venv/bin/python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join(sum((p['optional-dependencies'][e] for e in sys.argv[1:]), p['dependencies'])))" ${EXTRAS} > /requirements.txt \
    && /venv/bin/pip install --no-cache-dir -c constraints.txt -r /requirements.txt
COPY dwcp_stream dwcp_stream
COPY topologies topologies
COPY lab lab
RUN /venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
LABEL org.opencontainers.image.title="dwcp-stream" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin dwcp
COPY --from=build /venv /venv
WORKDIR /app
COPY LICENSE ./
COPY config config
COPY --chown=10001:10001 models models
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DWCP_LOG__JSON=true \
    DWCP_DATA_DIR=/tmp/dwcp-stream
USER 10001:10001
EXPOSE 9470-9472 9469 9468 9467 9466
# Every worker must make progress; a worker that is still reading its state back is alive.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-m", "dwcp_stream.web.probe", "live"]
ENTRYPOINT ["dwcp-stream"]
CMD ["worker", "--all"]

# One file, one image for each service:  docker build --build-arg SERVICE=sender -t pombo/sender .
# The simulator's:  --build-arg FOLDER=tools --build-arg SERVICE=provider-simulator
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG SERVICE
ARG FOLDER=services
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python3 -m venv /app
# Dependencies first: this layer changes only when the service's own pins do.
COPY deploy/requirements/${SERVICE}.lock requirements.lock
RUN /app/bin/pip install --require-hashes -r requirements.lock
COPY contracts contracts
COPY libs libs
COPY ${FOLDER}/${SERVICE} ${FOLDER}/${SERVICE}
# Of our own packages only those that the service names get in; nothing but its pins came from outside.
RUN /app/bin/pip wheel --no-deps --wheel-dir wheels ./contracts ./libs/* ./${FOLDER}/${SERVICE} \
    && /app/bin/pip install --no-index --find-links wheels ${SERVICE} \
    && /app/bin/pip check

FROM ${PYTHON_IMAGE}
ARG SERVICE
# /var/lib/pombo: where a volume may go, so that a new one belongs to the user (the simulator's log).
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin pombo && install -d -o pombo -g pombo /var/lib/pombo
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 POMBO_SERVICE=${SERVICE}
USER 10001
# `serve` by default; the same image runs `migrate` and the service's own operations.
ENTRYPOINT ["sh", "-c", "exec python3 -m \"$(echo $POMBO_SERVICE | tr - _)\" \"$@\"", "pombo"]
CMD ["serve"]

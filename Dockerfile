# The server. Build it in a clone: docker build --tag billhook .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/billhook
ENV PATH="/opt/billhook/bin:$PATH"
COPY requirements-server.lock ./
RUN pip install --no-cache-dir --require-hashes --no-deps -r requirements-server.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY src src
# The build tools and pip are not part of the image.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && pip uninstall --yes editables hatchling pathspec pluggy trove-classifiers pip

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin billhook
COPY --from=build /opt/billhook /opt/billhook
ENV PATH="/opt/billhook/bin:$PATH" PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=7130
USER 10001
WORKDIR /opt/billhook
EXPOSE 7130
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
ENTRYPOINT ["billhook"]
CMD ["serve"]

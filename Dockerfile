# fcnseg on processors: see docs/containers.md. Not built by the tests, which have no container runtime; they make the
# package from the very files that are copied here.
FROM python:3.11-slim AS build

RUN pip install --no-cache-dir uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/venv
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fcnseg fcnseg
COPY engines engines
COPY examples/street/images examples/street/images
RUN uv sync --no-dev --no-editable

FROM python:3.11-slim

COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH FCNSEG_HOME=/opt/fcnseg
# The bundled model's engine, for processors like the builder's; every user may check that this machine built it.
RUN fcnseg build-engine --quiet && chmod a+r /opt/fcnseg/engine-key
WORKDIR /data
ENTRYPOINT ["fcnseg"]
CMD ["--help"]

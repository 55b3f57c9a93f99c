# deltaserve beside an existing model. CPU torch by default; for a GPU: --build-arg TORCH_BACKEND=cu130. An empty one takes
# torch from the package index that uv is set to, where PyTorch's own cannot be reached.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG TORCH_BACKEND=cpu
# redis,ray: also for a cluster of Ray
ARG EXTRAS=redis
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/deltaserve
WORKDIR /src
RUN pip install "uv==0.13.*" && uv venv "${VIRTUAL_ENV}"
COPY constraints.txt ./
RUN uv pip install ${TORCH_BACKEND:+--torch-backend="${TORCH_BACKEND}"} --constraints constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY offset_models offset_models
COPY client client
COPY deltaserve deltaserve
RUN uv pip install ${TORCH_BACKEND:+--torch-backend="${TORCH_BACKEND}"} --constraints constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON_VERSION}-slim-bookworm
COPY --from=build /opt/deltaserve /opt/deltaserve
# Nothing is written but below /tmp and the volume, so the root file system may be read-only.
ENV PATH=/opt/deltaserve/bin:${PATH} \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    PYTHONUNBUFFERED=1 \
    DELTASERVE_HOST=0.0.0.0 \
    DELTASERVE_PORT=8000 \
    DELTASERVE_OFFSETS_ROOT=/offsets
RUN mkdir /offsets && chown 10001:0 /offsets && chmod 0775 /offsets
VOLUME /offsets
USER 10001:0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"DELTASERVE_PORT\"]}/health/live', timeout=2)"]
ENTRYPOINT ["deltaserve"]
CMD ["serve"]

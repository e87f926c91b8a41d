# The service with the shipped model. Two stages: what builds is not in what runs.
#   docker build -t captioner .                                    CPU
#   docker build --build-arg TORCH=cu126 -t captioner:gpu .        another build of torch from PyTorch's index
#   Behind a mirror: --build-arg TORCH_INDEX=https://mirror/whl/cpu --build-arg PIP_INDEX_URL=https://mirror/simple

FROM python:3.11-slim AS build
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/${TORCH}
# pip reads it itself, for all but torch; without a value it takes the public index.
ARG PIP_INDEX_URL
RUN python -m venv /opt/captioner
ENV PATH=/opt/captioner/bin:$PATH
# torch changes seldom and weighs most: a layer of its own.
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" "torch>=2.6" "torchvision>=0.21"
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY captioner captioner
COPY service service
RUN pip install --no-cache-dir .

FROM python:3.11-slim
# /keys: a volume that is mounted there, for API keys, belongs to the service.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin captioner \
    && install --directory --owner 10001 --group 10001 --mode 0750 /keys
COPY --from=build /opt/captioner /opt/captioner
# Nothing is written outside /tmp: the root file system may be read-only.
ENV PATH=/opt/captioner/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /tmp
# Without CAPTIONER_KEYS_FILE or CAPTIONER_NO_AUTH=1 it refuses to listen on 0.0.0.0; docs/service.md explains both.
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["captioner"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

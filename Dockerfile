# The service alone, without TensorFlow.  The same file builds behind a proxy of one's own:
#   docker build --secret id=ca,src=certificates.pem .
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /source
# The packages change seldom, the code often: each has its own layer.
COPY requirements/build.txt requirements/serve.txt requirements/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python -m venv /opt/build \
    && python -m venv --without-pip /opt/triceps \
    && /opt/build/bin/pip install --only-binary :all: --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip --python /opt/triceps/bin/python install \
        --only-binary :all: --require-hashes -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY training training
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/triceps/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:${PYTHON_VERSION}-slim AS serve
LABEL org.opencontainers.image.title="Triceps" \
      org.opencontainers.image.description="Serves every head of an ONNX model from one JSON request" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/triceps /opt/triceps
COPY LICENSE /opt/triceps/LICENSE
COPY models /models
ENV PATH=/opt/triceps/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    TRICEPS_MODELS=/models \
    HOST=0.0.0.0
# A number, so that a platform can see that it is not root's.
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["triceps"]
CMD ["serve"]

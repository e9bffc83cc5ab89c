# Two images.  A build without --target makes the last one: the service, without TensorFlow.
#   docker build --tag triceps .                             triceps serve
#   docker build --tag triceps-train --target train .        triceps train
#   docker build --build-arg RUNTIME=onnxruntime-openvino==1.24.1 --tag triceps-openvino .
#                                                            with another package of ONNX Runtime
# Behind a proxy with its own certificates, add --secret id=ca,src=certificates.pem
ARG PYTHON_VERSION=3.13

# --- the packages of the serving lock, which change less often than the code --------------------
FROM python:${PYTHON_VERSION}-slim AS locked
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /source
COPY requirements/build.txt requirements/serve.txt requirements/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python -m venv /opt/build \
    && python -m venv --without-pip /opt/triceps \
    && /opt/build/bin/pip install --only-binary :all: --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip --python /opt/triceps/bin/python install --no-compile \
        --only-binary :all: --require-hashes -r requirements/serve.txt
# A package of ONNX Runtime with other execution providers takes the place of the plain one.
ARG RUNTIME=
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    [ -z "${RUNTIME}" ] || { \
        /opt/build/bin/pip --python /opt/triceps/bin/python uninstall --yes onnxruntime \
        && /opt/build/bin/pip --python /opt/triceps/bin/python install --no-compile \
            --only-binary :all: "${RUNTIME}"; \
    }

# --- the same without files that serving never uses: tests, stubs, C sources, other tools -------
FROM locked AS packages
# ONNX Runtime's Python module contains the whole runtime, so nothing uses its C library.
RUN find /opt/triceps/lib -depth \( \
        -name tests -o -name conftest.py -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \
        -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.h' \
        -o -path '*/numpy/f2py' \
        -o -path '*/onnx/backend/test' \
        -o -path '*/onnxruntime/capi/libonnxruntime.so*' \
        -o -path '*/onnxruntime/quantization' \
        -o -path '*/onnxruntime/tools' \
        -o -path '*/onnxruntime/transformers' \
    \) -exec rm -r {} +

# --- the code of this project, as its wheel installs it, under /code, and bytecode --------------
FROM packages AS code
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY training training
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/triceps/bin/python install --no-compile \
        --no-deps --no-index --root /code /wheels/*.whl \
    && cp -a /code/. /
COPY deploy/bytecode.py deploy/
RUN PYTHONPYCACHEPREFIX=/code/opt/triceps/bytecode /opt/triceps/bin/python -P deploy/bytecode.py

# --- the training job, with TensorFlow ----------------------------------------------------------
FROM locked AS train-packages
COPY requirements/train.txt requirements/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/build/bin/pip --python /opt/triceps/bin/python install --no-compile \
        --only-binary :all: --require-hashes -r requirements/train.txt

FROM python:${PYTHON_VERSION}-slim AS train
LABEL org.opencontainers.image.title="Triceps, training" \
      org.opencontainers.image.description="Trains a Keras model and publishes it as ONNX" \
      org.opencontainers.image.licenses="MIT"
# A new volume that is mounted here gets this owner.  Platforms that choose the user themselves run
# it with the group 0.
RUN install --directory --owner 10001 --group 0 --mode 0775 /models
COPY --from=train-packages /opt/triceps /opt/triceps
COPY --from=code /code /
WORKDIR /opt/triceps
COPY LICENSE ./
COPY training/data training/data
COPY training/specs training/specs
ENV PATH=/opt/triceps/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/triceps/bytecode \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    TRICEPS_MODELS=/models
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["triceps"]
CMD ["train", "training/specs/triceps.toml"]

# --- the service --------------------------------------------------------------------------------
FROM python:${PYTHON_VERSION}-slim AS serve
LABEL org.opencontainers.image.title="Triceps" \
      org.opencontainers.image.description="Serves every head of an ONNX model from one JSON request" \
      org.opencontainers.image.licenses="MIT"
COPY --from=packages /opt/triceps /opt/triceps
# A new volume that is mounted here, for prepared models, gets this owner.
RUN install --directory --owner 10001 --group 0 --mode 0775 /cache
WORKDIR /opt/triceps
COPY LICENSE ./
COPY models models
COPY --from=code /code /
# The places where platforms mount models; without a mount, the models of the image are served.
ENV PATH=/opt/triceps/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/triceps/bytecode \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    TRICEPS_MODELS=/models:/mnt/models:/opt/ml/model:/opt/triceps/models \
    HOST=0.0.0.0
# A number, so that a platform can verify that the user is not root.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["triceps", "health"]
ENTRYPOINT ["triceps"]
CMD ["serve"]

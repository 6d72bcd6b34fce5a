# An image for jobs with `run.requirements`: theirs, laid over an image that has Python. Only what that image lacks
# is added, and what it has stays at its version unless the requirements forbid it.
ARG BASE_IMAGE=dsflow/python
FROM ${BASE_IMAGE} AS install
USER root

# As in Dockerfile: these are known to this stage only, and dsflow removes the stage.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG UV_DEFAULT_INDEX
ARG UV_INDEX
ARG UV_INSECURE_HOST

COPY requirements.txt installer.lock /tmp/
RUN cd /tmp && mkdir -p /opt/requirements \
 && python3 -m venv installer \
 && installer/bin/pip install --quiet --require-hashes -r installer.lock \
 && uv() { installer/bin/uv pip "$@" --no-cache --python "$(command -v python3)"; } \
 && uv freeze > present.txt && cp present.txt wanted.txt \
 && uv compile --quiet --no-header --no-annotate requirements.txt -o wanted.txt \
 && { grep -vxFf present.txt wanted.txt > missing.txt || test $? = 1; } \
 && uv install --target /opt/requirements --no-deps --compile-bytecode -r missing.txt

FROM ${BASE_IMAGE}
COPY --from=install /opt/requirements /opt/requirements
ENV PYTHONPATH=/opt/requirements:/opt/dsflow

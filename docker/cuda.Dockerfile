# Needs the NVIDIA Container Toolkit on the host, and a driver for the CUDA version that torch on PyPI is built with.
#
# docker build --file docker/cuda.Dockerfile --tag acis:cuda .
# docker run --rm --gpus all --shm-size 2g --user "$(id -u):$(id -g)" --volume "$PWD:/work" acis:cuda train quick --device cuda
FROM python:3.12-slim

# `compile` lets torch build kernels when it runs, which takes a C and C++ compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

COPY . /tmp/source
# On Linux, torch of PyPI brings CUDA's libraries along; the driver is the host's.
RUN pip install --no-cache-dir --constraint /tmp/source/constraints.txt /tmp/source \
    && useradd --create-home acis \
    && install --directory --owner acis /work

# For users without a home, whom `--user` makes.
ENV ACIS_CACHE=/tmp/acis MPLCONFIGDIR=/tmp/matplotlib TORCHINDUCTOR_CACHE_DIR=/tmp/inductor TRITON_CACHE_DIR=/tmp/triton
USER acis
WORKDIR /work
ENTRYPOINT ["acis"]
CMD ["--help"]

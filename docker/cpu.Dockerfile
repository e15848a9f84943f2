# docker build --file docker/cpu.Dockerfile --tag acis:cpu .
# docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" acis:cpu quickstart
FROM python:3.12-slim

COPY . /tmp/source
# "+cpu" makes a build of torch newer to pip than the same version with CUDA.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        --constraint /tmp/source/constraints.txt /tmp/source \
    && useradd --create-home acis \
    && install --directory --owner acis /work

# For users without a home, whom `--user` makes.
ENV ACIS_CACHE=/tmp/acis MPLCONFIGDIR=/tmp/matplotlib
USER acis
WORKDIR /work
ENTRYPOINT ["acis"]
CMD ["--help"]

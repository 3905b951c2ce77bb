# An image that serves a bundle or a finished work directory, which is mounted at /model.
#
#   docker build -f launch/serve.Dockerfile -t catid2-serve .                               CPU
#   docker build -f launch/serve.Dockerfile -t catid2-serve --build-arg EXTRAS=serve,gpu .  CUDA
#   docker run --rm -p 8080:8080 -v "$PWD/runs/quickstart/cat_id2/export:/model:ro" catid2-serve
#
# JAX's wheels bring CUDA; with --gpus=all the host needs NVIDIA's container toolkit alone.
FROM python:3.12-slim AS build
ARG EXTRAS=serve
COPY . /source
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir "/source[${EXTRAS}]"

FROM python:3.12-slim
COPY --from=build /venv /venv
RUN useradd --uid 10001 --create-home serve && install -d -o serve /cache
USER 10001
# Compilations are kept, so that a container that starts again with its volume compiles nothing.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 JAX_COMPILATION_CACHE_DIR=/cache
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["catid2", "serve", "--workdir=/model", "--host=0.0.0.0"]
CMD ["--drain=5"]

# An image that runs the entry points of a checkout, with its configurations and gin files.
#
#   docker build -f launch/job.Dockerfile -t catid2 .                                       CPU
#   docker build -f launch/job.Dockerfile -t catid2 --build-arg EXTRAS=inspect,remote,gpu . CUDA
#   docker build -f launch/job.Dockerfile -t catid2 --build-arg EXTRAS=inspect,remote,tpu . TPU
#   docker run --rm -v "$PWD/runs:/catid2/runs" catid2 -m catid2_jax.prepare --config=quickstart
#
# JAX's wheels bring CUDA; with --gpus=all the host needs NVIDIA's container toolkit alone.
FROM python:3.12-slim
ARG EXTRAS=inspect,remote
WORKDIR /catid2
COPY . .
RUN pip install --no-cache-dir -e ".[${EXTRAS}]"
ENV PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["python"]

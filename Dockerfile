# The locked packages and this checkout. `make container` builds it; with apptainer, also envs/sharpflat.sif,
# which `snakemake --sdm apptainer` takes.
FROM python:3.11-slim

WORKDIR /sharpflat
COPY envs/requirements.lock envs/
RUN pip install --no-cache-dir --requirement envs/requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --editable .

CMD ["snakemake", "--cores", "all", "all", "--config", "tier=smoke"]

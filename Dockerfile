# docker build -t simqnas .                       # trains, searches and measures on a CPU
# docker build -t simqnas-board --target board .  # measures only; no torch
# docker build -t simqnas --build-arg TORCH_BACKEND=auto .   # a torch for this machine's GPU
FROM python:3.12-slim AS board
RUN pip install --no-cache-dir uv
COPY pyproject.toml README.md LICENSE cli.py /source/
COPY nas /source/nas
COPY supernets /source/supernets
COPY predictors /source/predictors
COPY hardware /source/hardware
RUN uv pip install --system --no-cache "/source[postgresql,s3]"
# Any user may write here, also one that has no home and no name.
RUN mkdir -m 1777 /cache /runs /work
ENV SIMQNAS_CACHE=/cache/simqnas HF_HOME=/cache/huggingface USER=simqnas
WORKDIR /work
USER 10001
ENTRYPOINT ["simqnas"]
CMD ["--help"]

FROM board AS search
ARG TORCH_BACKEND=cpu
USER 0
RUN uv pip install --system --no-cache --torch-backend "$TORCH_BACKEND" "/source[train,postgresql,s3]"
USER 10001

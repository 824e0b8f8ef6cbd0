# One small image for the three roles; compose names the role.
FROM python:3.12-slim AS build
# For the native part, which the second stage gets built.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY relay relay
COPY pipelines pipelines
# Set EXTRAS to [onnx] for the pipeline that runs ONNX files.
ARG EXTRAS=""
RUN python -m venv /opt/relay \
 && /opt/relay/bin/pip install --no-cache-dir --disable-pip-version-check ".${EXTRAS}"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/relay --create-home relay
COPY --from=build /opt/relay /opt/relay
ENV PATH="/opt/relay/bin:$PATH" PYTHONUNBUFFERED=1
USER relay
WORKDIR /var/lib/relay
# HTTP and media of the gateway; the orchestrator's one port; the worker's runner API.
EXPOSE 9935/tcp 7280/udp 8935/tcp 8900/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT ["relay"]
CMD ["up"]

# The service on a small base, without a shell, as an unprivileged user. Two targets that do the same:
#   binary  compiled, and what is built without --target: docker build -t mqtt-job-listener:0.1.0 .
#   deno    the bundle on Deno's own runtime, where `deno compile` cannot fetch its: docker build --target deno …
# Settings: see docs/settings.md; secrets come at run time, never into the image.

FROM denoland/deno:debian-2.9.6 AS build
WORKDIR /src
# Dependencies by themselves, so that a change of the code does not fetch them again.
COPY deno.json deno.lock ./
RUN deno install --frozen
COPY *.ts ./
COPY catalog ./catalog
COPY cli ./cli
COPY completion ./completion
COPY config ./config
COPY control ./control
COPY flows ./flows
COPY history ./history
COPY k8s ./k8s
COPY listener ./listener
COPY local ./local
COPY logs ./logs
COPY mqtt ./mqtt
COPY observers ./observers
COPY outcome ./outcome
COPY payloads ./payloads
COPY ports ./ports
COPY records ./records
COPY run_spec ./run_spec
COPY runs ./runs
COPY s3 ./s3
COPY service ./service
COPY starter ./starter
COPY status ./status
COPY util ./util
COPY deploy/bundle.ts ./deploy/
# The bundle first: `deno compile` would embed all of node_modules, and Deno 2.9 overflows its stack over a test file in
# a dependency of prom-client (https://github.com/denoland/deno/issues/36746).
RUN deno task bundle
# A folder that the unprivileged user may write to; distroless has no mkdir.
RUN mkdir -p /out/data
# What Deno looks up in the bundle before it runs it, for the target `deno`: 75 MB and a fifth of a second less at a start.
RUN mkdir -p /usr/local/lib && cp -r dist/bundle /usr/local/lib/mqtt-job-listener && \
    DENO_DIR=/out/deno deno cache --no-config --no-lock --node-modules-dir=none /usr/local/lib/mqtt-job-listener/*.js

# glibc and libgcc, which both need, and little else.
FROM gcr.io/distroless/cc-debian12:nonroot AS base
# What it was built from: docker build --build-arg REVISION=$(git rev-parse HEAD) --build-arg SOURCE=https://…
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="MQTT Job Listener" \
      org.opencontainers.image.description="Runs Kubernetes Jobs for MQTT messages, as a table says" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
COPY --from=build --chown=65532:65532 /out/data /data
COPY LICENSE /licenses/
COPY deploy/policy.yaml /etc/mqtt-job-listener/
# By number: Kubernetes' runAsNonRoot cannot look up a name.
USER 65532:65532
ENV HOME=/home/nonroot
# Blocks of 64 KiB and more go back to the kernel when they are freed: 70 MB less after some thousand messages.
ENV MALLOC_MMAP_THRESHOLD_=65536
# Output that a slow store has not taken yet.
ENV SPOOL_DIR=/data/spool
# The index of ended runs, made anew from the store where it is lost.
ENV DATA_DIR=/data/index
WORKDIR /data
EXPOSE 8080
STOPSIGNAL SIGTERM

# Named permissions, never all; the same in both targets:
#   net   broker, store, cluster, the page, webhooks (hosts come from the configuration)
#   env   the configuration, and what the AWS SDK and client-node read
#   read  where configuration, credentials and a table on disk are mounted
#   write a store on disk
#   sys   what the AWS SDK tells of itself, and the home folder of kubeconfig and AWS files
# V8 keeps objects that are new in 8 MB: 100 MB less memory after a burst, and no slower. It collects what lives longer
# when that has grown by half, not when it is four times as much: in a flood of a million packets it grew by 50 MB and not
# by 200, for 0.05 ms more of a message in a burst. It gives memory back when it has had little to do for two seconds
# instead of 30: 10 MB less when idle.
# A kubeconfig with an exec plugin needs the plugin in the image and --allow-run=PLUGIN here.
FROM base AS deno
COPY --from=build /usr/bin/deno /usr/local/bin/deno
COPY --from=build /src/dist/bundle /usr/local/lib/mqtt-job-listener
# Deno makes no use of it where it cannot write to it.
COPY --from=build --chown=65532:65532 /out/deno /data/deno
ENV DENO_DIR=/data/deno
ENV DENO_NO_UPDATE_CHECK=1
HEALTHCHECK --interval=15s --timeout=15s --start-period=30s --retries=3 \
  CMD ["/usr/local/bin/deno", "run", "--no-config", "--no-lock", "--node-modules-dir=none", "--no-check", "--no-prompt", \
  "--allow-net", "--allow-env", "/usr/local/lib/mqtt-job-listener/main.js", "health"]
ENTRYPOINT ["/usr/local/bin/deno", "run", "--no-config", "--no-lock", "--node-modules-dir=none", "--no-check", \
  "--v8-flags=--max-semi-space-size=8,--heap-growing-percent=50,--memory-reducer-delay-ms=2000,--gc-memory-reducer-start-delay-ms=2000", \
  "--allow-net", \
  "--allow-env", \
  "--allow-read=/etc/mqtt-job-listener,/etc/ssl/certs,/run/secrets,/var/run/secrets,/home/nonroot,/data", \
  "--allow-write=/data", \
  "--allow-sys=hostname,osRelease,homedir", \
  "--no-prompt", \
  "/usr/local/lib/mqtt-job-listener/main.js"]
CMD ["start"]

FROM build AS compile
RUN deno compile --no-config --no-lock --node-modules-dir=none --no-check \
    --v8-flags=--max-semi-space-size=8,--heap-growing-percent=50,--memory-reducer-delay-ms=2000,--gc-memory-reducer-start-delay-ms=2000 \
    --allow-net \
    --allow-env \
    --allow-read=/etc/mqtt-job-listener,/etc/ssl/certs,/run/secrets,/var/run/secrets,/home/nonroot,/data \
    --allow-write=/data \
    --allow-sys=hostname,osRelease,homedir \
    --no-prompt \
    --output /out/mqtt-job-listener \
    dist/bundle/main.js

FROM base AS binary
COPY --from=compile /out/mqtt-job-listener /usr/local/bin/mqtt-job-listener
# Asks /healthz of STATUS_ADDR, so STATUS_ADDR must not be `off` where this is used.
HEALTHCHECK --interval=15s --timeout=15s --start-period=30s --retries=3 \
  CMD ["/usr/local/bin/mqtt-job-listener", "health"]
ENTRYPOINT ["/usr/local/bin/mqtt-job-listener"]
CMD ["start"]

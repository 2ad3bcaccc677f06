# The gate as an image: one binary and the example configuration, no shell, no package manager, not root.
#
#   docker build -t toolgate .
#   docker run --read-only -v "$PWD/config:/etc/toolgate:ro" -v toolgate-data:/data -p 8080:8080 toolgate
#
# Inside a container the listeners must bind 0.0.0.0 (the examples bind loopback), `store` and `ledger` belong under /data,
# and the secrets that the configuration names are given with -e or as mounted files.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --profile dist --bin toolgate \
    && install -D -m 0755 target/dist/toolgate /image/usr/bin/toolgate \
    && install -d -m 0755 /image/etc && cp -r config /image/etc/toolgate \
    && install -D -m 0644 LICENSE /image/usr/share/doc/toolgate/LICENSE \
    && install -d -m 0700 /image/data && chown 65532:65532 /image/data

# libc, libgcc and CA roots; neither a shell nor a package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image /
USER 65532:65532
WORKDIR /
ENV TOOLGATE_CONFIG=/etc/toolgate/toolgate.yaml
VOLUME /data
EXPOSE 8080 9080 9464
STOPSIGNAL SIGTERM
# No HEALTHCHECK: it would need a program that speaks HTTP inside the image. Let the orchestrator probe
# GET /livez and GET /readyz on the metrics listener instead.
ENTRYPOINT ["/usr/bin/toolgate"]
CMD ["serve"]

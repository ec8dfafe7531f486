# The agent on a distroless base. Pin the bases by digest for a release:
#   --build-arg BUILD_IMAGE=docker.io/library/rust@sha256:... --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian12@sha256:...
# glibc of the build must not be newer than that of the runtime base: both are Debian 12. A static
# binary would not do, because the driver's library is loaded at run time and needs glibc.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12

FROM ${BUILD_IMAGE} AS build
ENV CARGO_HOME=/root/.cargo
WORKDIR /src
COPY . .
RUN --mount=type=cache,id=slicewatch-cargo,target=/root/.cargo/registry \
    --mount=type=cache,id=slicewatch-target,target=/src/target \
    cargo build --locked --release --bin slicewatch \
    && install -D target/release/slicewatch /out/usr/bin/slicewatch
# Licences compress to a seventh; as .gz they are where Debian has its own.
RUN install -D -m 644 deploy/image/THIRD_PARTY_NOTICES.txt /out/usr/share/doc/slicewatch/THIRD_PARTY_NOTICES.txt \
    && gzip -9n /out/usr/share/doc/slicewatch/THIRD_PARTY_NOTICES.txt

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="slicewatch" \
      org.opencontainers.image.description="Shows what sharing a GPU really costs, pod by pod" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
# What NVIDIA's runtime, where there is one, is asked for: every device, and of the driver NVML and, for
# the latency canary, CUDA.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_DISABLE_REQUIRE=true
COPY --from=build /out/ /
COPY LICENSE deploy/image/sbom.cdx.json /usr/share/doc/slicewatch/
EXPOSE 9735
# UID 0, the base's default, without any capability: the kubelet's socket is root's.
ENTRYPOINT ["/usr/bin/slicewatch"]
CMD ["agent"]

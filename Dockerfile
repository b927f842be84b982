# The image holds one static binary and an empty directory for the development CA; nothing else.
FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libcap2-bin
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN scripts/image-root.sh /image "$VERSION"

FROM scratch
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /image/data /data
USER 65532:65532
# Inside a container the doors open to its network; publish ports to 127.0.0.1 unless others shall reach the hub.
ENV IOLITE_BIND=0.0.0.0 \
    IOLITE_CONTROL=0.0.0.0:8088 \
    IOLITE_CERTS_DIR=/data
VOLUME /data
EXPOSE 8883 5671 443 5672 8088
HEALTHCHECK --interval=2s --timeout=2s --start-period=1s --retries=15 CMD ["/emulator", "healthcheck"]
ENTRYPOINT ["/emulator"]

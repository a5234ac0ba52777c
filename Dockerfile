# The gateway as one static binary and the CA certificates, in an otherwise empty image.

FROM docker.io/library/golang:1.26-bookworm AS build
ARG VERSION=dev
ARG REVISION
ARG DATE
ARG TARGETOS
ARG TARGETARCH
ENV CGO_ENABLED=0 GOCACHE=/cache/build GOFLAGS=-buildvcs=false GOMODCACHE=/cache/mod GOTOOLCHAIN=local
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download
COPY . .
RUN --mount=type=cache,target=/cache GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -tags nodemo -trimpath -o /gateway \
    -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION} -X main.date=${DATE}" ./cmd/gateway

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gateway /gateway
# A number, so that Kubernetes can see that it is not root. The gateway writes to no file, so the
# root file system may be read-only.
USER 65532:65532
# 8080 is for browsers; 9090 (health, metrics, publishing) stays on a private network.
EXPOSE 8080 9090
ENV ORGCAST_LISTEN=:8080 ORGCAST_ADMIN_LISTEN=:9090
# The gateway drains on SIGTERM; give it longer than --drain-wait and --drain together before SIGKILL.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["/gateway", "healthcheck"]
ENTRYPOINT ["/gateway"]
CMD ["serve"]

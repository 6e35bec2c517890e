# syntax=docker/dockerfile:1

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin payrelay && cp target/release/payrelay /usr/local/bin/

FROM debian:12.15-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /usr/local/bin/payrelay /usr/local/bin/
RUN install --directory --owner 65532 --group 65532 /var/lib/payrelay
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["payrelay", "healthcheck", "http://127.0.0.1:9090/livez"]
ENTRYPOINT ["payrelay"]
CMD ["all"]

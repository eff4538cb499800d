# Build: docker build -t switchboard .
# Run:   docker run -p 6001:6001 -e PUSHER_APP_ID=1001 -e PUSHER_APP_KEY=portal-key -e PUSHER_APP_SECRET=… switchboard
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
COPY benches benches
COPY protocol-tests protocol-tests
RUN cargo build --release --locked --bin switchboard

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/switchboard --create-home switchboard
COPY --from=build /src/target/release/switchboard /usr/local/bin/switchboard
USER switchboard
WORKDIR /var/lib/switchboard
VOLUME /var/lib/switchboard
EXPOSE 6001
# The admin port serves health and metrics inside the container only.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["switchboard", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["switchboard"]
CMD ["serve", "--bind", "0.0.0.0:6001"]

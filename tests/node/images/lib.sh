# Sourced by the scripts beside it: buildah as root, with its storage where $STORAGE says.
STORAGE=${STORAGE:-/var/tmp/slicewatch-images}
buildah() {
    command buildah --root "$STORAGE/root" --runroot "$STORAGE/run" "$@"
}
# The names that the Dockerfile's arguments are given.
BUILD_BASE=localhost/base/rust:1.95-bookworm
RUNTIME_BASE=localhost/base/cc-debian12:latest

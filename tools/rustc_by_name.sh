#!/bin/sh
# rustc for modules that are compared: what Cargo tells crates apart by has in it where they lie, and rustc orders
# functions by that. Here it is a crate's name and version alone, so that all checkouts give the same bytes.
for argument in "$@"; do
    shift
    case $argument in
    metadata=*) argument="metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION" ;;
    esac
    set -- "$@" "$argument"
done
exec "$@"

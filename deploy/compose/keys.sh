#!/bin/sh
# Makes what is missing of the keys, and lays each service's two database passwords beside its seeds, because a
# service mounts its own folder only.
set -eu
umask 077
keys=/var/lib/dashfleet/keys

dashfleet-bootstrap keys --dir "$keys"
for service in identity action scheduler metrics; do
    cp "$keys/postgres/df_$service.password" "$keys/$service/database.password"
    cp "$keys/postgres/df_${service}_system.password" "$keys/$service/database-system.password"
done

#!/bin/sh
# Becomes a service that owns data: `owner-of-data.sh identity bootstrap` is `dashfleet-identity bootstrap` with the
# database URLs that its passwords make.
set -eu
service=$1
shift

url() {
    printf 'postgres://%s:%s@postgres:5432/dashfleet?sslmode=disable' "$1" "$(cat "/keys/$2")"
}
DASHFLEET_DATABASE_URL=$(url "df_$service" database.password)
DASHFLEET_DATABASE_SYSTEM_URL=$(url "df_${service}_system" database-system.password)
export DASHFLEET_DATABASE_URL DASHFLEET_DATABASE_SYSTEM_URL
exec "dashfleet-$service" "$@"

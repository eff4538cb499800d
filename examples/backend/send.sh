#!/usr/bin/env bash
# An event and a message without any SDK: `examples/backend/send.sh "Hello"`. post() signs a request; beware that other users of
# the machine can see openssl's arguments while it runs.
set -euo pipefail

for name in PUSHER_APP_ID PUSHER_APP_KEY PUSHER_APP_SECRET PUSHER_HOST PUSHER_PORT PUSHER_SCHEME; do
    if [[ -z ${!name:-} ]]; then
        echo "$name is not set. Save the block that begins with BROADCAST_CONNECTION=pusher as .env and load it: set -a; . ./.env; set +a" >&2
        exit 1
    fi
done

post() {
    local path="/apps/$PUSHER_APP_ID$1" body=$2 md5 query signature
    md5=$(printf %s "$body" | openssl md5 -r | cut -d ' ' -f 1)
    query="auth_key=$PUSHER_APP_KEY&auth_timestamp=$(date +%s)&auth_version=1.0&body_md5=$md5"
    signature=$(printf 'POST\n%s\n%s' "$path" "$query" | openssl dgst -sha256 -hmac "$PUSHER_APP_SECRET" -r | cut -d ' ' -f 1)
    curl --silent --show-error --fail-with-body --header 'Content-Type: application/json' --data-raw "$body" \
        "$PUSHER_SCHEME://$PUSHER_HOST:$PUSHER_PORT$path?$query&auth_signature=$signature"
    echo
}

json() { # a text as a string of JSON
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    printf '"%s"' "${text//$'\n'/\\n}"
}

text=$(json "${1:-Hello}")

# An event: `data` is JSON in a string.
post /events "{\"name\":\"App\\\\Events\\\\Greeting\",\"channel\":\"user.2\",\"data\":$(json "{\"text\":$text}")}"

# The owners of the numbers; once is enough.
post /messaging/phone_numbers '{"phone_numbers":[{"number":"+13125550100","user_id":1},{"number":"+13125550101","user_id":2}]}'

# A message of user 1, to a number.
post /messaging/messages "{\"user_id\":1,\"to\":\"(312) 555-0101\",\"text\":$text}"

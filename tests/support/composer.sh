#!/bin/sh
# A client that starts its server itself and composes the arguments, one op per process:
#   PLUGIN_SERVER_PATH=SERVER TLS_MODE=… TLS_CURVE=… composer.sh put KEY VALUE | get KEY
# Everything that goes wrong is exit status 1, and standard error tells what. `soupscen call` is its
# plugin library. For faults: COMPOSER=idle starts no server, COMPOSER=mute starts one and asks nothing.
op=$1 key=$2 value=$3
case "$COMPOSER" in
    idle) echo "Key $key put successfully."; exit 0 ;;
    broken) echo "cannot read its configuration" >&2; exit 1 ;;
    mute) line=$(mktemp)
        BASIC_PLUGIN=hello "$PLUGIN_SERVER_PATH" rpc kv server < /dev/null > "$line" 2>&1 & kid=$!
        until [ -s "$line" ]; do sleep 0.01; done
        kill $kid; wait $kid; rm -f "$line"
        echo "Key $key put successfully."; exit 0 ;;
esac
[ -n "$PLUGIN_SERVER_PATH" ] || { echo "PLUGIN_SERVER_PATH is not set" >&2; exit 1; }
if [ "$op" = put ]; then set -- kv.put "key=$key" "value=$value"; else set -- kv.get "key=$key"; fi
error=$(mktemp)
answer=$("${SOUPSCEN:?}" call --tls "$TLS_MODE" "$@" --plugin \
    "$PLUGIN_SERVER_PATH" rpc kv server --tls-mode "$TLS_MODE" --tls-curve "$TLS_CURVE" 2>"$error")
status=$?
text=$(cat "$error")
rm -f "$error"
if [ $status != 0 ]; then
    case "$text" in
        NOT_FOUND:*) echo "Error: rpc error: code = NotFound desc = ${text#NOT_FOUND: }" >&2 ;;
        *) echo "Error: $text" >&2 ;;
    esac
    exit 1
fi
if [ "$op" = put ]; then echo "Key $key put successfully."; else echo "$answer"; fi

"""Stands between the check and a real driver and breaks one rule of the contract: `meddler.py BREACH [SOUPSCEN] -- DRIVER…`.

Each breach is a change to what passes; everything else goes through as it is. SOUPSCEN is the program
that serves where a breach is one of a server.
"""

import json
import os
import subprocess
import sys
import threading
import time

dashes = sys.argv.index("--")
breach, soupscen, driver = sys.argv[1], sys.argv[2:dashes], sys.argv[dashes + 1 :]
process = subprocess.Popen(driver, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
out = threading.Lock()
sent = {}  # id → the request
held = []  # answers that wait for an earlier one
pooled = {}  # target → the id that has it
connected = set()  # ids
served = []  # answers to `serve`
# What is optional, and refused by drivers that do not claim it.
OPTIONS = {"compression.gzip", "wait-for-ready", "limits", "keepalive"}


def answer(message):
    with out:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def ask(message):
    process.stdin.write((json.dumps(message) + "\n").encode())
    process.stdin.flush()


def on_request(m):
    """What becomes of a request: the one to pass on, or None."""
    kind = m["type"]
    if "id" in m:
        sent.setdefault(m["id"], m)
    match breach, kind:
        case "deaf-to-unknown", "no-such-type":
            return None
        case "deaf-to-bye", "bye":
            return None
        case "lone-deadline", "call":
            m["deadline_ms"] = 60_000
        case "deaf-to-cancel", "cancel" if "seq" not in m:
            answer({"type": "cancelled", "id": m["id"]})
            return None
        case "late-cancel", "cancel" if m["id"] in connected and "seq" not in m:
            answer({"type": "cancelled", "id": m["id"]})
            return None
        case "keeps-calls", "cancel":
            answer({"type": "cancelled", "id": m["id"]})
            return None
        case "sorts-metadata", "call":
            m["metadata"].sort(key=str)
        case "drops-binary", "call":
            m["metadata"] = [pair for pair in m["metadata"] if isinstance(pair[1], str)]
        case "sends-plain", "call" | "open":
            m.pop("compression", None)
        case "never-waits", "call" | "open":
            m.pop("wait_for_ready", None)
        case "ignores-limits", "connect" | "serve":
            m.pop("limits", None)
        case "any-name", "connect":
            m["server_name"] = "localhost"
        case "shows-nothing", "connect" if m["tls"]["mode"] == "mutual":
            m["tls"] = {"mode": "server", "ca": m["tls"]["ca"]}
        case "any-choice", "connect" | "serve":
            m["tls"] = {name: m["tls"][name] for name in ("mode", "ca", "cert", "key") if name in m["tls"]}
        case "never-dials", "connect":
            answer({"type": "failed", "id": m["id"], "phase": "connect", "error": "no"})
            return None
        case "pools", "connect":
            target = str(m["target"])
            if target in pooled:
                answer({"type": "connected", "id": m["id"]})
                return None
            pooled[target] = m["id"]
        case "keeps-connections", "close":
            answer({"type": "closed", "id": m["id"]})
            return None
        case "keeps-listening", "stop":
            answer({"type": "stopped", "id": m["id"]})
            return None
        case "serves-another", "serve":
            m["service"] = "soup.stock.v1.Stock" if m["service"] == "proto.KV" else "proto.KV"
        case "shares-servers", "serve" if served:
            answer({**served[0], "id": m["id"]})
            return None
        case "plain-responses", "serve":
            server = subprocess.Popen([*soupscen, "serve", "stock", "--port", "0", "--as-broken", "never-compresses"], stdout=subprocess.PIPE)
            served.append(server)
            address = server.stdout.readline().decode().split(" at ")[1].split()[0]
            answer({"type": "serving", "id": m["id"], "target": {"tcp": address}})
            return None
        case "serves-plaintext", "serve":
            m["tls"] = {"mode": "none"}
        case "admits-all", "serve":
            m["client_auth"] = "none"
            m["tls"]["mode"] = "server" if m["tls"]["mode"] == "mutual" else m["tls"]["mode"]
        case "socket-elsewhere", "serve":
            m["listen"]["folder"] = m["storage"] = m["listen"]["folder"] + "/.."
        case "dies-of-a-file", "serve" if "absent" in m["tls"].get("cert", ""):
            process.kill()
        case "leaks-environment", "launch":
            m["env"] += [["CHECK_DRIVER_SECRET", os.environ["CHECK_DRIVER_SECRET"]]]
        case "drops-environment", "launch":
            m["env"] = []
        case "leaves-a-child", "launch":
            subprocess.Popen(["sh", "-c", 'exec sleep 20 > "$0.fifo"', m["argv"][3]])
        case "keeps-plugins", "kill":
            answer({"type": "killed", "id": m["id"]})
            return None
    return m


def on_answer(m):
    """The answers that become of one."""
    kind = m["type"]
    match breach, kind:
        case "no-name", "hello":
            del m["peer"]
        case "no-versions", "hello":
            m["versions"] = {}
        case "claims-all", "hello":
            m["roles"]["client"]["provides"].append(sent_probe())
        case "claims-no-options", "hello":
            for role in m["roles"].values():
                role["provides"] = [name for name in role["provides"] if name not in OPTIONS]
        case "late-cancel", "connected":
            connected.add(m["id"])
        case "shares-servers", "serving":
            served.append(m)
        case "serves-anything", "error" if sent[m["id"]]["type"] == "serve":
            return [{"type": "serving", "id": m["id"], "target": {"tcp": "127.0.0.1:1"}}]
        case "files-are-contract", "failed" if m["phase"] == "tls":
            return [{"type": "error", "id": m["id"], "kind": "contract", "error": m["error"]}]
        case "knows-every-id", "error" if "seq" in m:
            status = {"code": "UNAVAILABLE", "text": "no connection"}
            return [{"type": "result", "id": m["id"], "seq": m["seq"], "status": status, "origin": "local", "receive": [], "headers": [], "trailers": []}]
        case "small-messages", "result" if len(str(m["receive"])) > 100_000:
            return [{"type": "error", "id": m["id"], "seq": m["seq"], "kind": "too-large", "error": "a large message"}]
        case "twice", "connected":
            return [m, m]
        case "other-bytes", "result":
            m["receive"] = [{"m": "CgNhYmM="} for _ in m["receive"]]
        case "no-text", "result":
            m["status"]["text"] = ""
        case "local-origin", "result":
            m["origin"] = "local"
        case "no-trailers", "result":
            m["trailers"] = []
        case "merged-headers", "result":
            m["headers"] = [list(pair) for pair in {pair[0]: pair[1] for pair in m["headers"]}.items()]
        case "unknown-status", "result" if m["status"]["code"] in ("CANCELLED", "DEADLINE_EXCEEDED"):
            m["status"]["code"] = "UNKNOWN"
        case "in-order", "result":
            held.append(m)
            return []
        case "late-failure", "failed":
            time.sleep(2)
        case "unnumbered-errors", "error":
            m.pop("seq", None)
        case "no-phase", "failed":
            m.pop("phase", None)
        case "wrong-phase", "failed":
            m["phase"] = "rpc"
    return [m]


def sent_probe():
    return probe[0]


probe = []


def answers():
    for line in process.stdout:
        for message in on_answer(json.loads(line)):
            answer(message)
    status = process.wait()
    if breach not in ("outlives-stdin", "bad-exit"):
        os._exit(abs(status))


reader = threading.Thread(target=answers)
reader.start()
if breach == "noise":
    print("starting up", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "hello":
        probe.append(message["probe"])
    passed = on_request(message)
    if passed is not None:
        ask(passed)
if breach == "outlives-stdin":
    time.sleep(60)
if breach == "bad-exit":
    process.kill()
    sys.exit(1)
process.stdin.close()
if breach == "plain-responses":
    for server in served:
        server.kill()
reader.join()

"""Stands between the check and a real driver and breaks one rule of the contract: `meddler.py BREACH -- DRIVER…`.

Each breach is a change to what passes; everything else goes through as it is.
"""

import json
import os
import subprocess
import sys
import threading
import time

breach, driver = sys.argv[1], sys.argv[3:]
process = subprocess.Popen(driver, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
out = threading.Lock()
sent = {}  # id → the request
held = []  # answers that wait for an earlier one
pooled = {}  # target → the id that has it


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
reader.join()

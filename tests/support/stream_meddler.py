"""Stands between the check and a real driver and breaks one rule on streams: `stream_meddler.py BREACH -- DRIVER…`.

Each breach is a change to what passes; everything else goes through as it is. Two breaches play a
driver that does more than it is asked: they receive on their own account.
"""

import json
import os
import subprocess
import sys
import threading

breach, driver = sys.argv[1], sys.argv[3:]
process = subprocess.Popen(driver, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
out, into = threading.Lock(), threading.RLock()
held = {}  # stream → requests or messages that wait for something
receiving = set()  # streams with a `receive` under way
over = set()  # streams that have ended


def answer(*messages):
    with out:
        for message in messages:
            sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def ask(*messages):
    with into:
        for message in messages:
            process.stdin.write((json.dumps(message) + "\n").encode())
        process.stdin.flush()


def on_request(m):
    """The requests that become of one."""
    kind, stream = m["type"], m.get("stream")
    match breach, kind:
        case "bare-streams", "open":
            m["metadata"] = []
        case "begins-with-the-message", "open" if m["method"].endswith("/Monitor"):
            held[stream] = [m]
            answer({"type": "opened", "stream": stream})
            return []
        case "begins-with-the-message", "send" if stream in held:
            return [*held.pop(stream), m]
        case "begins-with-the-message", "half_close" if stream in held:
            answer({"type": "half_closed", "stream": stream})
            return []
        case "lone-deadline", "open":
            m["deadline_ms"] = 60_000
        case "sends-at-the-end", "send":
            held.setdefault(stream, []).append(m)
            answer({"type": "sent", "stream": stream})
            return []
        case "sends-twice", "send":
            return [m, m]
        case "receives-first", "receive":
            receiving.add(stream)
        case "receives-first", "send" if stream in receiving:
            held.setdefault(stream, []).append(m)
            return []
        case "shuffles-sends", "send":
            waiting = held.setdefault(stream, [])
            waiting.append(m)
            return [] if len(waiting) % 2 else [waiting[-1], waiting[-2]]
        case "shuffles-received", "receive" if held.get(stream):
            answer(held[stream].pop())
            return []
        case "sent-at-once", "send":
            answer({"type": "sent", "stream": stream})
        case "keeps-open", "half_close":
            answer({"type": "half_closed", "stream": stream})
            return []
        case "keeps-streams", "cancel":
            status = {"code": "CANCELLED", "text": ""}
            answer({"type": "cancelled", "stream": stream})
            answer({"type": "received", "stream": stream, "m": [], "end": True})
            answer({"type": "ended", "stream": stream, "status": status, "headers": [], "trailers": []})
            return []
        case "half-closes-for-cancel", "cancel":
            return [{"type": "half_close", "stream": stream}]
        case "deaf-after-the-end", "send" if stream in over:
            return []
        case "stays-connected", "close":
            answer({"type": "closed", "id": m["id"]})
            return []
    return [m]


def more(m):
    """Receives once more, on its own account."""
    ask({"type": "receive", "stream": m["stream"], "seq": 1_000_000, "max": 1, "within_ms": 10_000})
    return []


def on_answer(m):
    """The answers that become of one."""
    kind, stream = m["type"], m.get("stream")
    if kind == "ended":
        over.add(stream)
    match breach, kind:
        case "opens-never", "opened":
            return []
        case "sends-twice", "sent":
            pair = held.setdefault(stream, [])
            pair.append(m)
            return [] if len(pair) % 2 else [m]
        case "receives-first", "received":
            receiving.discard(stream)
            ask(*held.pop(stream, []))
        case "shuffles-received", "received" if m["m"] and stream not in held:
            held[stream] = [m]
            return more(m)
        case "over-max" | "reads-ahead", "received" if m["m"]:
            got = held.setdefault(stream, [])
            got += m["m"]
            if len(got) < (5 if breach == "over-max" else 192):
                return more(m)
            m["m"] = got if breach == "over-max" else got[:1]
        case "other-messages", "received":
            m["m"] = [{"m": "CAk="} for _ in m["m"]]
        case "sent-at-once", "sent":
            return []
        case "never-at-the-end", "received":
            m["end"] = False
        case "end-with-the-last", "received" if m["m"]:
            m["end"] = True
        case "nothing-is-busy", "received" if not m["m"] and not m["end"]:
            return [{"type": "error", "stream": stream, "kind": "busy", "error": "no message"}]
        case "nothing-is-the-end", "received":
            m["end"] = not m["m"]
        case "loses-the-late", "received" if not m["m"] and not m["end"]:
            held[stream] = None
            more(m)
        case "loses-the-late", "received" if stream in held:
            del held[stream]
            return []
        case "half-closes-for-cancel", "half_closed":
            return [{"type": "cancelled", "stream": stream}]
        case "ends-twice", "ended":
            return [m, m]
        case "never-ends", "ended":
            return []
        case "no-text", "ended":
            m["status"]["text"] = ""
        case "remote-origin", "ended":
            m["origin"] = "remote"
        case "local-origin", "ended":
            m["origin"] = "local"
        case "no-headers", "ended":
            m["headers"] = []
        case "no-trailers", "ended":
            m["trailers"] = []
        case "always-ok", "ended":
            m["status"]["code"] = "OK"
        case "unknown-status", "ended" if m["status"]["code"] in ("CANCELLED", "DEADLINE_EXCEEDED"):
            m["status"]["code"] = "UNKNOWN"
        case "knows-every-stream", "error" if stream:
            return [{"type": "sent", "stream": stream}]
    return [m]


def answers():
    for line in process.stdout:
        answer(*on_answer(json.loads(line)))
    os._exit(abs(process.wait()))


threading.Thread(target=answers).start()
for line in sys.stdin:
    ask(*on_request(json.loads(line)))
process.stdin.close()

#!/usr/bin/env python3
"""Judges a run again, without the engine: PLAN is from `soupscen plan FILE --json`, RESULTS from
`soupscen run FILE --json RESULTS`, both with the same selection. What is expected of a case comes
from the rules of the plan and the versions of the peers, its verdict from the observations and the
table of docs/verdicts.md. A disagreement with the results is a line, and exit status 1. Python 3.11,
standard library only.

    python3 tests/read_results.py PLAN RESULTS
"""

import json
import re
import sys
from collections import Counter
from operator import eq, ge, gt, le, lt

GREEN = {"passed", "known", "unsupported", "not-run"}
BAD = {"failed", "timed-out", "crashed"}
ENDINGS = BAD | {"passed", "refused-by-peer", "could-not-run"}
PASSED = {"outcome": "passed"}
ASKS_NOTHING = {"key": "auto"}
# What a rule can ask of a failure. One that asks for anything else is not passed over.
MATCHES = {"cause", "code", "check", "text", "alert", "exit"}


# what is expected

def numbers(text):
    """The first three numbers of a version as programs print it; None where there is none."""
    found = re.search(r"\d+(\.\d+)*", text or "")
    if found is None:
        return None
    parts = [int(part) for part in found.group().split(".")]
    return tuple((parts + [0, 0])[:3])


def within(version, requirement):
    """Whether a version satisfies `>=1.2, <2`: full comparisons only, which is what rules use."""
    for part in requirement.split(","):
        match = re.fullmatch(r"\s*(<=|>=|<|>|=)\s*(\d+)\.(\d+)\.(\d+)\s*", part)
        if match is None:
            raise ValueError(f"this reader cannot judge the requirement `{requirement}`")
        bound = tuple(int(n) for n in match.group(2, 3, 4))
        compare = {"<": lt, "<=": le, ">": gt, ">=": ge, "=": eq}[match.group(1)]
        if not compare(version, bound):
            return False
    return True


def in_force(rule, axes, peers):
    """Whether a rule holds for the versions of the peers of a case; an unknown version is none."""
    for component, requirement in rule.get("versions", {}).items():
        role, _, part = component.partition(".")
        versions = peers.get(axes.get(role), {}).get("versions", {})
        version = numbers(versions.get(part or "self"))
        if version is None or not within(version, requirement):
            return False
    return True


def expectation(planned, rules, peers):
    """What the plan and the versions expect of a case."""
    if planned.get("missing"):
        reasons = "; ".join(missing["reason"] for missing in planned["missing"])
        return {"outcome": "unsupported", "reason": reasons}
    for rule in planned.get("rules", []):
        if in_force(rule, planned["axes"], peers):
            return rules[rule["rule"]]["expects"]
    return PASSED


# what was seen

def got(fact):
    """The value in force, None where nothing tells."""
    effective = fact["effective"]
    return effective["value"] if isinstance(effective, dict) else None


def differs(fact):
    return fact["requested"] is not None and got(fact) is not None and fact["requested"] != got(fact)


def named(fact):
    """The connection that a reading is of, None for the case's own, and what was read."""
    connection, _, name = fact["fact"].rpartition(".")
    return connection or None, name


def requested(fact, planned):
    """What the plan asks of the connection that a reading is of."""
    connection, name = named(fact)
    further = planned.get("connections", {}).get(connection, {})
    asked = further.get(name, planned["axes"].get(name))
    return None if asked == ASKS_NOTHING.get(name) else asked


def softened(fact, planned):
    """Whether the plan says that this difference is shown only."""
    for policy in planned.get("only_reported", []):
        values = policy.get("values", [])
        if policy["fact"] == named(fact)[1] and (not values or got(fact) in values):
            return True
    return False


def begins(name, prefix):
    """Whether a dotted name is `prefix` or below it, in whole segments."""
    prefix = prefix.rstrip(".").split(".")
    return name.split(".")[: len(prefix)] == prefix


def as_described(rule, seen):
    """Whether a failure is the one that a rule describes: everything that it gives must hold."""
    wanted = rule.get("match", {})
    if wanted.keys() - MATCHES:
        raise ValueError(f"this reader cannot judge `match: {wanted}`")
    cause = seen.get("cause") or {}
    status = seen.get("status") or {}
    texts = [cause.get("text"), status.get("text"), *seen.get("texts", [])]
    failed = [check["id"] for check in seen.get("checks", []) if not check["held"]]
    return (
        ("at" not in rule or rule["at"] == seen.get("phase"))
        and ("cause" not in wanted or begins(cause.get("code") or "", wanted["cause"]))
        and (not wanted.get("code") or status.get("code") in wanted["code"])
        and ("check" not in wanted or any(begins(check, wanted["check"]) for check in failed))
        and ("text" not in wanted or any(re.search(wanted["text"], text) for text in texts if text))
        and ("alert" not in wanted or wanted["alert"] == seen.get("alert"))
        and ("exit" not in wanted or wanted["exit"] == seen.get("exit"))
    )


# the table

def judge_one(expected, seen, planned):
    """The verdict of one attempt by itself."""
    outcome, ending = expected["outcome"], seen["ending"]
    if ending == "could-not-run":
        return "errored"
    if ending == "refused-by-peer":
        return "unsupported"
    if ending in BAD:
        if outcome == "unsupported":
            return "unsupported"
        if outcome == "failed":
            return "known" if as_described(expected, seen) else "wrong-failure"
        return "failed" if outcome == "passed" else "wrong-failure"
    if seen["checked"] == 0:
        return "errored"
    facts = seen.get("facts", [])
    red = [fact for fact in facts if differs(fact) and not softened(fact, planned)]
    if outcome == "unsupported":
        return "unsupported" if red else "unexpected-pass"
    if outcome == "not-effective":
        if any(named(fact)[1] != expected["fact"] for fact in red):
            return "not-effective"
        own = [fact for fact in facts if fact["fact"] == expected["fact"]]
        return "known" if any(differs(fact) for fact in own) else "unexpected-pass"
    if red:
        return "not-effective"
    return "passed" if outcome == "passed" or expected.get("or_passed") else "unexpected-pass"


def judge(expected, attempts, planned, flaky_allowed):
    """The verdict of a case. The last attempt decides; a failure before it can make it flaky."""
    last = len(attempts) - 1
    seen = []
    for at, attempt in enumerate(attempts):
        observation = attempt["observation"]
        on_shared = attempt.get("on_shared") and at != last
        # A refusal after a failure does not hide the failure.
        hides = observation["ending"] == "refused-by-peer" and seen and seen[-1]["ending"] in BAD
        if not on_shared and not hides:
            seen.append(observation)
    if not seen:
        return "unsupported" if expected["outcome"] == "unsupported" else "not-run"
    final = seen[-1]
    verdict = judge_one(expected, final, planned)
    excused = expected["outcome"] == "unsupported"
    rule = expected["outcome"] == "failed"

    def blemishes(before):
        """A failure before a pass counts, one before an expected failure if it was another."""
        return before["ending"] in BAD and (
            final["ending"] == "passed" or not (excused or rule and as_described(expected, before))
        )

    if not any(blemishes(before) for before in seen[:-1]):
        return verdict
    if verdict in ("passed", "known"):
        return verdict if flaky_allowed or expected.get("or_passed") else "flaky"
    return "flaky" if rule and verdict == "unexpected-pass" else verdict


def exit_status(run, verdicts, executed):
    if run["summary"]["interrupted"]:
        return 130
    if executed == 0:
        return 4
    red = {verdict for verdict in verdicts if verdict not in GREEN}
    return 0 if not red else 3 if red == {"errored"} else 1


# agreement

def contradictions(case, planned):
    """What cannot be true of one record, whatever the rules."""
    for field in ("index", "script", "axes", "key"):
        if case[field] != planned[field]:
            yield f"{field} is {case[field]!r}, and the plan has {planned[field]!r}"
    for attempt in case["attempts"]:
        seen = attempt["observation"]
        if seen["ending"] not in ENDINGS:
            yield f"`{seen['ending']}` is no ending"
        if seen["ending"] == "passed" and any(not check["held"] for check in seen.get("checks", [])):
            yield "it passed with a check that did not hold"
        if seen["ending"] != "passed" and not seen.get("cause"):
            yield "it did not pass, and no cause is named"
        if seen["checked"] < len(seen.get("checks", [])):
            yield "it has more checks than were executed"
        for fact in seen.get("facts", []):
            asked, connection = requested(fact, planned), named(fact)[0]
            if connection and connection not in planned.get("connections", {}):
                yield f"`{fact['fact']}` is of a connection that the plan does not have"
            # A value of the scenario's own asks for one of the engine's, under another name.
            if fact["requested"] != asked if connection else (fact["requested"] is None) != (asked is None):
                yield f"`{fact['fact']}` is requested {fact['requested']!r}, and the plan has {asked!r}"
            if differs(fact) and bool(fact.get("report_only")) != softened(fact, planned):
                yield f"whether the difference of `{fact['fact']}` is only reported is not what the plan says"


def disagreements(plan, run):
    head, *planned = plan
    planned = {case["id"]: case for case in planned}
    rules = {rule["id"]: rule for rule in head["rules"]}
    verdicts, executed, told = Counter(), 0, set()
    if run["run"]["plan_digest"] != head["digest"]:
        yield "the results are of another plan"
        return
    for case in run["cases"]:
        name = case["id"]
        if name in told or name not in planned:
            yield f"{name}: told twice, or no case of the plan"
            continue
        told.add(name)
        expected = expectation(planned[name], rules, run["peers"])
        if case["expected"] != expected:
            yield f"{name}: expected {case['expected']}, and the rules say {expected}"
        for wrong in contradictions(case, planned[name]):
            yield f"{name}: {wrong}"
        verdict = judge(expected, case["attempts"], planned[name], head["flaky_allowed"])
        if verdict != case["verdict"]:
            yield f"{name}: {case['verdict']}, and it should be {verdict}"
        verdicts[verdict] += 1
        executed += bool(case["attempts"])
    summary = run["summary"]
    if not summary["interrupted"] and told != set(planned):
        yield f"{len(set(planned) - told)} cases of the plan are not in the results"
    counts = {"verdicts": dict(verdicts), "executed": executed, "finished": len(run["cases"])}
    for name, count in counts.items():
        if summary[name] != count:
            yield f"summary: {name} is {summary[name]}, and counting gives {count}"
    status = exit_status(run, verdicts, executed)
    if run["exit_status"] != status:
        yield f"exit status {run['exit_status']}, and it should be {status}"


def main():
    with open(sys.argv[1], encoding="utf-8") as text:
        plan = [json.loads(line) for line in text]
    with open(sys.argv[2], encoding="utf-8") as text:
        run = json.load(text)
    wrong = list(disagreements(plan, run))
    print("\n".join(wrong) or f"{len(run['cases'])} cases judged again: all agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

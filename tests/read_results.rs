//! An independent reader, `tests/read_results.py`, judges real runs of the shipped scenarios again
//! from their plans and observations. It has to agree with the engine case by case, and to disagree
//! with results in which anything was changed.

#[path = "support/run.rs"]
mod run;

use std::process::Command;

use run::{Place, ROOT, Ran, Results, ran, toolchains};
use serde_json::{Value, json};

/// The scenarios that are judged again, with the least number of cases that each has.
const SCENARIOS: &[(&str, usize)] =
    &[("quick", 18), ("negative/handshake", 82), ("negative/patience", 9), ("stock/reference", 150)];

/// A finished run beside its plan.
struct Judged {
    place: Place,
    results: Results,
}

impl Judged {
    fn new(scenario: &str) -> Self {
        Self::selected(scenario, &[])
    }

    fn selected(scenario: &str, selection: &[&str]) -> Self {
        let place = Place::new();
        let file = format!("{ROOT}/scenarios/{scenario}.yaml");
        let plan = place.run([&["plan", &file, "--json"], selection].concat()).exits(0).out;
        place.write("plan.jsonl", &plan);
        let (ran, results) = place.results(&file, &[&["--require-peers"], selection].concat());
        ran.exits(0);
        Self { place, results }
    }

    /// What the reader says of these results.
    fn read(&self, results: &Value) -> Ran {
        self.place.write("read.json", &results.to_string());
        let mut python = Command::new("python3");
        python.arg(format!("{ROOT}/tests/read_results.py")).args(["plan.jsonl", "read.json"]);
        python.current_dir(self.place.path());
        ran(python)
    }

    /// Changes a copy of the results; the reader has to see it, and to say `what`.
    #[track_caller]
    fn refuses(&self, what: &str, change: impl FnOnce(&mut Value)) {
        let mut results = self.results.0.clone();
        change(&mut results);
        assert_ne!(results, self.results.0, "nothing was changed");
        self.read(&results).exits(1).says(what);
    }
}

/// A case with this verdict that has this in its id.
fn case<'a>(results: &'a mut Value, verdict: &str, part: &str) -> &'a mut Value {
    let mut cases = results["cases"].as_array_mut().unwrap().iter_mut();
    cases.find(|case| case["verdict"] == verdict && run::text(&case["id"]).contains(part)).unwrap()
}

fn seen<'a>(results: &'a mut Value, verdict: &str, part: &str) -> &'a mut Value {
    &mut case(results, verdict, part)["attempts"][0]["observation"]
}

fn fact<'a>(observation: &'a mut Value, name: &str) -> &'a mut Value {
    observation["facts"].as_array_mut().unwrap().iter_mut().find(|fact| fact["fact"] == name).unwrap()
}

/// The id of the first check that did not hold.
fn failed_check(observation: &mut Value) -> &mut Value {
    let mut checks = observation["checks"].as_array_mut().unwrap().iter_mut();
    &mut checks.find(|check| check["held"] == false).unwrap()["id"]
}

#[test]
fn an_independent_reader_agrees_case_by_case() {
    if !toolchains(&["python3", "go"]) {
        return;
    }
    for (scenario, least) in SCENARIOS {
        let judged = Judged::new(scenario);
        let cases = judged.results.cases().len();
        assert!(cases >= *least, "{scenario} has {cases} cases");
        judged.read(&judged.results.0).exits(0).says(&format!("{cases} cases judged again: all agree"));
    }
}

#[test]
fn an_independent_reader_sees_what_was_changed() {
    if !toolchains(&["python3", "go"]) {
        return;
    }
    let quick = Judged::new("quick");
    let known = "client=python,server=go";
    // What was seen.
    quick.refuses("passed, and it should be failed", |run| seen(run, "passed", "")["ending"] = json!("failed"));
    quick.refuses("passed, and it should be errored", |run| seen(run, "passed", "")["ending"] = json!("could-not-run"));
    quick.refuses("passed, and it should be errored", |run| seen(run, "passed", "")["checked"] = json!(0));
    quick.refuses("a check that did not hold", |run| seen(run, "passed", "")["checks"][0]["held"] = json!(false));
    quick.refuses("known, and it should be unexpected-pass", |run| {
        let observation = seen(run, "known", known);
        observation["ending"] = json!("passed");
        observation["checked"] = json!(1);
    });
    quick.refuses("known, and it should be wrong-failure", |run| seen(run, "known", known)["phase"] = json!("rpc"));
    quick.refuses("known, and it should be wrong-failure", |run| {
        seen(run, "known", known)["cause"]["code"] = json!("tls.rejected.server-certainly");
    });
    quick.refuses("no cause is named", |run| seen(run, "known", known)["cause"] = Value::Null);
    // Facts: another value, one that is not softened, one that is said to be, one that was not asked for.
    quick.refuses("passed, and it should be not-effective", |run| {
        fact(seen(run, "passed", "server=rust"), "tls")["effective"] = json!({ "value": "server" });
    });
    quick.refuses("passed, and it should be not-effective", |run| {
        fact(seen(run, "passed", "server=python"), "tls")["effective"] = json!({ "value": "none" });
    });
    quick.refuses("only reported is not what the plan says", |run| {
        let tls = fact(seen(run, "passed", "server=rust"), "tls");
        tls["effective"] = json!({ "value": "server" });
        tls["report_only"] = json!("so be it");
    });
    quick.refuses("`key` is requested", |run| fact(seen(run, "passed", ""), "key")["requested"] = json!("p256"));
    // What was expected, and the versions that it rests on.
    quick.refuses("and the rules say", |run| case(run, "known", known)["expected"] = json!({ "outcome": "passed" }));
    quick.refuses("known, and it should be failed", |run| {
        run["peers"]["python"]["versions"]["grpcio"] = json!("1.85.2");
    });
    quick.refuses("known, and it should be failed", |run| run["peers"]["python"]["versions"] = json!({}));
    // Verdicts, counts, cases, exit status.
    quick.refuses("known, and it should be passed", |run| case(run, "passed", "")["verdict"] = json!("known"));
    quick.refuses("not-run, and it should be passed", |run| case(run, "passed", "")["verdict"] = json!("not-run"));
    quick.refuses("passed, and it should be flaky", |run| {
        let failed = seen(run, "known", known).clone();
        let attempts = case(run, "passed", "")["attempts"].as_array_mut().unwrap();
        attempts.insert(0, json!({ "observation": failed }));
    });
    quick.refuses("summary: executed", |run| run["summary"]["executed"] = json!(17));
    quick.refuses("summary: verdicts", |run| run["summary"]["verdicts"]["passed"] = json!(17));
    quick.refuses("exit status 1, and it should be 0", |run| run["exit_status"] = json!(1));
    quick.refuses("exit status 0, and it should be 130", |run| run["summary"]["interrupted"] = json!(true));
    quick.refuses("1 cases of the plan are not in the results", |run| drop(run["cases"].as_array_mut().unwrap().pop()));
    quick.refuses("told twice", |run| {
        let again = run["cases"][0].clone();
        run["cases"].as_array_mut().unwrap().push(again);
    });
    quick.refuses("another plan", |run| run["run"]["plan_digest"] = json!("0"));
    quick.refuses("the plan has", |run| run["cases"][0]["axes"]["client"] = json!("other"));
    // Checks that a rule names, in a part of a scenario: the rest of it is not asked for.
    let mistakes = Judged::selected("stock/mistakes", &["--filter", "mistake in [absent-is-empty, empty-key-taken]"]);
    mistakes.read(&mistakes.results.0).exits(0).says("2 cases judged again: all agree");
    mistakes.refuses("known, and it should be wrong-failure", |run| {
        let failed = failed_check(seen(run, "known", "mistake=absent-is-empty"));
        assert_eq!(*failed, "S-GET-2.code", "the one that the rule names");
        *failed = json!("S-GET-2.codes");
    });
    mistakes.refuses("known, and it should be wrong-failure", |run| {
        let failed = failed_check(seen(run, "known", "mistake=empty-key-taken"));
        assert_eq!(*failed, "S-KEY-1.code", "one below the one that the rule names");
        *failed = json!("S-KEY-10.code");
    });
    mistakes.refuses("1 cases of the plan are not in the results", |run| {
        run["cases"].as_array_mut().unwrap().pop();
    });
    // Further connections of a script ask for themselves.
    let stock = Judged::new("stock/reference");
    fn other(run: &mut Value) -> &mut Value {
        fact(seen(run, "passed", "stock/two-connections"), "other.tls")
    }
    stock.refuses("`other.tls` is requested", |run| other(run)["requested"] = json!("auto"));
    stock.refuses("of a connection that the plan does not have", |run| {
        other(run)["fact"] = json!("another.tls");
    });
    stock.refuses("passed, and it should be not-effective", |run| {
        other(run)["effective"] = json!({ "value": "auto" });
    });
}

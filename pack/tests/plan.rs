//! Plans: the order of steps, and which change makes which step anew.

#![allow(clippy::unwrap_used)]

use pack::formfile::{Formfile, parse};
use pack::image::{Digest, DigestKind};
use pack::plan::{BuildPlan, StepAction, plan};

fn formfile(text: &str) -> Formfile {
    parse(text)
        .formfile
        .unwrap_or_else(|complaints| panic!("{complaints:?}"))
}

fn planned(text: &str, content: &str) -> BuildPlan {
    let base = Digest([1; 32]);
    plan(&formfile(text), base, |_| {
        Some(Digest::of(DigestKind::Tree, content.as_bytes()))
    })
    .unwrap()
}

/// The steps in order.
fn check(text: &str, expect: &[&str]) {
    let plan = planned(text, "");
    let steps: Vec<String> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    assert_eq!(steps, expect);
}

#[test]
fn packages_that_stand_first_come_before_accounts_and_all_else_after() {
    check(
        "NAME x\nUSER username:a\nINSTALL curl\nRUN one\nINSTALL jq\nCOPY f /f\nRUN two\n",
        &[
            "INSTALL curl",
            "USER a",
            "RUN one",
            "INSTALL jq",
            "COPY f /f",
            "RUN two",
            "settle WORKDIR and 0 of ENV",
        ],
    );
    check(
        "NAME x\nUSER username:a\nCOPY f /f\n",
        &["USER a", "COPY f /f", "settle WORKDIR and 0 of ENV"],
    );
}

#[test]
fn sudo_is_installed_where_an_account_asks_for_it() {
    check(
        "NAME x\nUSER username:a sudo:true\nINSTALL curl\nCOPY f /f\n",
        &[
            "INSTALL curl",
            "INSTALL sudo",
            "USER a",
            "COPY f /f",
            "settle WORKDIR and 0 of ENV",
        ],
    );
    check(
        "NAME x\nUSER username:a sudo:true\nINSTALL sudo\nCOPY f /f\n",
        &[
            "INSTALL sudo",
            "USER a",
            "COPY f /f",
            "settle WORKDIR and 0 of ENV",
        ],
    );
}

#[test]
fn a_run_sees_the_variables_before_it_and_the_image_the_last_of_each() {
    let plan = planned(
        "NAME x\nENV A=1 B=2\nRUN one\nENV A=3\nENV --scope=user:a C=4\nCOPY f /f\n",
        "",
    );
    let StepAction::Run { env, .. } = &plan.steps[0].action else {
        panic!()
    };
    assert_eq!(env[..], [("A".into(), "1".into()), ("B".into(), "2".into())]);
    assert_eq!(
        plan.config.env[..],
        [("A".into(), "3".into()), ("B".into(), "2".into())]
    );
}

/// How many steps of `a` need not be done again for `b`.
fn shared(a: &BuildPlan, b: &BuildPlan) -> usize {
    a.steps
        .iter()
        .zip(&b.steps)
        .take_while(|(a, b)| a.key == b.key)
        .count()
}

#[test]
fn a_change_makes_its_own_step_anew_and_those_after_it() {
    let text = "NAME x\nUSER username:a passwd:p\nINSTALL curl\nCOPY f /f\nENV A=1\nRUN one\n";
    let plan = planned(text, "content");
    assert_eq!(plan.steps.len(), 5);
    let changed = |from: &str, to: &str| shared(&plan, &planned(&text.replace(from, to), "content"));
    assert_eq!(shared(&plan, &planned(text, "content")), 5);
    assert_eq!(shared(&plan, &planned(text, "other content")), 2);
    assert_eq!(changed("curl", "jq"), 0);
    assert_eq!(
        changed("passwd:p", "passwd:q"),
        1,
        "a new password installs nothing anew"
    );
    assert_eq!(changed("A=1", "A=2"), 3);
    assert_eq!(changed("one", "two"), 4 - 1);
    assert_eq!(changed("NAME x", "NAME y"), 5);
    assert_eq!(changed("/f\n", "/f/\n"), 2);
}

#[test]
fn a_source_that_is_missing_is_named() {
    let missing = plan(&formfile("NAME x\nCOPY f /f\n"), Digest([1; 32]), |_| None).unwrap_err();
    assert_eq!(missing.to_string(), "COPY f: the context holds no such file");
}

//! The sandbox of a project, as a snapshot test of that project would hold it.

use ringfence::host::facts::Facts;
use ringfence::plan::{Image, Request, plan};
use ringfence::{manifest, profile};

#[test]
fn the_sandbox_of_hello() {
    let text = include_str!("../manifests/hello.toml");
    let facts = Facts::from_toml(include_str!("hosts/root-v2.toml")).expect("facts");
    let manifest = manifest::parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    let job = profile::resolve(&manifest, "hello").unwrap_or_else(|problems| panic!("{problems}"));
    let plan = plan(&job, &facts, &Image::host(), &Request::default());
    insta::assert_snapshot!(plan.expect("a host that can hold it"));
}

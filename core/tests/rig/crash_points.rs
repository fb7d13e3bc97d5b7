//! Every crash point of the registry is in the code, once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use zmsg_core::base::crash::{CRASH_POINTS, hits};

/// The macro, its tests and its documentation name points as well.
const DEFINED_IN: &str = "base/crash.rs";

#[test]
fn every_point_is_placed_once() {
    let mut placed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    visit(&source, &mut |path, text| {
        if path.ends_with(DEFINED_IN) {
            return;
        }
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
        for point in CRASH_POINTS {
            let times = code.matches(&format!("crash!(\"{}\")", point.name)).count();
            let file = path.strip_prefix(&source).unwrap().display().to_string();
            placed.entry(point.name).or_default().extend(std::iter::repeat_n(file, times));
        }
    });
    let missing: Vec<_> = placed.iter().filter(|(_, files)| files.is_empty()).collect();
    let repeated: Vec<_> = placed.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(
        missing.is_empty() && repeated.is_empty(),
        "nowhere: {missing:#?}, in several places: {repeated:#?}"
    );
}

#[test]
fn every_point_says_what_it_means_and_counts() {
    let described = |text: &str| text.split_whitespace().count() > 4;
    assert!(CRASH_POINTS.iter().all(|point| point.name.contains('.') && described(point.what)));
    let counted: Vec<_> = hits().into_iter().map(|(name, _)| name).collect();
    assert_eq!(counted, CRASH_POINTS.iter().map(|point| point.name).collect::<Vec<_>>());
}

fn visit(folder: &Path, see: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, see);
        } else if path.extension().is_some_and(|it| it == "rs") {
            see(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

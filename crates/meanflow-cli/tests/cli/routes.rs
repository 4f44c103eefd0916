//! The ways from noise to a sample, and the samples between two.

use meanflow_data::npy::NpyData;
use meanflow_data::npz::Npz;
use serde_json::Value;

use crate::support::Scene;

/// The points of the plane in an archive.
fn points(scene: &Scene, name: &str) -> Vec<f32> {
    let mut archive = Npz::open(&scene.path(name), 1 << 20).unwrap();
    match archive.read("arr_0").unwrap().data {
        NpyData::F32(values) => values,
        other => panic!("expected f32, got {other:?}"),
    }
}

#[test]
fn evaluations_are_those_of_the_method() {
    let scene = Scene::new();
    scene.trained("run");
    let nfe = |route: &[&str]| {
        let fixed = [
            "sample", "run", "--seeds", "0-4", "--out", "a.npz", "--json",
        ];
        let report = scene.succeeds(&[&fixed[..], route].concat());
        let report = serde_json::from_str::<Value>(&report).unwrap()["nfe"].take();
        let number = |key: &str| report[key].as_u64().unwrap();
        (number("least"), number("most"))
    };
    for (route, expected) in [
        (&[][..], 1),
        (&["--steps", "3"], 3),
        (&["--grid", "1,0.6,0.2,0"], 3),
        (&["--grid", "cosine:5"], 5),
        (&["--ode", "euler:7"], 7),
        (&["--ode", "heun:7"], 14),
        (&["--ode", "rk4:7"], 28),
    ] {
        assert_eq!(nfe(route), (expected, expected), "{route:?}");
    }
    // One evaluation at the start, six a step.
    let (least, most) = nfe(&["--ode", "adaptive:1e-3"]);
    assert!(
        least >= 7 && least % 6 == 1 && most % 6 == 1,
        "{least} {most}"
    );
    let said = scene.succeeds(&["sample", "run", "--seeds", "0-4", "--out", "a.npz"]);
    assert!(
        said.contains("a.npz: 5 samples, 1 evaluation each"),
        "{said}"
    );
}

#[test]
fn one_way_at_a_time() {
    let scene = Scene::new();
    let sample = |more: &[&str]| {
        scene.fails(
            2,
            &[
                &["sample", "run", "--seeds", "0", "--out", "a.npz"][..],
                more,
            ]
            .concat(),
        )
    };
    sample(&["--steps", "2", "--grid", "1,0"]);
    sample(&["--steps", "2", "--ode", "heun:2"]);
    sample(&["--grid", "1,0", "--ode", "heun:2"]);
    assert!(sample(&["--grid", "0,1"]).contains("fall from 1 to 0"));
    assert!(sample(&["--ode", "heun"]).contains("number of steps"));
    assert!(sample(&["--ode", "leapfrog:2"]).contains("rk4:N"));
    assert!(sample(&["--ode", "adaptive:0"]).contains("tolerance above 0"));
}

#[test]
fn a_sample_of_an_adaptive_method_is_its_own() {
    let scene = Scene::new();
    scene.trained("run");
    let draw = |seeds: &str, out: &str| {
        let ode = ["sample", "run", "--ode", "adaptive:1e-3"];
        scene.succeeds(&[&ode[..], &["--seeds", seeds, "--out", out]].concat());
        points(&scene, out)
    };
    let many = draw("0-20", "many.npz");
    assert_eq!(
        draw("20,7", "few.npz"),
        [&many[40..42], &many[14..16]].concat()
    );
}

#[test]
fn interpolation_goes_from_one_sample_to_another() {
    let scene = Scene::new();
    scene.trained("run");
    let ways: [&[&str]; 2] = [&["--steps", "2"], &["--ode", "heun:3"]];
    for way in ways {
        let fixed = ["interpolate", "run", "--seeds", "9,2", "--count", "5"];
        scene.succeeds(&[&fixed[..], &["--out", "between.npz"], way].concat());
        scene.succeeds(
            &[
                &["sample", "run", "--seeds", "9,2", "--out", "ends.npz"][..],
                way,
            ]
            .concat(),
        );
        let (between, ends) = (points(&scene, "between.npz"), points(&scene, "ends.npz"));
        assert_eq!(between.len(), 10);
        assert_eq!((&between[..2], &between[8..]), (&ends[..2], &ends[2..]));
    }
}

#[test]
fn interpolation_needs_two_seeds_and_a_file() {
    let scene = Scene::new();
    scene.trained("run");
    let interpolate = |seeds: &str, out: &str, class: &str| {
        let fixed = ["interpolate", "run", "--seeds", seeds];
        scene.fails(2, &[&fixed[..], &["--out", out, "--class", class]].concat())
    };
    assert!(interpolate("1", "a.npz", "none").contains("two seeds, got 1"));
    assert!(interpolate("1,2,3", "a.npz", "none").contains("two seeds, got 3"));
    assert!(interpolate("4,4", "a.npz", "none").contains("two different seeds"));
    assert!(interpolate("1,2", "folder", "none").contains("NAME.png or NAME.npz"));
    assert!(interpolate("1,2", "a.npz", "3").contains("no classes"));
    assert!(!scene.path("a.npz").exists());
}

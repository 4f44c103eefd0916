//! Schedulers of a program's own: those that copy one of ours are equal to it, through every derivative.

use std::f64::consts::FRAC_PI_2;

use meanflow_core::oracle::{Gaussian, along_trajectory};
use meanflow_core::scheduler::{Jet, Scheduler};
use meanflow_core::{Interval, RegistryError, Schedule};
use num_dual::{Dual, Dual64, DualNum};

/// The path of [`Schedule::Cosine`], written by a user.
#[derive(Debug)]
struct Cosine;

impl Scheduler for Cosine {
    fn a(&self, t: Jet) -> Jet {
        (t * FRAC_PI_2).cos()
    }

    fn b(&self, t: Jet) -> Jet {
        (t * FRAC_PI_2).sin()
    }
}

/// `a = 1 − tⁿ`, `b = tⁿ`.
#[derive(Debug)]
struct Power(i32);

impl Scheduler for Power {
    fn a(&self, t: Jet) -> Jet {
        -t.powi(self.0) + 1.0
    }

    fn b(&self, t: Jet) -> Jet {
        t.powi(self.0)
    }
}

#[test]
fn a_copy_of_the_cosine_path_has_its_values_and_derivatives() {
    let copy = Schedule::register("copy-of-cosine", &Cosine).unwrap();
    let data = Gaussian::new(-1.0, 0.5).unwrap();
    for t in [0.0, 0.2, 0.5, 0.9, 1.0] {
        assert_eq!(copy.at(t).a, Schedule::Cosine.at(t).a);
        // Chains of the same operations in another order: some roundings of numbers near one.
        assert!((copy.at(t).db - Schedule::Cosine.at(t).db).abs() < 1e-14);
        let third = Dual::new(
            Dual::new(Dual64::new(t, 1.0), Dual64::from(1.0)),
            Dual::from(1.0),
        );
        let (ours, theirs) = (Schedule::Cosine.b(third), copy.b(third));
        assert!((ours.eps.eps.eps - theirs.eps.eps.eps).abs() < 1e-13);
    }
    for (r, t) in [(0.0, 1.0), (0.1, 0.8), (0.5, 0.5), (0.7, 0.700_01)] {
        let interval = Interval::new(r, t).unwrap();
        let slope = |schedule: &Schedule| {
            let v = data.velocity(schedule, 0.3, t);
            let u = |z, r, t| data.average_velocity(schedule, z, r, t);
            along_trajectory(u, 0.3, v, interval)
        };
        assert!(
            (slope(&copy) - slope(&Schedule::Cosine)).abs() < 1e-11,
            "{r}, {t}"
        );
    }
}

#[test]
fn a_registered_scheduler_is_written_as_its_name() {
    let schedule = Schedule::register("written", &Power(2)).unwrap();
    let text = toml::to_string(&schedule).unwrap();
    assert_eq!(text, "kind = \"custom\"\nname = \"written\"\n");
    assert_eq!(toml::from_str::<Schedule>(&text).unwrap(), schedule);
    let error = toml::from_str::<Schedule>("kind = 'custom'\nname = 'writen'").unwrap_err();
    assert!(error.to_string().contains("has registered (") && error.to_string().contains("writen"));
    assert!(toml::from_str::<Schedule>("kind = 'custom'\nname = 'written'\nn = 1").is_err());
}

#[test]
fn what_is_no_path_or_has_a_name_in_use_is_refused() {
    /// It ends at the data.
    #[derive(Debug)]
    struct Backwards;
    impl Scheduler for Backwards {
        fn a(&self, t: Jet) -> Jet {
            t
        }
        fn b(&self, t: Jet) -> Jet {
            -t + 1.0
        }
    }
    /// The slope of √t at 0 is infinite.
    #[derive(Debug)]
    struct Root;
    impl Scheduler for Root {
        fn a(&self, t: Jet) -> Jet {
            -t + 1.0
        }
        fn b(&self, t: Jet) -> Jet {
            t.sqrt()
        }
    }
    let error = Schedule::register("backwards", &Backwards)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected a(0) = 1 and b(0) = 0, got 0 and 1"),
        "{error}"
    );
    let error = Schedule::register("steep", &Root).unwrap_err().to_string();
    assert!(error.contains("slopes at t = 0, got 1, 0, "), "{error}");
    Schedule::register("once", &Power(3)).unwrap();
    let again = Schedule::register("once", &Power(2));
    assert!(matches!(
        again,
        Err(RegistryError::Taken { name: "once", .. })
    ));
}

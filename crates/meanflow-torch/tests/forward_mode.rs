//! `jvp` is `torch.func.jvp`: any closure, several inputs and outputs, the primal still differentiable.

use meanflow_testing::{normal, relative};
use meanflow_torch::{Kind, LibtorchError, Tensor, TorchError, jvp};

#[test]
fn several_inputs_and_outputs() {
    let (x, y) = (normal(1, &[3, 4]), normal(2, &[4, 2]));
    let (dx, dy) = (normal(3, &[3, 4]), normal(4, &[4, 2]));
    let function = |v: &[Tensor]| {
        vec![
            v[0].matmul(&v[1]),
            v[0].exp(),
            Tensor::ones([2], (Kind::Double, tch::Device::Cpu)),
        ]
    };
    let (values, derivatives) = jvp(
        function,
        &[x.shallow_clone(), y.shallow_clone()],
        &[dx.shallow_clone(), dy.shallow_clone()],
    )
    .unwrap();
    assert_eq!(values[0], x.matmul(&y));
    // One product more or less, in f64.
    assert!(relative(&derivatives[0], &(dx.matmul(&y) + x.matmul(&dy))) < 1e-14);
    assert!(relative(&derivatives[1], &(x.exp() * &dx)) < 1e-14);
    assert_eq!(
        derivatives[2],
        values[2].zeros_like(),
        "an output that does not depend on the inputs"
    );
}

#[test]
fn the_primal_can_be_differentiated_afterwards() {
    let weight = normal(1, &[4, 4]).set_requires_grad(true);
    let (x, dx) = (normal(2, &[3, 4]), normal(3, &[3, 4]));
    let network = |x: &[Tensor]| vec![x[0].matmul(&weight).tanh().matmul(&weight)];
    let (values, derivatives) = jvp(network, &[x.shallow_clone()], &[dx]).unwrap();
    assert!(
        derivatives[0].requires_grad(),
        "the derivative carries a tape of its own"
    );
    let of_primal = Tensor::run_backward(
        &[values[0].square().sum(Kind::Double)],
        &[&weight],
        false,
        false,
    )
    .remove(0);
    let plain = network(&[x]).remove(0).square().sum(Kind::Double);
    let of_plain = Tensor::run_backward(&[plain], &[&weight], false, false).remove(0);
    assert!(relative(&of_primal, &of_plain) < 1e-14);
}

#[test]
fn a_jvp_inside_a_jvp_is_refused_and_leaves_the_outer_one_whole() {
    let x = normal(1, &[2]);
    let nested = |v: &[Tensor]| {
        let inner = jvp(|w| vec![w[0].square()], &[v[0].detach()], &[v[0].detach()]);
        assert!(matches!(
            inner,
            Err(TorchError::Libtorch(LibtorchError::Nested))
        ));
        vec![v[0].square()]
    };
    let (_, derivatives) = jvp(nested, &[x.shallow_clone()], &[x.ones_like()]).unwrap();
    assert_eq!(derivatives[0], &x * 2.0);
}

#[test]
fn a_closure_that_panics_leaves_the_level() {
    let x = normal(1, &[2]);
    for _ in 0..2 {
        let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            jvp(
                |_| panic!("on purpose"),
                &[x.shallow_clone()],
                &[x.ones_like()],
            )
        }));
        assert!(attempt.is_err());
    }
    let (_, derivatives) = jvp(
        |v| vec![&v[0] * 3.0],
        &[x.shallow_clone()],
        &[x.ones_like()],
    )
    .unwrap();
    assert_eq!(derivatives[0], x.ones_like() * 3.0);
}

#[test]
fn threads_wait_for_each_other() {
    let derivative = |factor: f64| {
        let x = normal(1, &[64]);
        let (_, derivatives) = jvp(
            |v| vec![&v[0] * factor],
            &[x.shallow_clone()],
            &[x.ones_like()],
        )
        .unwrap();
        derivatives[0].mean(Kind::Double).double_value(&[])
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|k| scope.spawn(move || (0..20).all(|_| derivative(f64::from(k)) == f64::from(k))))
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn tangents_that_do_not_fit_are_refused() {
    let x = normal(1, &[2, 3]);
    let identity = |v: &[Tensor]| vec![v[0].shallow_clone()];
    let missing = jvp(identity, &[x.shallow_clone()], &[])
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("expected 1 tensors") && missing.contains("got 0"),
        "{missing}"
    );
    for tangent in [
        normal(2, &[3, 2]),
        normal(2, &[1, 3]),
        normal(2, &[2, 3]).to_kind(Kind::Float),
    ] {
        let error = jvp(identity, &[x.shallow_clone()], &[tangent])
            .unwrap_err()
            .to_string();
        assert!(error.contains("[2, 3] of type Double"), "{error}");
    }
}

//! Which rows of a batch need which network forward to be guided.

use meanflow_core::TimeDraw;

use crate::guidance::{Coefficients, Guidance};

/// The forwards that the guided velocity of a batch asks for; rows of weight 0 ask for none.
///
/// A flow-matching row, `r = t`, with its class is what the network computes for its loss anyway: there the main forward,
/// detached, *is* `u(z,t,t|c)`. (Not with dropout, whose second forward would draw another mask.)
#[derive(Clone, Debug, PartialEq)]
pub struct GuidancePlan {
    /// The weights of every row, `[B]`.
    pub coefficients: Vec<Coefficients>,
    /// MeanFlow rows that need a forward `u(z,t,t|c)` of their own.
    pub class_forward: Vec<usize>,
    /// Flow rows whose `u(z,t,t|c)` is their row of the main forward.
    pub class_reuse: Vec<usize>,
    /// Rows that need a forward `u(z,t,t|∅)`.
    pub null_forward: Vec<usize>,
}

impl GuidancePlan {
    /// The plan of a batch with these times and dropped labels.
    ///
    /// # Shapes
    /// `dropped` `[B]`, as many as `times` has rows.
    pub fn new(guidance: &Guidance, times: &TimeDraw, dropped: &[bool]) -> Self {
        assert_eq!(
            times.intervals.len(),
            dropped.len(),
            "a drop decision per row"
        );
        let coefficients: Vec<Coefficients> = times
            .intervals
            .iter()
            .zip(dropped)
            .map(|(interval, &dropped)| guidance.coefficients(interval.t(), dropped))
            .collect();
        let rows = |weight: fn(&Coefficients) -> f64| {
            let weighs = |row: &usize| weight(&coefficients[*row]) != 0.0;
            (0..dropped.len()).filter(weighs).collect::<Vec<usize>>()
        };
        let (class_forward, class_reuse) = rows(|c| c.class)
            .into_iter()
            .partition(|&row| row < times.jumps);
        let null_forward = rows(|c| c.null);
        Self {
            coefficients,
            class_forward,
            class_reuse,
            null_forward,
        }
    }

    /// The same with a forward for every row that `guidance` could ask one for, so that the forwards are as many in every batch with as
    /// many MeanFlow rows. A row that needs none keeps its weight 0.
    #[must_use]
    pub fn padded(mut self, guidance: &Guidance, jumps: usize) -> Self {
        let rows = self.coefficients.len();
        let acting = guidance.acting();
        if acting.class != 0.0 {
            self.class_forward = (0..jumps).collect();
            self.class_reuse = (jumps..rows).collect();
        }
        if acting.null != 0.0 {
            self.null_forward = (0..rows).collect();
        }
        self
    }
}

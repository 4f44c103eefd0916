//! NaN, infinities and huge numbers, put into random tensors at random steps, reach no average and no file.

use crate::common::recipe;
use crate::damage::inputs;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::{DataError, Dataset, DatasetInfo, Examples};
use meanflow_torch::{Device, Model};
use meanflow_train::{TrainError, Trainer};

const VALUES: [f32; 4] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30];

/// Data in which one number of one step is another one.
#[derive(Debug)]
struct Poisoned {
    data: Box<dyn Dataset>,
    step: u64,
    place: usize,
    value: f32,
}

impl Dataset for Poisoned {
    fn info(&self) -> &DatasetInfo {
        self.data.info()
    }

    fn batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError> {
        let mut examples = self.data.batch(indices, seed, step)?;
        if step == self.step {
            let place = self.place % examples.values.len();
            examples.values[place] = self.value;
        }
        Ok(examples)
    }
}

/// Where and what.
#[derive(Debug)]
struct Injection {
    /// Steps before it.
    step: u64,
    /// The parameter, or the data.
    tensor: Option<usize>,
    place: usize,
    value: f32,
    asynchronous: bool,
}

impl Injection {
    fn draw(random: &mut RngStream) -> Self {
        Self {
            step: random.below(8),
            tensor: (random.below(3) > 0).then(|| random.below(1 << 20) as usize),
            place: random.below(1 << 20) as usize,
            value: VALUES[random.below(4) as usize],
            asynchronous: random.below(2) == 0,
        }
    }

    fn trainer(&self) -> Trainer {
        let config = recipe(&[&format!("compute.async_metrics={}", self.asynchronous)]);
        let data = config.data.load(config.seed).unwrap();
        let data: Box<dyn Dataset> = match self.tensor {
            Some(_) => data,
            None => Box::new(Poisoned {
                data,
                step: self.step,
                place: self.place,
                value: self.value,
            }),
        };
        Trainer::new(config, data, Device::Cpu).unwrap()
    }

    /// Puts the value into a parameter.
    fn poison(&self, trainer: &Trainer) {
        let tensors = trainer.model().parameters().tensors();
        let Some(tensor) = self.tensor.map(|number| tensors[number % tensors.len()]) else {
            return;
        };
        let flat = tensor.detach().view([-1]);
        let place = (self.place % flat.numel()) as i64;
        let _ = tch::no_grad(|| flat.get(place).fill_(f64::from(self.value)));
    }
}

fn is_finite(model: &Model) -> bool {
    let largest = model.parameters().largest_magnitude();
    largest.isfinite().int64_value(&[]) == 1
}

#[test]
fn what_is_not_finite_reaches_no_average_and_no_further_step() {
    let mut random = RngStream::new(1, Purpose::Data, 4);
    let (mut noticed, count) = (0, inputs(60));
    for _ in 0..count {
        let injection = Injection::draw(&mut random);
        let mut trainer = injection.trainer();
        let mut ended = None;
        let mut skipped = 0;
        for step in 0..injection.step + 12 {
            if step == injection.step {
                injection.poison(&trainer);
            }
            trainer.advance().unwrap();
            match trainer.metrics() {
                Ok(told) => skipped += told.iter().filter(|one| !one.is_finite).count(),
                Err(error) => {
                    ended = Some(error);
                    break;
                }
            }
        }
        assert!(is_finite(trainer.average().0), "{injection:?}");
        let poisoned = injection.tensor.is_some() && !injection.value.is_finite();
        match &ended {
            Some(TrainError::WeightsNotFinite { step }) => {
                assert!(poisoned && *step == injection.step + 1, "{injection:?}");
            }
            Some(TrainError::NotFinite { .. }) => assert_eq!(injection.value, 1e30),
            Some(error) => panic!("{injection:?}: {error}"),
            None => {
                assert!(!poisoned && is_finite(trainer.model()), "{injection:?}");
                assert!(skipped <= 1 || injection.value == 1e30, "{injection:?}");
            }
        }
        noticed += usize::from(ended.is_some() || skipped > 0);
    }
    // A huge number in a weight that is multiplied by nothing much, or in data, may be borne.
    assert!(10 * noticed >= 8 * count, "{noticed} of {count}");
}

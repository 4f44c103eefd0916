//! Requests for samples, looked at before a model is asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::app::App;
use super::asked::Asked;
use super::drawn::{Drawn, Label};
use crate::api_error::ApiError;
use crate::catalogue::{ModelEntry, SampleKind};
use crate::class::Class;
use crate::picture;
use crate::studio::{Method, Sampler, Work};

/// Points of the plane of one request: a picture of their density needs many.
const MOST_POINTS: usize = 4096;

fn one() -> usize {
    1
}

/// `POST /api/sample`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    model: String,
    seeds: Vec<u64>,
    #[serde(default)]
    class: Class,
    #[serde(default = "one")]
    steps: usize,
    #[serde(default)]
    method: Method,
}

pub(super) async fn sample(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Sample>,
) -> Result<Json<Drawn>, ApiError> {
    let (place, model) = app.model(&asked.model)?;
    app.check_count(model, "seeds", asked.seeds.len(), 1)?;
    let sampler = app.sampler(asked.steps, asked.method)?;
    let labels = asked.class.labels(model, &asked.seeds)?;
    let seeds = asked.seeds.clone();
    let work = Work::Draw {
        seeds,
        labels: labels.clone(),
        sampler,
    };
    let done = app.studio.ask(place, work).await?;
    let named = asked.seeds.iter().enumerate().map(|(row, seed)| {
        let class = labels.as_ref().map(|labels| labels[row]);
        Label::new(model, class, json!({"seed": seed}))
    });
    Drawn::new(model, done, &sampler.settings(), named.collect()).await
}

/// `POST /api/interpolate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interpolate {
    model: String,
    seeds: [u64; 2],
    count: usize,
    #[serde(default)]
    class: Class,
    #[serde(default = "one")]
    steps: usize,
    #[serde(default)]
    method: Method,
}

pub(super) async fn interpolate(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Interpolate>,
) -> Result<Json<Drawn>, ApiError> {
    let (place, model) = app.model(&asked.model)?;
    app.check_count(model, "count", asked.count, 2)?;
    let [first, last] = asked.seeds;
    if first == last {
        return Err(ApiError::bad(
            "seeds",
            "two different seeds",
            format!("{first}, {last}"),
        ));
    }
    let sampler = app.sampler(asked.steps, asked.method)?;
    let class = asked.class.label(model)?;
    let work = Work::Between {
        seeds: asked.seeds,
        count: asked.count,
        class,
        sampler,
    };
    let done = app.studio.ask(place, work).await?;
    let named = (0..asked.count).map(|row| {
        let share = row as f64 / (asked.count - 1) as f64;
        Label::new(model, class, json!({"seeds": asked.seeds, "share": share}))
    });
    Drawn::new(model, done, &sampler.settings(), named.collect()).await
}

/// `POST /api/trajectory`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trajectory {
    model: String,
    seed: u64,
    #[serde(default)]
    class: Class,
    times: usize,
}

/// The rows that [`Work::Paths`] gives, as they are called in the answer.
const PATHS: [&str; 3] = ["ode", "jump", "ahead"];
/// Most times that are shown of a trajectory.
const MOST_TIMES: usize = 17;

pub(super) async fn trajectory(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Trajectory>,
) -> Result<Json<Drawn>, ApiError> {
    let (place, model) = app.model(&asked.model)?;
    let (times, seed) = (asked.times, asked.seed);
    if !(2..=MOST_TIMES).contains(&times) {
        return Err(ApiError::bad("times", format!("2 to {MOST_TIMES}"), times));
    }
    let class = asked.class.label(model)?;
    let work = Work::Paths { seed, class, times };
    let done = app.studio.ask(place, work).await?;
    let named = PATHS.into_iter().flat_map(|path| {
        (0..times).map(move |row| {
            let t = 1.0 - row as f64 / (times - 1) as f64;
            Label::new(model, class, json!({"seed": seed, "path": path, "t": t}))
        })
    });
    let labels = named.collect();
    let settings = json!({"times": times, "method": "heun"});
    Drawn::new(model, done, &settings, labels).await
}

/// `POST /api/vary`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vary {
    model: String,
    /// A PNG or JPEG file in base64, of the size of the model's pictures.
    picture: String,
    #[serde(default)]
    class: Class,
    strength: f64,
    seeds: Vec<u64>,
    #[serde(default = "four")]
    steps: usize,
}

/// Jumps that are short enough for most pictures to be inverted.
fn four() -> usize {
    4
}

pub(super) async fn vary(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Vary>,
) -> Result<Json<Drawn>, ApiError> {
    let strength = asked.strength;
    if !(0.0..=1.0).contains(&strength) {
        return Err(ApiError::bad("strength", "0 to 1", strength));
    }
    let given = app.given(&asked.model, &asked.picture, &asked.class, asked.steps)?;
    let (model, class) = (given.model, given.class);
    app.check_count(model, "seeds", asked.seeds.len(), 1)?;
    let work = Work::Vary {
        picture: given.picture,
        class,
        strength,
        seeds: asked.seeds.clone(),
        steps: given.sampler.steps,
    };
    let done = app.studio.ask(given.place, work).await?;
    let found = Label::new(model, class, json!({"strength": 0.0}));
    let named = asked
        .seeds
        .iter()
        .map(|seed| Label::new(model, class, json!({"seed": seed, "strength": strength})));
    let labels = std::iter::once(found).chain(named).collect();
    Drawn::new(model, done, &given.sampler.settings(), labels).await
}

/// `POST /api/inpaint`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inpaint {
    model: String,
    /// A PNG or JPEG file in base64, of the size of the model's pictures.
    picture: String,
    /// A `1` for every pixel that is drawn anew, a `0` for every other, row by row.
    mask: String,
    #[serde(default)]
    class: Class,
    seeds: Vec<u64>,
    #[serde(default = "sixteen")]
    steps: usize,
}

/// Steps after which completions of small pictures hardly change.
fn sixteen() -> usize {
    16
}

pub(super) async fn inpaint(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Inpaint>,
) -> Result<Json<Drawn>, ApiError> {
    let given = app.given(&asked.model, &asked.picture, &asked.class, asked.steps)?;
    let (model, class) = (given.model, given.class);
    app.check_count(model, "seeds", asked.seeds.len(), 1)?;
    let work = Work::Inpaint {
        picture: given.picture,
        mask: picture::mask(model, &asked.mask)?,
        class,
        seeds: asked.seeds.clone(),
        steps: given.sampler.steps,
    };
    let done = app.studio.ask(given.place, work).await?;
    let label = |seed: &u64| Label::new(model, class, json!({"seed": seed}));
    let labels = asked.seeds.iter().map(label).collect();
    Drawn::new(model, done, &given.sampler.settings(), labels).await
}

/// `POST /api/nearest`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nearest {
    model: String,
    seed: u64,
    #[serde(default)]
    class: Class,
    #[serde(default = "one")]
    steps: usize,
    #[serde(default)]
    method: Method,
    count: usize,
}

pub(super) async fn nearest(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Nearest>,
) -> Result<Json<Drawn>, ApiError> {
    let (place, model) = app.model(&asked.model)?;
    app.check_count(model, "count", asked.count, 1)?;
    let sampler = app.sampler(asked.steps, asked.method)?;
    let seeds = vec![asked.seed];
    let labels = asked.class.labels(model, &seeds)?;
    let work = Work::Draw {
        seeds,
        labels,
        sampler,
    };
    let mut done = app.studio.ask(place, work).await?;
    let (app, count) = (Arc::clone(&app), asked.count);
    let sample = done.samples.values.clone();
    let found = spawn_blocking(move || {
        app.data
            .nearest(&app.catalogue.models[place], place, &sample, count)
    });
    let near = found.await.map_err(ApiError::internal)??;
    let labels = near.rows.iter().map(|row| {
        let facts = json!({"number": row.number, "distance": row.distance, "of": near.of});
        Label::new(model, row.label, facts)
    });
    let labels = labels.collect();
    done.samples.values = near.values;
    Drawn::new(model, done, &sampler.settings(), labels).await
}

/// What is the same for every request that begins with a picture.
struct Given<'a> {
    model: &'a ModelEntry,
    /// The model's place among all.
    place: usize,
    /// The values of the picture in the model's space.
    picture: Vec<f32>,
    class: Option<i64>,
    sampler: Sampler,
}

impl App {
    /// A model with a picture of its size, a class that it has, and jumps that are not too many.
    fn given(
        &self,
        id: &str,
        picture: &str,
        class: &Class,
        steps: usize,
    ) -> Result<Given<'_>, ApiError> {
        let (place, model) = self.model(id)?;
        Ok(Given {
            model,
            place,
            sampler: self.sampler(steps, Method::Jump)?,
            class: class.label(model)?,
            picture: picture::values(model, picture)?,
        })
    }

    /// The model of an id, with its place.
    pub(super) fn model(&self, id: &str) -> Result<(usize, &ModelEntry), ApiError> {
        let mut models = self.catalogue.models.iter().enumerate();
        models
            .find(|(_, model)| model.id == id)
            .ok_or_else(|| ApiError::unknown("model", id))
    }

    /// A sampler that is not too long.
    pub(super) fn sampler(&self, steps: usize, method: Method) -> Result<Sampler, ApiError> {
        let sampler = Sampler { steps, method };
        let most = self.limits.nfe;
        if (1..=most).contains(&sampler.nfe()) {
            return Ok(sampler);
        }
        let expected = format!("1 to {most} evaluations of the network for a sample");
        Err(ApiError::bad("steps", expected, sampler.nfe()))
    }

    /// Refuses more samples than one request may ask for.
    pub(super) fn check_count(
        &self,
        model: &ModelEntry,
        key: &str,
        count: usize,
        least: usize,
    ) -> Result<(), ApiError> {
        let most = match (model.samples, model.picture) {
            (SampleKind::Points, _) => MOST_POINTS,
            (_, Some([_, height, width])) => self
                .limits
                .samples
                .min(self.limits.pixels / (height * width).max(1))
                .max(1),
            (_, None) => self.limits.samples,
        };
        if (least..=most.max(least)).contains(&count) {
            return Ok(());
        }
        Err(ApiError::bad(key, format!("{least} to {most}"), count))
    }
}

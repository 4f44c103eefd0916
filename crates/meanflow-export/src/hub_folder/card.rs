//! The model card: Markdown with a YAML front matter, as model hubs read it.

use std::fmt::Write as _;

use meanflow_torch::ModelConfig;
use meanflow_torch::networks::NetworkConfig;

use super::{LOADER, SAMPLES, loads_in_pytorch};

/// What a card says of a model.
#[derive(Debug)]
pub struct ModelCard<'a> {
    /// Its name.
    pub name: &'a str,
    /// The licence of the weights, by its short name, such as `mit`; none where nobody has said one.
    pub license: Option<&'a str>,
    /// The data sets it was trained on, by name.
    pub datasets: Vec<String>,
    /// What it is.
    pub model: &'a ModelConfig,
    /// How many parameters it has.
    pub parameters: usize,
    /// The names of its classes.
    pub class_names: Option<&'a [String]>,
    /// The VAE whose latents it draws; none of a model of pictures or points.
    pub vae: Option<String>,
    /// How it was trained, where that is known.
    pub training: Option<Training>,
    /// What was measured of it.
    pub metrics: Vec<Metric>,
    /// Whether the folder has a picture of samples.
    pub has_samples: bool,
}

/// How a model was trained.
#[derive(Debug)]
pub struct Training {
    /// The recipe, TOML.
    pub recipe: String,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Samples a step.
    pub batch_size: u64,
    /// Guidance in words; none without.
    pub guidance: Option<String>,
    /// The average that the weights are, in words.
    pub ema: String,
}

/// A value that an evaluation gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name in reports, such as `fid` or `fd_digits`.
    pub name: String,
    /// Its mean.
    pub value: f64,
    /// Half of its 95 % interval, where there were several repetitions.
    pub half_width: Option<f64>,
    /// Which sampler drew the samples, such as `meanflow 1`.
    pub sampler: String,
    /// How many samples were drawn.
    pub samples: Option<u64>,
    /// What they were compared with.
    pub reference: String,
}

impl ModelCard<'_> {
    /// The whole file.
    pub(super) fn text(&self) -> String {
        let parts = [
            self.front_matter(),
            self.introduction(),
            self.use_of_it(),
            self.measured(),
            self.trained(),
        ];
        parts.concat()
    }

    fn front_matter(&self) -> String {
        let mut text = "---\n".to_owned();
        if let Some(license) = self.license {
            text += &format!("license: {}\n", quoted(license));
        }
        text += "library_name: meanflow\npipeline_tag: unconditional-image-generation\ntags:\n";
        for tag in [
            "meanflow",
            "one-step",
            "flow-matching",
            network_name(&self.model.network),
        ] {
            text += &format!("- {tag}\n");
        }
        if !self.datasets.is_empty() {
            text += "datasets:\n";
            for dataset in &self.datasets {
                text += &format!("- {}\n", quoted(dataset));
            }
        }
        text += &self.model_index();
        text + "---\n\n"
    }

    /// The values, as hubs list them beside those of other models.
    fn model_index(&self) -> String {
        if self.metrics.is_empty() {
            return String::new();
        }
        let mut text = format!("model-index:\n- name: {}\n  results:\n", quoted(self.name));
        let mut reference = None;
        for metric in &self.metrics {
            if reference != Some(&metric.reference) {
                let name = quoted(&metric.reference);
                text += "  - task:\n      type: unconditional-image-generation\n";
                text += &format!(
                    "    dataset:\n      name: {name}\n      type: {name}\n    metrics:\n"
                );
                reference = Some(&metric.reference);
            }
            let name = quoted(&format!("{} ({})", metric.name, metric.sampler));
            text += &format!(
                "    - type: {}\n      name: {name}\n      value: {}\n",
                quoted(&metric.name),
                metric.value
            );
        }
        text
    }

    fn introduction(&self) -> String {
        let network = network_title(&self.model.network);
        let shape = self
            .model
            .shape
            .iter()
            .map(i64::to_string)
            .collect::<Vec<_>>()
            .join(" × ");
        let what = match (&self.vae, self.model.shape.len()) {
            (Some(vae), _) => format!("latents {shape} of the VAE `{vae}`"),
            (None, 1) => format!("points of {shape} dimensions"),
            (None, _) => format!("pictures {shape} (channels × height × width)"),
        };
        let classes = match (self.model.classes, self.class_names) {
            (0, _) => "It is unconditional.".to_owned(),
            (classes, Some(names)) => format!("It has {classes} classes: {}.", listed(names)),
            (classes, None) => format!("It has {classes} classes, 0 to {}.", classes - 1),
        };
        let mut text = format!(
            "# {}\n\nA MeanFlow model: it draws a sample with one evaluation of its network, a {network} with {} parameters, and draws {what}. {classes}\n\n",
            self.name,
            grouped(self.parameters),
        );
        if self.has_samples {
            text += &format!("![Samples, one evaluation of the network each]({SAMPLES})\n\n");
        }
        text
    }

    fn use_of_it(&self) -> String {
        let mut text = "## Use\n\nOn the command line, in the folder of this file or with its path in place of `.`:\n\n".to_owned();
        let out = if self.model.shape.len() == 3 && self.vae.is_none() {
            "grid.png"
        } else {
            "batch.npz"
        };
        let _ = write!(
            text,
            "```sh\nmeanflow sample . --seeds 0-63 --out {out}\nmeanflow info .\n```\n\n"
        );
        if loads_in_pytorch(&self.model.network) {
            let labels = self
                .labels()
                .map_or_else(String::new, |labels| format!(", labels={labels:?}"));
            let _ = write!(
                text,
                "In Python, by `{LOADER}` alone (it needs PyTorch, NumPy and safetensors); a seed gives the picture that the program gives:\n\n\
                 ```python\nfrom {} import MeanFlow\n\nmodel = MeanFlow.from_pretrained(\".\")\n\
                 samples = model.sample(model.noise([0, 1, 2, 3]){labels})\n```\n\n",
                LOADER.trim_end_matches(".py"),
            );
        }
        let labels = self
            .labels()
            .map_or_else(|| "None".to_owned(), |labels| format!("Some(&{labels:?})"));
        let _ = write!(
            text,
            "In Rust, by the crate `meanflow-torch`:\n\n\
             ```rust\nuse meanflow_torch::sampler::{{Request, sample, uniform_grid}};\nuse meanflow_torch::{{Device, Model}};\n\n\
             let (model, _) = Model::load(\"model.safetensors\".as_ref(), Device::Cpu)?;\n\
             let request = Request {{ seeds: &[0, 1, 2, 3], labels: {labels}, grid: &uniform_grid(1), batch_size: 4 }};\n\
             let samples = sample(&model, &request)?;\n```\n\n"
        );
        text
    }

    /// Classes of four samples, of a model with classes.
    fn labels(&self) -> Option<[i64; 4]> {
        let classes = self.model.classes;
        (classes > 0).then(|| [0, 1, 2, 3].map(|label| label % classes))
    }

    fn measured(&self) -> String {
        if self.metrics.is_empty() {
            return String::new();
        }
        let mut text = "## Evaluation\n\n| metric | sampler | value | samples | compared with |\n|---|---|---|---|---|\n".to_owned();
        for metric in &self.metrics {
            let half = metric
                .half_width
                .map_or_else(String::new, |half| format!(" ± {}", short(half)));
            let samples = metric
                .samples
                .map_or_else(String::new, |samples| samples.to_string());
            let Metric {
                name,
                value,
                sampler,
                reference,
                ..
            } = metric;
            text += &format!(
                "| {name} | {sampler} | {}{half} | {samples} | {reference} |\n",
                short(*value)
            );
        }
        text + "\n± is half of the 95 % interval over repetitions with other seeds. Values over other features, references or numbers of samples are not comparable.\n\n"
    }

    fn trained(&self) -> String {
        let Some(training) = &self.training else {
            return String::new();
        };
        let Training {
            recipe,
            steps,
            batch_size,
            guidance,
            ema,
        } = training;
        let guidance = guidance.as_deref().unwrap_or("none");
        format!(
            "## Training\n\n{steps} steps of {batch_size} samples. Guidance: {guidance}. Weights: {ema}.\n\nThe recipe:\n\n```toml\n{}\n```\n",
            recipe.trim_end()
        )
    }
}

/// The name of the kind of network, as recipes have it.
fn network_name(network: &NetworkConfig) -> &'static str {
    match network {
        NetworkConfig::Mlp(_) => "mlp",
        NetworkConfig::Dit(_) => "dit",
        NetworkConfig::Unet(_) => "unet",
        NetworkConfig::Custom(_) => "custom",
    }
}

/// The same in prose.
fn network_title(network: &NetworkConfig) -> &'static str {
    match network {
        NetworkConfig::Mlp(_) => "residual perceptron",
        NetworkConfig::Dit(_) => "diffusion transformer (DiT)",
        NetworkConfig::Unet(_) => "U-Net",
        NetworkConfig::Custom(_) => "network of its own kind",
    }
}

/// The first names, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = names
        .iter()
        .take(SHOWN)
        .map(|name| one_line(name))
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A text without line breaks and control characters, which would end what it stands in.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A text in YAML: plain where that is safe, otherwise in double quotes, which JSON's strings are.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_word = !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&text.to_lowercase().as_str());
    if starts && is_word && text.chars().all(is_plain) {
        return text.to_owned();
    }
    serde_json::Value::from(one_line(text)).to_string()
}

/// A number with its digits in groups of three.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Four significant digits.
fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 12);
    format!("{value:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_yaml() {
        for (text, expected) in [
            ("mit", "mit"),
            ("cc-by-4.0", "cc-by-4.0"),
            ("owner/name", "owner/name"),
            ("no", "\"no\""),
            ("8x8", "\"8x8\""),
            ("a: b", "\"a: b\""),
            ("# no comment", "\"# no comment\""),
            ("two\nlines \"quoted\"", "\"two lines \\\"quoted\\\"\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn numbers_are_legible() {
        assert_eq!(
            [7, 1234, 100_000, 12_345_678].map(grouped),
            ["7", "1,234", "100,000", "12,345,678"]
        );
        assert_eq!(
            [19.247, 0.001_234_4, 12_345.6, 0.0].map(short),
            ["19.25", "0.001234", "12346", "0"]
        );
    }
}

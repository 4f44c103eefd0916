//! `report.html`: the report for people, in one file that needs no network.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meanflow_data::grid::{self, GridStyle};
use meanflow_data::{Picture, Pictures};
use meanflow_eval::{Memorisation, MetricId, pictures};
use meanflow_figures::{Mark, heat_map, interval_chart};
use meanflow_torch::{Kind, Tensor};

use super::reference::Measured;
use super::report::Report;
use super::samplers::SamplerReport;
use super::table::{nfe, shown};
use crate::commands::picture_data::PictureData;

/// Classes whose pictures are shown.
const CLASSES: usize = 20;
/// Pictures of a class in each column.
const OF_CLASS: usize = 6;

const STYLE: &str = "\
:root{color-scheme:light dark}*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}\
h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.2rem;margin-top:2.5rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}\
th,td{padding:.25rem .7rem;border-bottom:1px solid #8884;text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}\
th small{font-weight:400;opacity:.75;display:block;white-space:normal;max-width:11em;margin-left:auto}th{vertical-align:bottom}th,td{overflow-wrap:normal}.wide{overflow-x:auto}.strips th,.strips td{text-align:left;padding:.2rem .5rem .2rem 0}\
img{image-rendering:pixelated;max-width:100%;display:block}.strips img{max-width:none}figure{margin:1rem 0;max-width:100%}figcaption{font-size:.9rem;opacity:.8}\
svg{max-width:100%;height:auto}pre{overflow-x:auto;white-space:pre-wrap;font-size:.85rem}.row{display:flex;flex-wrap:wrap;gap:1.5rem}\
.note{border-left:4px solid #c80;padding:.2rem .8rem;margin:.6rem 0}";

/// The page of a report.
pub(super) fn html(report: &Report, reference: &Measured) -> anyhow::Result<String> {
    let name_of = |what: &str| escaped(report.protocol[what]["name"].as_str().unwrap_or_default());
    let name = name_of("model");
    // A run is called by its folder.
    let name = name.strip_suffix("/model.safetensors").unwrap_or(&name);
    let samples = report.protocol["samples"].as_u64().unwrap_or_default();
    let repeats = report.protocol["repeats"].as_u64().unwrap_or(1);
    let pictures = report.protocol["reference_pictures"].as_u64();
    let pictures = pictures.map_or(String::new(), |count| format!(" ({count} pictures)"));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Evaluation of {name}</title><style>{STYLE}</style></head><body>\n<h1>Evaluation of {name}</h1>\n\
         <p>Compared with {}{pictures}. {samples} samples of each sampler, {repeats} repetition{}.</p>\n",
        name_of("reference"),
        if repeats == 1 { "" } else { "s" },
    );
    page += &metrics(report);
    page += &charts(report);
    page += &classes(report);
    page += &samples_of(report, reference.data.as_ref())?;
    if let (Some(memorisation), Some(data), Some(sampler)) = (
        &report.memorisation,
        &reference.data,
        report.samplers.first(),
    ) {
        page += &neighbours(memorisation, data, sampler)?;
    }
    page += &residuals(report);
    let protocol = serde_json::to_string_pretty(&report.protocol)?;
    let _ = write!(
        page,
        "<h2>Protocol</h2>\n<p>All that the values depend on, as in <code>report.json</code>.</p>\n<pre>{}</pre>\n</body></html>\n",
        escaped(&protocol)
    );
    Ok(page)
}

/// The metrics that some sampler has, in order.
fn measured(report: &Report) -> Vec<MetricId> {
    let is_measured = |id: &MetricId| {
        let mut samplers = report.samplers.iter();
        samplers.any(|sampler| sampler.metrics.values.contains_key(id))
    };
    MetricId::ALL.into_iter().filter(is_measured).collect()
}

fn key(report: &Report, id: MetricId) -> String {
    let sampler = report.samplers.first();
    sampler.map_or_else(String::new, |sampler| id.key(&sampler.metrics.features))
}

/// The table of all metrics, what could not be computed, and what a reader has to know.
fn metrics(report: &Report) -> String {
    let ids = measured(report);
    let features = &report.protocol["features"];
    let (name, dims) = (
        features["name"].as_str().unwrap_or_default(),
        &features["dims"],
    );
    let mut html = format!(
        "<h2>Metrics</h2>\n<p>Over {dims} features a picture: {}.</p>\n\
         <div class=\"wide\"><table><thead><tr><th>sampler</th><th>NFE<br><small>network evaluations a sample</small></th>",
        escaped(name)
    );
    for &id in &ids {
        let (key, title, meaning) = (escaped(&key(report, id)), id.title(), id.meaning());
        let _ = write!(
            html,
            "<th>{key}<br><small>{title}<br>{meaning}</small></th>"
        );
    }
    html += "</tr></thead><tbody>\n";
    for sampler in &report.samplers {
        let (name, nfe) = (escaped(&sampler.name), nfe(sampler));
        let _ = write!(html, "<tr><td>{name}</td><td>{nfe}</td>");
        for id in &ids {
            let estimate = sampler.metrics.values.get(id);
            let shown = estimate.map_or("–".to_owned(), shown);
            let _ = write!(html, "<td>{}</td>", shown.replace('±', " ± "));
        }
        html += "</tr>\n";
    }
    html += "</tbody></table></div>\n";
    if report.protocol["repeats"]
        .as_u64()
        .is_some_and(|repeats| repeats > 1)
    {
        html += "<p>± is half of a 95 % interval of the mean over repetitions with other seeds (Student's distribution).</p>\n";
    }
    for note in &report.notes {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escaped(note));
    }
    for omitted in &report.omitted {
        let (metric, reason) = (escaped(&omitted.metric), escaped(&omitted.reason));
        let _ = writeln!(
            html,
            "<p class=\"note\">{metric} was not computed: {reason}.</p>"
        );
    }
    html
}

/// Each metric of every sampler, where there are several.
fn charts(report: &Report) -> String {
    if report.samplers.len() < 2 {
        return String::new();
    }
    let mut html = "<h2>Samplers compared</h2>\n<p>Bars are the 95 % intervals of the table.</p>\n<div class=\"row\">\n".to_owned();
    for id in measured(report) {
        let mark = |sampler: &SamplerReport| {
            let estimate = sampler.metrics.values.get(&id)?;
            Some(Mark {
                label: sampler.name.clone(),
                note: format!("{} NFE", nfe(sampler)),
                mean: estimate.mean,
                interval: estimate.interval,
            })
        };
        let marks: Vec<Mark> = report.samplers.iter().filter_map(mark).collect();
        let (title, meaning) = (key(report, id), id.meaning());
        let _ = writeln!(
            html,
            "<figure>{}<figcaption>{meaning}</figcaption></figure>",
            interval_chart(&title, &marks)
        );
    }
    html + "</div>\n"
}

/// How often each class is found that was asked for.
fn classes(report: &Report) -> String {
    let counted: Vec<_> = report
        .samplers
        .iter()
        .filter_map(|sampler| Some((sampler, sampler.classes.as_ref()?)))
        .collect();
    let Some((_, first)) = counted.first() else {
        return String::new();
    };
    let mut html = "<h2>Classes</h2>\n<p>Of the samples asked to have a class, the share in which the classifier finds it (first repetition).</p>\n\
                    <div class=\"wide\"><table><thead><tr><th>class</th><th>asked</th>".to_owned();
    for (sampler, _) in &counted {
        let _ = write!(html, "<th>{}</th>", escaped(&sampler.name));
    }
    html += "</tr></thead><tbody>\n";
    for (class, count) in first.iter().enumerate() {
        let (name, asked) = (escaped(&report.class_name(class)), count.asked);
        let _ = write!(html, "<tr><td>{name}</td><td>{asked}</td>");
        for (_, counts) in &counted {
            let count = counts[class];
            let shown = match count.asked {
                0 => "–".to_owned(),
                asked => format!("{:.1} %", 100.0 * count.found as f64 / asked as f64),
            };
            let _ = write!(html, "<td>{shown}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

/// Samples beside pictures of the data: class by class where there are classes.
fn samples_of(report: &Report, data: Option<&PictureData>) -> anyhow::Result<String> {
    let classes = shown_classes(report);
    let data = data.filter(|data| classes.is_empty() || !data.source.labels().is_empty());
    if !classes.is_empty() {
        return by_class(report, data, &classes);
    }
    let mut html = "<h2>Samples</h2>\n<div class=\"row\">\n".to_owned();
    if let Some(data) = data {
        let count = data.source.len().min(50);
        let sheet = sheet(&pictures::bytes_of(&*data.source, 0, count)?, 10)?;
        html += &figure(&sheet, &format!("The first {count} pictures of the data"))?;
    }
    for sampler in &report.samplers {
        let first = &sampler.first.0;
        let count = first.size()[0].min(50);
        let sheet = sheet(&first.narrow(0, 0, count), 10)?;
        html += &figure(
            &sheet,
            &format!("The first {count} samples, {}", sampler.name),
        )?;
    }
    Ok(html + "</div>\n")
}

/// The first classes that the first samples have.
fn shown_classes(report: &Report) -> Vec<i64> {
    let labels = report
        .samplers
        .first()
        .map(|sampler| sampler.first.1.clone());
    let mut classes = labels.unwrap_or_default();
    classes.sort_unstable();
    classes.dedup();
    classes.truncate(CLASSES);
    classes
}

/// A row for each class: its pictures in the data, and in the samples of every sampler.
fn by_class(
    report: &Report,
    data: Option<&PictureData>,
    classes: &[i64],
) -> anyhow::Result<String> {
    let mut html = "<h2>Samples by class</h2>\n<div class=\"wide\"><table class=\"strips\"><thead><tr><th>class</th>".to_owned();
    if data.is_some() {
        html += "<th>data</th>";
    }
    for sampler in &report.samplers {
        let _ = write!(html, "<th>{}</th>", escaped(&sampler.name));
    }
    html += "</tr></thead><tbody>\n";
    for &class in classes {
        let name = report.class_name(class as usize);
        let _ = write!(html, "<tr><td>{}</td>", escaped(&name));
        if let Some(data) = data {
            let rows = of_class(data.source.labels(), class);
            let cell = match rows.is_empty() {
                true => String::new(),
                false => {
                    let values = data.source.batch(&rows, 0, 0)?.values;
                    let bytes = pictures::to_bytes(&values, data.source.shape());
                    image(&sheet(&bytes, OF_CLASS)?, &format!("data, class {name}"))?
                }
            };
            let _ = write!(html, "<td>{cell}</td>");
        }
        for sampler in &report.samplers {
            let (first, labels) = &sampler.first;
            let rows: Vec<i64> = of_class(labels, class)
                .iter()
                .map(|&row| row as i64)
                .collect();
            let cell = match rows.is_empty() {
                true => String::new(),
                false => {
                    let bytes = first.index_select(0, &Tensor::from_slice(&rows));
                    let alt = format!("{}, class {name}", sampler.name);
                    image(&sheet(&bytes, OF_CLASS)?, &alt)?
                }
            };
            let _ = write!(html, "<td>{cell}</td>");
        }
        html += "</tr>\n";
    }
    Ok(html + "</tbody></table></div>\n")
}

/// The first rows with this label.
fn of_class(labels: &[i64], class: i64) -> Vec<usize> {
    let rows = labels.iter().enumerate();
    let rows = rows.filter(|&(_, &label)| label == class);
    rows.map(|(row, _)| row).take(OF_CLASS).collect()
}

/// Samples above the pictures of the data that are nearest to them.
fn neighbours(
    found: &Memorisation,
    data: &PictureData,
    sampler: &SamplerReport,
) -> anyhow::Result<String> {
    let count = found.nearest.len().min(20);
    let nearest = found.nearest[..count].iter();
    let indices: Vec<usize> = nearest.map(|&index| index as usize).collect();
    let values = data.source.batch(&indices, 0, 0)?.values;
    let near = pictures::to_bytes(&values, data.source.shape());
    let both = Tensor::cat(&[sampler.first.0.narrow(0, 0, count as i64), near], 0);
    let ratio = found.sample_to_data / found.data_to_data;
    let caption = format!(
        "Above, samples ({}); below each, the picture of the data nearest to it in features",
        sampler.name
    );
    Ok(format!(
        "<h2>Nearest neighbours in the data</h2>\n<p>A sample is {:.3} from its nearest picture of the data, a picture of the data {:.3} from its nearest other one \
         (medians of distances between features): {ratio:.2} times as far. Much less than 1 would mean copies.</p>\n<div class=\"wide\">{}</div>",
        found.sample_to_data,
        found.data_to_data,
        figure(&sheet(&both, count)?, &caption)?
    ))
}

fn residuals(report: &Report) -> String {
    let Some(residuals) = &report.residuals else {
        return String::new();
    };
    let map = |title, values| heat_map(title, &residuals.times, values);
    format!(
        "<h2>Residuals of the model's identities</h2>\n<p>How far the network is from being the average velocity of any flow, with no data to compare with: residuals on 200 \
         states between data and noise, relative to the displacement of the step and to the velocity. Where they are large, (r, t) was trained too little, or the path is hard there.</p>\n<div class=\"row\">\n\
         <figure>{}<figcaption>One step from t to r against two over the middle (M10).</figcaption></figure>\n\
         <figure>{}<figcaption>The MeanFlow identity along the network's own velocity (M11).</figcaption></figure>\n</div>\n",
        map("Consistency residual", &residuals.consistency_residual),
        map("Identity residual", &residuals.identity_residual)
    )
}

/// A grid of pictures given as bytes `[B, C, H, W]`.
fn sheet(pictures: &Tensor, columns: usize) -> anyhow::Result<Picture> {
    let size = pictures.size();
    let shape = [size[1], size[2], size[3]].map(|side| side as usize);
    let values: Vec<f32> = (pictures.to_kind(Kind::Float) / 127.5 - 1.0)
        .flatten(0, -1)
        .try_into()?;
    let pictures = Pictures::from_model(&values, shape)?;
    Ok(grid::sheet(
        &pictures,
        &GridStyle::legible(columns, shape[1]),
    )?)
}

fn figure(picture: &Picture, caption: &str) -> anyhow::Result<String> {
    let image = image(picture, caption)?;
    let caption = escaped(caption);
    Ok(format!(
        "<figure>{image}<figcaption>{caption}.</figcaption></figure>\n"
    ))
}

fn image(picture: &Picture, alt: &str) -> anyhow::Result<String> {
    let data = STANDARD.encode(picture.to_png()?);
    let alt = escaped(alt);
    Ok(format!(
        "<img alt=\"{alt}\" src=\"data:image/png;base64,{data}\">"
    ))
}

/// Text for a place between tags or in an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

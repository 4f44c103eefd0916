//! `report.html`: the report for people, in one file that needs no network.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meanflow_data::grid::{self, GridStyle};
use meanflow_data::plot::{LineChart, Scale, Series};
use meanflow_data::{Picture, Pictures};
use meanflow_torch::{Kind, Tensor};

use super::heat_map;
use super::memorisation::Memorisation;
use super::pictures;
use super::reference::{Data, Measured};
use super::report::Report;
use super::way::{Figure, Way};

/// What a figure is called, and which way is better.
const FIGURES: [(&str, &str, &str); 7] = [
    ("frechet", "Fréchet distance", "lower is better"),
    (
        "spatial_frechet",
        "Fréchet distance of spatial features",
        "lower is better",
    ),
    ("kernel", "Kernel distance", "lower is better"),
    ("precision", "Precision", "share of samples among the data"),
    ("recall", "Recall", "share of the data among samples"),
    ("inception_score", "Inception Score", "higher is better"),
    (
        "class_accuracy",
        "Class accuracy",
        "share of asked classes that is found",
    ),
];

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}\
th,td{padding:.25rem .7rem;border-bottom:1px solid #8884;text-align:right}th:first-child,td:first-child{text-align:left}\
.wide{overflow-x:auto}img{image-rendering:pixelated;max-width:100%}figure{margin:1rem 0}figcaption{font-size:.9rem;opacity:.8}\
svg{max-width:100%;height:auto}pre{overflow-x:auto;font-size:.85rem}.row{display:flex;flex-wrap:wrap;gap:1.5rem}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:1rem}td{white-space:nowrap}";

/// The page of a report.
pub(super) fn html(report: &Report, reference: &Measured) -> anyhow::Result<String> {
    let name_of = |what: &str| escaped(report.protocol[what]["name"].as_str().unwrap_or_default());
    let name = name_of("subject");
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Evaluation of {name}</title><style>{STYLE}</style></head><body>\n<h1>Evaluation of {name}</h1>\n\
         <p>Compared with {}.</p>\n",
        name_of("reference")
    );
    page += &figures(report);
    page += &charts(report);
    page += &classes(report);
    page += &samples(report)?;
    if let (Some(memorisation), Some(data), Some(way)) =
        (&report.memorisation, &reference.data, report.ways.first())
    {
        page += &neighbours(memorisation, data, way)?;
    }
    page += &laws(report);
    let protocol = serde_json::to_string_pretty(&report.protocol)?;
    let _ = write!(
        page,
        "<h2>Protocol</h2>\n<p>All that the figures depend on, as in <code>report.json</code>.</p>\n<pre>{}</pre>\n</body></html>\n",
        escaped(&protocol)
    );
    Ok(page)
}

/// The table of all figures; only those that were measured.
fn figures(report: &Report) -> String {
    let known = measured(report);
    let mut html = "<h2>Figures</h2>\n<div class=\"wide\"><table><thead><tr><th>samples</th><th>evaluations</th>".to_owned();
    for (_, title, note) in &known {
        let _ = write!(html, "<th>{title}<br><small>{note}</small></th>");
    }
    html += "</tr></thead><tbody>\n";
    for way in &report.ways {
        let evaluations = way
            .evaluations
            .map_or("–".to_owned(), |mean| format!("{mean:.0}"));
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{evaluations}</td>",
            escaped(&way.name)
        );
        for (name, ..) in &known {
            let shown = way.figures.get(name).map_or("–".to_owned(), Figure::shown);
            let _ = write!(html, "<td>{shown}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n<p>± is half of a 95 % interval over repetitions with other seeds (Student's distribution).</p>\n"
}

fn measured(report: &Report) -> Vec<(&'static str, &'static str, &'static str)> {
    let is_measured = |name: &str| report.ways.iter().any(|way| way.figures.contains_key(name));
    FIGURES
        .into_iter()
        .filter(|(name, ..)| is_measured(name))
        .collect()
}

/// Each figure against the number of evaluations, where there are several.
fn charts(report: &Report) -> String {
    let evaluated: Vec<&Way> = report
        .ways
        .iter()
        .filter(|way| way.evaluations.is_some())
        .collect();
    if evaluated.len() < 2 {
        return String::new();
    }
    let mut html =
        "<h2>Figures against network evaluations</h2>\n<div class=\"charts\">\n".to_owned();
    for (name, title, note) in measured(report) {
        let series = |label: &str, is_ode: bool| Series {
            name: label.to_owned(),
            points: evaluated
                .iter()
                .filter(|way| way.name.contains("ODE") == is_ode)
                .filter_map(|way| Some((way.evaluations?, way.figures.get(name)?.mean)))
                .collect(),
            smooth_over: 0,
        };
        let both = [series("jumps", false), series("flow-matching ODE", true)];
        let chart = LineChart {
            title: format!("{title} ({note})"),
            x_label: "network evaluations a sample".to_owned(),
            y_label: title.to_owned(),
            y_scale: Scale::Linear,
            series: both
                .into_iter()
                .filter(|series| !series.points.is_empty())
                .collect(),
        };
        let _ = writeln!(html, "<figure>{}</figure>", chart.to_svg());
    }
    html + "</div>\n"
}

/// How often each class is found that was asked for.
fn classes(report: &Report) -> String {
    let counted: Vec<_> = report
        .ways
        .iter()
        .filter_map(|way| Some((way, way.classes.as_ref()?)))
        .collect();
    let Some((_, first)) = counted.first() else {
        return String::new();
    };
    let mut html = "<h2>Classes</h2>\n<p>Of the samples asked to have a class, the share in which the classifier finds it (first repetition).</p>\n\
                    <div class=\"wide\"><table><thead><tr><th>class</th><th>asked</th>".to_owned();
    for (way, _) in &counted {
        let _ = write!(html, "<th>{}</th>", escaped(&way.name));
    }
    html += "</tr></thead><tbody>\n";
    for (class, [_, asked]) in first.iter().enumerate() {
        let _ = write!(html, "<tr><td>{class}</td><td>{asked}</td>");
        for (_, counts) in &counted {
            let [found, asked] = counts[class];
            let shown = if asked == 0 {
                "–".to_owned()
            } else {
                format!("{:.1} %", 100.0 * found as f64 / asked as f64)
            };
            let _ = write!(html, "<td>{shown}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

fn samples(report: &Report) -> anyhow::Result<String> {
    let mut html = "<h2>Samples</h2>\n<div class=\"row\">\n".to_owned();
    for way in &report.ways {
        let count = way.first.size()[0];
        let sheet = sheet(&way.first, 10)?;
        html += &figure(&sheet, &format!("The first {count} samples, {}", way.name))?;
    }
    Ok(html + "</div>\n")
}

/// Samples above the pictures of the data that are nearest to them.
fn neighbours(found: &Memorisation, data: &Data, way: &Way) -> anyhow::Result<String> {
    let count = found.nearest.len().min(20);
    let indices: Vec<usize> = found.nearest[..count]
        .iter()
        .map(|&index| index as usize)
        .collect();
    let values = data.source.draw(&indices, 0, 0)?.values;
    let near = pictures::bytes(&values, data.source.shape());
    let both = Tensor::cat(&[way.first.narrow(0, 0, count as i64), near], 0);
    let ratio = found.sample_to_data / found.data_to_data;
    let caption = format!(
        "Above, samples ({}); below each, the picture of the data nearest to it in features",
        way.name
    );
    Ok(format!(
        "<h2>Nearest neighbours in the data</h2>\n<p>A sample is {:.3} from its nearest picture of the data, a picture of the data {:.3} from its nearest other one \
         (medians of distances between features): {ratio:.2} times as far. Much less than 1 would mean copies.</p>\n{}",
        found.sample_to_data,
        found.data_to_data,
        figure(&sheet(&both, count)?, &caption)?
    ))
}

fn laws(report: &Report) -> String {
    let Some(laws) = &report.laws else {
        return String::new();
    };
    let map = |title, values| heat_map::svg(title, &laws.times, values);
    format!(
        "<h2>The model's own laws</h2>\n<p>How far the network is from being the average velocity of any flow, with no data to compare with: residuals on 200 \
         states between data and noise, relative to the way of the jump and to the velocity. Where they are large, (r, t) was trained too little, or the path is hard there.</p>\n<div class=\"row\">\n\
         <figure>{}<figcaption>One jump from t to r against two over the middle (M10).</figcaption></figure>\n\
         <figure>{}<figcaption>The MeanFlow identity along the network's own velocity (M11).</figcaption></figure>\n</div>\n",
        map("Consistency residual", &laws.consistency),
        map("Identity residual", &laws.identity)
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
    let data = STANDARD.encode(picture.to_png()?);
    let caption = escaped(caption);
    Ok(format!(
        "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{data}\"><figcaption>{caption}.</figcaption></figure>\n"
    ))
}

/// Text for a place between tags or in an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

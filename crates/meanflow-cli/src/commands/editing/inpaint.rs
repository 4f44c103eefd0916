//! `meanflow inpaint`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use meanflow_data::ImageArchive;
use meanflow_data::decode::Channels;
use meanflow_torch::Tensor;
use meanflow_torch::sampler::{Inpainting, inpaint, uniform_grid};
use meanflow_train::Samples;

use super::results::Plan;
use super::source::{ModelAndPictures, Opened};
use crate::commands::destination::Output;
use crate::options::Class;
use crate::route::Grid;
use crate::seeds::Seeds;
use crate::usage::{Damaged, Usage};

/// Draw a part of pictures anew: what the mask leaves stays as it is, to the bit.
///
/// Jump by jump the part is drawn, the known pixels are put in, and noise of the next time is added. A completion depends on its picture, mask,
/// seed, class, the times, and the weights alone.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "meanflow inpaint MODEL PICTURES --mask MASK.png --seeds SEEDS --out PATH",
    after_help = "Examples:\n  meanflow inpaint runs/digits digits --indices 0-7 --box 0,4,8,4 \\\n    --seeds 0-7 --out completed.png\n  \
meanflow inpaint runs/faces face.png --mask mask.png --seeds 0-15 --out faces/"
)]
#[command(group(clap::ArgGroup::new("part").required(true).args(["mask", "boxes"])))]
pub(crate) struct Inpaint {
    #[command(flatten)]
    source: ModelAndPictures,
    /// A picture of the model's size: what is white is drawn, what is black is kept
    #[arg(long, value_name = "MASK.png")]
    mask: Option<PathBuf>,
    /// What is drawn: column and row of the upper left pixel, width and height; may be given several times
    #[arg(long = "box", value_name = "X,Y,W,H")]
    boxes: Vec<Area>,
    /// Seeds and ranges of seeds, both ends included, such as 0-63,100: a completion each of every picture
    #[arg(long)]
    seeds: Seeds,
    /// data (that of the picture), none, `balanced`, or classes by name or number, as for `meanflow sample` [default: data, where pictures have classes]
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    /// Jumps over equal intervals, with noise between them: as many network evaluations
    #[arg(long, value_name = "N", default_value = "8", conflicts_with = "grid")]
    steps: NonZeroUsize,
    /// Jumps from other times: from 1 to 0 such as 1,0.6,0.2,0, or cosine:N for N, closest at both ends
    #[arg(long, value_name = "TIMES")]
    grid: Option<Grid>,
    /// A picture (.png) with every given picture and what is known of it before its completions, an archive with arr_0 and arr_1 (.npz), or a folder; - for a picture on standard output
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Write into a folder that is not empty
    #[arg(long)]
    force: bool,
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Area {
    /// Column and row of the upper left pixel.
    corner: [i64; 2],
    /// Width and height.
    size: [i64; 2],
}

impl FromStr for Area {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<i64>> = text
            .split(',')
            .map(|part| part.trim().parse().ok())
            .collect();
        match numbers.as_deref() {
            Some(&[x, y, width, height]) if x >= 0 && y >= 0 && width > 0 && height > 0 => {
                Ok(Self {
                    corner: [x, y],
                    size: [width, height],
                })
            }
            _ => Err("expected column, row, width and height such as 0,4,8,4".to_owned()),
        }
    }
}

pub(crate) fn run(args: &Inpaint) -> anyhow::Result<u8> {
    let output = Output::of(&args.out)?;
    output.check(&args.out, args.force)?;
    let opened = args.source.open()?;
    let mask = mask(args, &opened)?;
    let plan = Plan::new(&opened, &args.seeds.0, args.class.as_ref())?;
    let grid = match &args.grid {
        Some(Grid(times)) => times.clone(),
        None => uniform_grid(args.steps.get()),
    };
    let batch_size = Samples::rows_an_evaluation(&opened.model);
    let (samples, effort) = plan.draw(&opened, "completions", |block| {
        let request = Inpainting {
            seeds: &block.seeds,
            labels: block.labels,
            grid: &grid,
            batch_size,
        };
        inpaint(&opened.model, &block.x, &mask, &request)
    })?;
    // What is to be drawn is shown grey.
    let known = opened.x.masked_fill(&mask, 0.0);
    plan.write(&opened, &samples, (output, &args.out), &[&known])?;
    effort.report(&args.out, &samples.shape);
    Ok(0)
}

/// What is drawn, true in `[1, height, width]`.
fn mask(args: &Inpaint, opened: &Opened) -> anyhow::Result<Tensor> {
    let [_, height, width] = opened.model.config().shape[..] else {
        let shape = &opened.model.config().shape;
        return Err(Usage(format!(
            "expected a model of pictures, got one of samples {shape:?}"
        ))
        .into());
    };
    match &args.mask {
        Some(path) => of_picture(path, [height, width]),
        None => of_areas(&args.boxes, [height, width]),
    }
}

fn of_picture(path: &Path, [height, width]: [i64; 2]) -> anyhow::Result<Tensor> {
    let shown = path.display();
    let picture = ImageArchive::open(path).and_then(|pictures| pictures.decode(0, Channels::Grey));
    let picture = picture.with_context(|| format!("--mask {shown}"))?;
    let [got_height, got_width, _] = picture.shape();
    if [got_height as i64, got_width as i64] != [height, width] {
        let text = format!(
            "--mask {shown}: expected {width}×{height} pixels as the model's pictures have, got {got_width}×{got_height} (width × height)"
        );
        return Err(Damaged(text).into());
    }
    let is_white: Vec<bool> = picture.pixels().iter().map(|&pixel| pixel >= 128).collect();
    if !is_white.contains(&true) {
        let text = format!("--mask {shown}: expected white where pixels are drawn, got none");
        return Err(Damaged(text).into());
    }
    Ok(Tensor::from_slice(&is_white).reshape([1, height, width]))
}

fn of_areas(areas: &[Area], [height, width]: [i64; 2]) -> anyhow::Result<Tensor> {
    let mut is_drawn = vec![false; (height * width) as usize];
    for &Area {
        corner: [x, y],
        size: [w, h],
    } in areas
    {
        let fits = |start: i64, length: i64, most| {
            start.checked_add(length).is_some_and(|end| end <= most)
        };
        if !fits(x, w, width) || !fits(y, h, height) {
            let text = format!(
                "--box {x},{y},{w},{h}: expected a part of the model's pictures, {width}×{height} (width × height)"
            );
            return Err(Usage(text).into());
        }
        for row in y..y + h {
            let start = (row * width + x) as usize;
            is_drawn[start..start + w as usize].fill(true);
        }
    }
    Ok(Tensor::from_slice(&is_drawn).reshape([1, height, width]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_read() {
        let expected = Area {
            corner: [0, 4],
            size: [8, 4],
        };
        assert_eq!("0, 4,8,4".parse(), Ok(expected));
        for text in [
            "",
            "1,2,3",
            "1,2,3,4,5",
            "-1,0,2,2",
            "0,0,0,4",
            "0,0,4,0",
            "a,0,1,1",
        ] {
            assert!(text.parse::<Area>().is_err(), "{text}");
        }
    }

    #[test]
    fn areas_are_drawn_row_by_row() {
        let area = |text: &str| text.parse::<Area>().unwrap();
        let mask = of_areas(&[area("1,0,2,1"), area("0,1,1,1")], [2, 3]).unwrap();
        let expected = Tensor::from_slice(&[false, true, true, true, false, false]);
        assert_eq!(mask, expected.reshape([1, 2, 3]));
        for outside in ["2,0,2,1", "0,1,1,2", "0,0,9223372036854775807,1"] {
            assert!(of_areas(&[area(outside)], [2, 3]).is_err(), "{outside}");
        }
    }
}

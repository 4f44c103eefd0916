//! Pictures as rows of patches, and where a patch stands.

use crate::Dual;

/// How a picture `[C, H, W]` falls into square patches.
#[derive(Clone, Copy, Debug)]
pub struct PatchGrid {
    /// Channels of the picture.
    pub channels: i64,
    /// Patches in a column.
    pub rows: i64,
    /// Patches in a row.
    pub columns: i64,
    /// Side of a patch in pixels.
    pub patch: i64,
}

impl PatchGrid {
    /// Tokens a picture: patches, row by row.
    pub fn tokens(&self) -> i64 {
        self.rows * self.columns
    }

    /// Numbers a patch.
    pub fn patch_size(&self) -> i64 {
        self.channels * self.patch * self.patch
    }

    /// `[B, C, H, W]` to `[B, tokens, C·p·p]`, channel slowest: the order of a convolution's weight.
    pub fn patchify(&self, pictures: &Dual) -> Dual {
        let Self {
            channels,
            rows,
            columns,
            patch,
        } = *self;
        pictures.map_linear(|x| {
            x.reshape([-1, channels, rows, patch, columns, patch])
                .permute([0, 2, 4, 1, 3, 5])
                .reshape([-1, rows * columns, channels * patch * patch])
        })
    }

    /// `[B, tokens, p·p·C]`, channel fastest, to `[B, C, H, W]`.
    pub fn unpatchify(&self, tokens: &Dual) -> Dual {
        let Self {
            channels,
            rows,
            columns,
            patch,
        } = *self;
        tokens.map_linear(|x| {
            x.reshape([-1, rows, columns, patch, patch, channels])
                .permute([0, 5, 1, 3, 2, 4])
                .reshape([-1, channels, rows * patch, columns * patch])
        })
    }
}

/// Fixed positions `[rows · columns, width]`: the first half of the channels tells the column, the second the row, each
/// as `[sin, cos]` of the coordinate times `10000^(−k / (width / 4))`.
pub fn sincos_pos_embed(grid: &PatchGrid, width: i64) -> Vec<f64> {
    let quarter = width / 4;
    let frequencies: Vec<f64> = (0..quarter)
        .map(|k| 10_000_f64.powf(-(k as f64) / quarter as f64))
        .collect();
    let mut values = Vec::with_capacity((grid.tokens() * width) as usize);
    for row in 0..grid.rows {
        for column in 0..grid.columns {
            for coordinate in [column as f64, row as f64] {
                values.extend(frequencies.iter().map(|f| (coordinate * f).sin()));
                values.extend(frequencies.iter().map(|f| (coordinate * f).cos()));
            }
        }
    }
    values
}

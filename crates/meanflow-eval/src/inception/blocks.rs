//! The layers of Inception v3 as data, in the variant of 2015-12-05 that the Fréchet distance is published with.
//!
//! It differs from the later published network in three places: averages do not count the padding, the last block has a
//! maximum where the one before has an average, and there are 1008 classes.

/// A convolution without bias, then batch norm, then ReLU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) name: &'static str,
    pub(super) outputs: i64,
    pub(super) kernel: [i64; 2],
    pub(super) stride: i64,
    pub(super) padding: [i64; 2],
}

/// Pooling over windows of 3×3.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pool {
    /// At stride 1, averages over what lies inside the picture.
    Average,
    /// At stride 1.
    Max,
    /// At stride 2 without padding.
    Halve,
}

/// Pooling if any, layers one after another, and layers side by side whose outputs are concatenated.
#[derive(Debug)]
pub(super) struct Branch<L> {
    pub(super) pool: Option<Pool>,
    pub(super) chain: Vec<L>,
    pub(super) fork: Vec<L>,
}

/// Branches that see the same input and whose outputs are concatenated; the name is the prefix of their layers' names.
#[derive(Debug)]
pub(super) struct Block<L> {
    pub(super) name: &'static str,
    pub(super) branches: Vec<Branch<L>>,
}

/// The network up to the last pooling, from `[B, 3, 299, 299]` to `[B, 2048, 8, 8]`.
pub(super) fn network() -> Vec<Block<Layer>> {
    let stem = [
        valid("Conv2d_1a_3x3", 32, 3, 2),
        valid("Conv2d_2a_3x3", 32, 3, 1),
        same("Conv2d_2b_3x3", 64, [3, 3]),
    ];
    let neck = [
        valid("Conv2d_3b_1x1", 80, 1, 1),
        valid("Conv2d_4a_3x3", 192, 3, 1),
    ];
    let block = |name, branches| Block { name, branches };
    vec![
        block("", vec![chain(&stem)]),
        block("MaxPool_1", vec![pooled(Pool::Halve, &[])]),
        block("", vec![chain(&neck)]),
        block("MaxPool_2", vec![pooled(Pool::Halve, &[])]),
        block("Mixed_5b", block_a(32)),
        block("Mixed_5c", block_a(64)),
        block("Mixed_5d", block_a(64)),
        block("Mixed_6a", block_b()),
        block("Mixed_6b", block_c(128)),
        block("Mixed_6c", block_c(160)),
        block("Mixed_6d", block_c(160)),
        block("Mixed_6e", block_c(192)),
        block("Mixed_7a", block_d()),
        block("Mixed_7b", block_e(Pool::Average)),
        block("Mixed_7c", block_e(Pool::Max)),
    ]
}

/// 35×35.
fn block_a(outputs_of_pool: i64) -> Vec<Branch<Layer>> {
    vec![
        chain(&[same("branch1x1", 64, [1, 1])]),
        chain(&[
            same("branch5x5_1", 48, [1, 1]),
            same("branch5x5_2", 64, [5, 5]),
        ]),
        chain(&[
            same("branch3x3dbl_1", 64, [1, 1]),
            same("branch3x3dbl_2", 96, [3, 3]),
            same("branch3x3dbl_3", 96, [3, 3]),
        ]),
        pooled(
            Pool::Average,
            &[same("branch_pool", outputs_of_pool, [1, 1])],
        ),
    ]
}

/// From 35×35 to 17×17.
fn block_b() -> Vec<Branch<Layer>> {
    vec![
        chain(&[valid("branch3x3", 384, 3, 2)]),
        chain(&[
            same("branch3x3dbl_1", 64, [1, 1]),
            same("branch3x3dbl_2", 96, [3, 3]),
            valid("branch3x3dbl_3", 96, 3, 2),
        ]),
        pooled(Pool::Halve, &[]),
    ]
}

/// 17×17, with kernels of one row or one column.
fn block_c(inner: i64) -> Vec<Branch<Layer>> {
    vec![
        chain(&[same("branch1x1", 192, [1, 1])]),
        chain(&[
            same("branch7x7_1", inner, [1, 1]),
            same("branch7x7_2", inner, [1, 7]),
            same("branch7x7_3", 192, [7, 1]),
        ]),
        chain(&[
            same("branch7x7dbl_1", inner, [1, 1]),
            same("branch7x7dbl_2", inner, [7, 1]),
            same("branch7x7dbl_3", inner, [1, 7]),
            same("branch7x7dbl_4", inner, [7, 1]),
            same("branch7x7dbl_5", 192, [1, 7]),
        ]),
        pooled(Pool::Average, &[same("branch_pool", 192, [1, 1])]),
    ]
}

/// From 17×17 to 8×8.
fn block_d() -> Vec<Branch<Layer>> {
    vec![
        chain(&[
            same("branch3x3_1", 192, [1, 1]),
            valid("branch3x3_2", 320, 3, 2),
        ]),
        chain(&[
            same("branch7x7x3_1", 192, [1, 1]),
            same("branch7x7x3_2", 192, [1, 7]),
            same("branch7x7x3_3", 192, [7, 1]),
            valid("branch7x7x3_4", 192, 3, 2),
        ]),
        pooled(Pool::Halve, &[]),
    ]
}

/// 8×8, with forks.
fn block_e(pool: Pool) -> Vec<Branch<Layer>> {
    vec![
        chain(&[same("branch1x1", 320, [1, 1])]),
        Branch {
            pool: None,
            chain: vec![same("branch3x3_1", 384, [1, 1])],
            fork: vec![
                same("branch3x3_2a", 384, [1, 3]),
                same("branch3x3_2b", 384, [3, 1]),
            ],
        },
        Branch {
            pool: None,
            chain: vec![
                same("branch3x3dbl_1", 448, [1, 1]),
                same("branch3x3dbl_2", 384, [3, 3]),
            ],
            fork: vec![
                same("branch3x3dbl_3a", 384, [1, 3]),
                same("branch3x3dbl_3b", 384, [3, 1]),
            ],
        },
        pooled(pool, &[same("branch_pool", 192, [1, 1])]),
    ]
}

fn chain(layers: &[Layer]) -> Branch<Layer> {
    Branch {
        pool: None,
        chain: layers.to_vec(),
        fork: Vec::new(),
    }
}

fn pooled(pool: Pool, layers: &[Layer]) -> Branch<Layer> {
    Branch {
        pool: Some(pool),
        ..chain(layers)
    }
}

/// Keeps the size of the picture.
fn same(name: &'static str, outputs: i64, kernel: [i64; 2]) -> Layer {
    Layer {
        name,
        outputs,
        kernel,
        stride: 1,
        padding: kernel.map(|side| side / 2),
    }
}

/// Sees no padding.
fn valid(name: &'static str, outputs: i64, side: i64, stride: i64) -> Layer {
    Layer {
        name,
        outputs,
        kernel: [side, side],
        stride,
        padding: [0, 0],
    }
}

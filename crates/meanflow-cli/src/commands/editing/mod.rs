//! What a model does with given pictures: their noise, variations and completions of them, and how likely it finds them.

pub(crate) mod edit;
pub(crate) mod inpaint;
pub(crate) mod invert;
pub(crate) mod likelihood;
mod results;
mod source;

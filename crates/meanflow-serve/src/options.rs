//! How a server is started.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use meanflow_torch::Device;
use meanflow_torch::weights::Verify;

use crate::Limits;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// What every request of the API must carry as `Authorization: Bearer …`. An address that other machines can reach needs one.
    pub token: Option<String>,
    /// Where the models are.
    pub device: Device,
    /// Whether weights are compared with their hash.
    pub verify: Verify,
    /// The VAE that makes pictures of latents.
    pub vae: Option<PathBuf>,
    /// What is refused.
    pub limits: Limits,
}

/// The port that is listened on unless another one is asked for.
const PORT: u16 = 8080;

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            token: None,
            device: Device::Cpu,
            verify: Verify::Content,
            vae: None,
            limits: Limits::default(),
        }
    }
}

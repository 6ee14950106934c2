//! Where frames would be preprocessed and encoded, and what the GPU says of itself.
//!
//! Why it exists: a GPU that is not used, or runs at a low clock, is a slow decoder that looks like a working one.
//! What it must never do: change a setting of the device, or wait for a program of the system that hangs.

use super::{Line, runtime_lines};
use crate::config::{Config, Device};
use crate::decoder;
use crate::encode::Encoder;
use crate::model::Model;
use crate::preprocess::{Chosen, choose};

/// Opens the model where the configuration wants it, and says what came of it.
pub(super) fn lines(config: &Config, model: &Model) -> Vec<Line> {
    let (compute, parameters) = (&config.compute, &model.manifest.preprocess);
    let open =
        |chosen: &Chosen| Encoder::open_on(model, compute.onnxruntime.as_deref(), &decoder::place(compute, chosen));
    let chosen = match choose(compute.device, parameters) {
        Ok(chosen) => chosen,
        Err(error) => return vec![Line::fault("device", error.to_string(), "or set compute.device = \"auto\"")],
    };
    let opened = open(&chosen);
    match opened {
        Err(error) if error.is_of_a_device() && compute.device == Device::Auto => {
            let found = format!("CPU: {} cannot encode: {error}", name(&chosen));
            let mut lines = vec![Line::warning("device", found, "frames are preprocessed and encoded on the CPU")];
            lines.extend(runtime_lines(open(&Chosen::cpu("")).as_ref().map(Encoder::info)));
            lines
        }
        Err(error) if error.is_of_a_device() => vec![Line::fault("device", error.to_string(), "")],
        opened => {
            let mut lines = vec![Line::good("device", place(&chosen, compute.device))];
            if chosen.machine.is_some() {
                lines.extend(gpu_lines());
            }
            lines.extend(runtime_lines(opened.as_ref().map(Encoder::info)));
            lines
        }
    }
}

/// The device alone, where there is no model to open.
pub(super) fn without_model(device: Device) -> Line {
    Line::good("device", format!("`{device}`; resolved once a model is there"))
}

fn name(chosen: &Chosen) -> String {
    chosen.machine.as_ref().map_or_else(|| "CPU".to_owned(), |machine| machine.name().to_owned())
}

fn place(chosen: &Chosen, asked: Device) -> String {
    let why = if chosen.why.is_empty() { format!("as configured (`{asked}`)") } else { chosen.why.clone() };
    format!("{}: {why}", name(chosen))
}

#[cfg(not(feature = "cuda"))]
fn gpu_lines() -> Vec<Line> {
    Vec::new()
}

/// NVIDIA's libraries that this process has loaded, with the versions in the names of their files, from its `maps`
/// (proc(5)).
#[cfg(feature = "cuda")]
fn libraries(maps: &str) -> String {
    const NAMES: [&str; 7] =
        ["libcuda.so", "libcudart.so", "libcublas.so", "libcufft.so", "libcurand.so", "libnvrtc.so", "libcudnn.so"];
    let loaded: std::collections::BTreeSet<&str> =
        maps.lines().filter_map(|line| Some(&line[line.find('/')?..])).collect();
    let of_interest = |path: &&str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        NAMES.iter().any(|name| file.starts_with(name))
    };
    loaded.into_iter().filter(of_interest).collect::<Vec<_>>().join(", ")
}

/// Driver, libraries and clocks.
#[cfg(feature = "cuda")]
fn gpu_lines() -> Vec<Line> {
    let mut lines = Vec::new();
    if let Ok(version) = crate::cuda::versions() {
        let kernel = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
        let module = kernel.lines().next().map(|line| format!("; {}", line.trim())).unwrap_or_default();
        lines.push(Line::good("driver", format!("CUDA {}.{}{module}", version / 1000, version % 1000 / 10)));
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    lines.push(Line::good("GPU libraries", libraries(&maps)));
    // The driver's library for clocks belongs to nvidia-smi, which is installed with it.
    const QUERY: &str = "--query-gpu=index,name,clocks.sm,clocks.max.sm,power.draw,persistence_mode";
    let asked = std::process::Command::new("nvidia-smi").args([QUERY, "--format=csv,noheader"]).output();
    lines.push(match asked {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).trim().replace('\n', " | ");
            Line::good("clocks", format!("index, name, now, at most, power, persistence: {text}"))
        }
        _ => Line::warning(
            "clocks",
            "unknown: nvidia-smi does not answer",
            "an idle GPU is slow: see `compute.pulse_ms`",
        ),
    });
    lines
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    #[test]
    fn the_libraries_of_the_gpu_are_named_once_each_with_their_versions() {
        let maps = "7f00-7f01 r--p 00000000 fe:00 11  /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05\n\
                    7f01-7f02 r-xp 00001000 fe:00 11  /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05\n\
                    7f02-7f03 rw-p 00000000 00:00 0 \n\
                    7f03-7f04 r--p 00000000 fe:00 12  /rig with space/libcudnn.so.9.13.0\n\
                    7f04-7f05 r--p 00000000 fe:00 13  /usr/lib/libc.so.6\n";
        let expected = "/rig with space/libcudnn.so.9.13.0, /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05";
        assert_eq!(super::libraries(maps), expected);
    }
}

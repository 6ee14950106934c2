//! Poses of DeepFly3D (Günel et al. 2019): a pickle of one dictionary of arrays (`pose_result*.pkl`, `df3d_result*.pkl`).
//!
//! What it must never do: run a pickle (`pickle` reads it as data), or use an array other than the requested one.
//!
//! `points3d` [frames, 38, 3] is the pose unless the key `points` names another array of the dictionary (`points3d_wo_procrustes`;
//! `points2d` [cameras, frames, 38, 2]). Joints are named by DeepFly3D's own skeleton: ten limbs, of which 0 to 2 and 5 to 7 are legs
//! of five joints, 3 and 8 antennae, 4 and 9 three stripes of the abdomen: `limb0_body_coxa_x` is the first column. Coordinates of an
//! image are called `_0` and `_1`, in the order of the file. Missing points are NaN, and what was not triangulated is as
//! DeepFly3D left it. A pickle of one array, frames first, is read as well.

use std::path::Path;

use ndarray::Array2;

use super::pickle::{self, Array, Pickle};
use crate::dataset::error::DatasetError;
use crate::dataset::table::Table;

/// Joints of DeepFly3D's skeleton.
const JOINTS: usize = 38;
/// Joints of a leg, from the body outwards.
const LEG: [&str; 5] = ["body_coxa", "coxa_femur", "femur_tibia", "tibia_tarsus", "tarsus_tip"];
/// The array that is read by default.
const USUAL: &str = "points3d";

/// Reads the pose. `points` names another array than `points3d`.
pub(crate) fn table(path: &Path, points: Option<&str>) -> Result<Table, DatasetError> {
    let failed = |cause: String| DatasetError::file(path, cause);
    let bytes = pickle::bytes_of(path)?;
    let pickle = Pickle::read(&bytes).map_err(failed)?;
    let name = points.unwrap_or(USUAL);
    let array = match (pickle.array(), points) {
        (Some(whole), None) => whole,
        (Some(_), Some(name)) => {
            return Err(failed(format!("is a pickle of one array: leave `points = {name:?}` out")));
        }
        (None, _) => pickle.array_of(name).ok_or_else(|| failed(lacks(&pickle, name)))?,
    };
    let numbers = pickle.numbers(array).map_err(|cause| failed(format!("{name:?} {cause}")))?;
    laid_out(array, &numbers).map_err(|cause| failed(format!("{name:?} {cause}")))
}

fn lacks(pickle: &Pickle<'_>, name: &str) -> String {
    match pickle.arrays() {
        None => "contains neither a dictionary nor an array; DeepFly3D writes a dictionary with `points3d`".into(),
        Some(arrays) => {
            let each = arrays.iter().map(|(key, shape)| format!("{key} {shape:?}"));
            let there = each.collect::<Vec<_>>().join(", ");
            format!("has no array {name:?}; `points` must name one of its arrays: {there}")
        }
    }
}

/// Frames become rows; cameras, joints and coordinates columns.
fn laid_out(array: &Array, numbers: &[f64]) -> Result<Table, String> {
    let shape = array.shape();
    let [cameras, frames, joints, coordinates] = match *shape {
        [frames, columns] => [1, frames, columns, 1],
        [frames, joints, coordinates] => [1, frames, joints, coordinates],
        [cameras, frames, joints, coordinates] => [cameras, frames, joints, coordinates],
        _ => {
            return Err(format!(
                "has the shape {shape:?}; a pose is [frames, joints, coordinates], or with cameras before it"
            ));
        }
    };
    let width = joints * coordinates;
    let rows = (0..frames).flat_map(|frame| {
        let of_camera = move |camera: usize| (camera * frames + frame) * width;
        (0..cameras).flat_map(move |camera| of_camera(camera)..of_camera(camera) + width)
    });
    let values = rows.map(|at| numbers[at] as f32).collect();
    let values = Array2::from_shape_vec((frames, cameras * width), values).map_err(|e| e.to_string())?;
    let mut names = Vec::with_capacity(cameras * width);
    for camera in 0..cameras {
        let camera = if shape.len() == 4 { format!("camera{camera}_") } else { String::new() };
        for joint in 0..joints {
            names.extend(
                (0..coordinates)
                    .map(|at| format!("{camera}{}{}", joint_name(joint, joints), coordinate(at, coordinates))),
            );
        }
    }
    Ok(Table::new(values, names))
}

fn coordinate(at: usize, of: usize) -> String {
    match (of, at) {
        (1, _) => String::new(),
        (3, 0) => "_x".into(),
        (3, 1) => "_y".into(),
        (3, 2) => "_z".into(),
        _ => format!("_{at}"),
    }
}

fn joint_name(joint: usize, of: usize) -> String {
    if of != JOINTS {
        return joint.to_string();
    }
    let (side, joint) = (joint / (JOINTS / 2), joint % (JOINTS / 2));
    let limb = |limb: usize| format!("limb{}", 5 * side + limb);
    match joint {
        0..15 => format!("{}_{}", limb(joint / 5), LEG[joint % 5]),
        15 => format!("{}_antenna", limb(3)),
        _ => format!("{}_stripe{}", limb(4), joint - 16),
    }
}

//! Which TIFF files a recording has: folders, patterns and lists, and what is said of files of other kinds.
//!
//! Why it exists: labs keep one file per page, per channel, per gigabyte or per trial in a folder, with averages of them beside. What it
//! must never do: append a file whose name does not fit (that is `file_names`).

use std::path::{Path, PathBuf};

use super::SourceError;
use super::file_names::belong_together;
use super::recording::{extension, file_error, natural_order};

/// Readable formats, for messages.
const READABLE: &str = "readable formats: .tif/.tiff files, a folder of them, a pattern such as 'run_*.tif'; a recorded session (.mcap); an NWB file (one of \
    several series: FILE.nwb#NAME); a ThorImage folder (with Experiment.xml) or a .raw file in it; a PrairieView folder or its .xml; a Scanbox .sbx beside its .mat; any raw file if you give its layout (--raw uint16:512x512)";

pub(super) fn is_tiff(path: &Path) -> bool {
    matches!(extension(path).as_str(), "tif" | "tiff" | "btf" | "tf8")
}

/// Replaces folders and patterns by their files.
///
/// # Errors
/// Nothing there, a format that is not read, or names that do not belong together.
pub(super) fn tiff_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = listed(path, is_tiff)?;
            belong_together(path, &found)?;
            files.extend(found);
        } else if path.is_file() && is_tiff(path) {
            files.push(path.clone());
        } else if path.is_file() {
            return Err(file_error(path, unread(path)));
        } else {
            let found = matching(path)?;
            belong_together(path, &found)?;
            files.extend(found);
        }
    }
    Ok(files)
}

/// Formats of other programs, and what exports them.
const FOREIGN: [(&[&str], &str); 28] = [
    (
        &["sbx"],
        "Scanbox: its .mat of the same name must lie beside it; without that, give its layout (--raw uint16:ROWSxCOLUMNS; one channel, and its \
         pixels stay inverted)",
    ),
    (&["isxd"], "Inscopix: export TIFF with the Inscopix Data Processing Software (isx.export_movie_to_tiff)"),
    (&["czi"], "Zeiss: export OME-TIFF with ZEN, or bfconvert of Bio-Formats"),
    (&["lsm"], "Zeiss LSM, a TIFF with thumbnails: export OME-TIFF with ZEN, or bfconvert of Bio-Formats"),
    (&["nd2"], "Nikon: export TIFF with NIS-Elements, or bfconvert of Bio-Formats"),
    (&["lif", "xlef", "lof"], "Leica: export TIFF with LAS X, or bfconvert of Bio-Formats"),
    (&["oir", "oib", "oif", "vsi"], "Olympus: export OME-TIFF with FluoView, or bfconvert of Bio-Formats"),
    (&["mesc", "mes"], "Femtonics: export TIFF with MESc, or bfconvert of Bio-Formats"),
    (&["ims"], "Imaris: export TIFF with Imaris, or bfconvert of Bio-Formats"),
    (&["sld", "sldy"], "SlideBook: export OME-TIFF with SlideBook"),
    (&["stk"], "MetaMorph: export TIFF with MetaMorph, or bfconvert of Bio-Formats"),
    (&["dcimg"], "Hamamatsu: export TIFF with HCImage"),
    (&["h5", "hdf5", "hdf"], "HDF5 has no common order of frames: write an NWB file (pynwb), or a TIFF with tifffile"),
    (&["mat"], "MATLAB: write a TIFF; the .mat of Scanbox is read with its .sbx, which is the file to name"),
    (
        &["npy", "npz"],
        "NumPy: write it with tifffile.imwrite('movie.tif', array, metadata={'axes': 'TYX'}), or give its layout (--raw …)",
    ),
    (&["zarr", "n5"], "Zarr: write a TIFF with tifffile"),
    (&["bin"], "suite2p's data.bin is a raw file: --raw int16:ROWSxCOLUMNS (Ly and Lx in ops.npy)"),
    (
        &["mmap"],
        "CaImAn's memory map is a raw file in Fortran order: --raw float32:ROWSxCOLUMNS:0:F where its name says order_F",
    ),
    (
        &["nii"],
        "NIfTI: a raw file behind a header, x fastest: give the layout of one plane over time (--raw int16:ROWSxCOLUMNS:352, or the vox_offset of \
         its header), or write a TIFF with nibabel and tifffile",
    ),
    (&["gz", "bz2", "xz", "zip", "7z", "rar", "tar"], "an archive: unpack it first"),
    (&["mdf"], "Sutter's MScan: export TIFF with MView"),
    (&["doric"], "Doric: export TIFF with Doric Neuroscience Studio"),
    (&["tdms"], "LabVIEW's TDMS: write a TIFF with tifffile (npTDMS reads it)"),
    (
        &["sif", "spe", "cxd", "seq", "dv"],
        "a camera's own format: export TIFF with its program, or bfconvert of Bio-Formats",
    ),
    (&["avi", "mj2"], "a movie: save it as a TIFF stack with ImageJ, if it was never compressed with losses"),
    (&["mp4", "mov", "mkv", "wmv", "webm", "m4v"], "a movie compressed with losses: use the original recording"),
    (
        &["raw", "dat"],
        "no format by itself: a raw file needs its layout (--raw uint16:512x512), ThorImage's its Experiment.xml beside it",
    ),
    (&["xml"], "neither ThorImage's Experiment.xml nor the XML of a PrairieView recording (PVScan)"),
];

/// Why a file of this kind is not read, and the way out.
pub(super) fn unread(path: &Path) -> String {
    let extension = extension(path);
    match FOREIGN.iter().find(|(foreign, _)| foreign.contains(&extension.as_str())) {
        Some((_, way_out)) => format!("no reader for this type of file ({way_out}); {READABLE}"),
        None => format!("no reader for this type of file; {READABLE}"),
    }
}

/// Files of a folder that satisfy `wanted`, in natural order; at least one.
pub(super) fn listed(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, SourceError> {
    let entries = std::fs::read_dir(folder).map_err(|e| file_error(folder, e.to_string()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file() && wanted(p)).collect();
    files.sort_by(|a, b| natural_order(a, b));
    if files.is_empty() {
        return Err(file_error(folder, format!("contains no readable file; {READABLE}")));
    }
    Ok(files)
}

/// Files whose name matches the last part of `path`, if that is a pattern.
fn matching(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let pattern = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !pattern.contains(['*', '?']) {
        return Err(file_error(path, "no such file or folder"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fits = |p: &Path| is_tiff(p) && p.file_name().is_some_and(|n| like(&pattern, &n.to_string_lossy()));
    listed(folder, fits).map_err(|_| file_error(path, format!("no file matches this pattern; {READABLE}")))
}

/// `*` stands for any text, `?` for one byte.
fn like(pattern: &str, name: &str) -> bool {
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|n| fits(rest, &name[n..])),
            ([b'?', p @ ..], [_, n @ ..]) => fits(p, n),
            ([a, p @ ..], [b, n @ ..]) if a == b => fits(p, n),
            _ => false,
        }
    }
    fits(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("run_*.tif", "run_001.tif", true),
            ("run_*.tif", "run_.tif", true),
            ("run_?.tif", "run_10.tif", false),
            ("*", "a.tif", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b", "a", false),
        ] {
            assert_eq!(like(pattern, name), fits, "{pattern} {name}");
        }
    }
}

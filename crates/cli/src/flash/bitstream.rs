//! `jitney bitstream`: what a file for an FPGA is.

use super::found::Found;
use super::image::Image;
use crate::report::Report;
use crate::status::Status;
use crate::transfer::output::{Interrupted, Output};
use anyhow::bail;
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

const HELP: &str = "Examples:\n  \
     jitney bitstream top.bit\n  \
     jitney bitstream top.bit --bin top.bin\n\n\
     A .bin file is a .bit file without its header: what an FPGA takes from its flash. Bitstreams of 7-series and UltraScale \
     FPGAs are known. The exit status is 1 for a file that is none, or is cut off.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Bitstream {
    /// The file, a .bit or a .bin.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write what goes to the FPGA to this file.
    #[arg(long, value_name = "OUT")]
    pub(crate) bin: Option<PathBuf>,
    /// Replace that file if there is one.
    #[arg(long, requires = "bin")]
    pub(crate) force: bool,
}

/// What a file is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    file: String,
    /// Bytes that go to the FPGA.
    data_bytes: usize,
    bitstream: Option<Found>,
    /// The file that these bytes were written to.
    bin: Option<String>,
}

pub(crate) fn bitstream(args: &Bitstream, json: bool) -> anyhow::Result<Status> {
    let image = Image::open(&args.file)?;
    let report = Report::new(json);
    let own = &image.bitstream;
    let found = Found::of(own.header.as_ref(), &own.scan, false);
    match &found {
        Some(found) => {
            report.line(format!("{}:", image.name));
            found.lines().iter().for_each(|line| report.line(format!("  {line}")));
        }
        None => report.line(format!("{} is no bitstream: it has no sync word (AA995566h)", image.name)),
    }
    let bin = match &args.bin {
        None => None,
        Some(_) if found.is_none() => bail!("{} is no bitstream: nothing was written", image.name),
        Some(path) => {
            let mut output = Output::create(path, args.force, Interrupted::Removes)?;
            output.write(image.data())?;
            let name = output.name().to_owned();
            output.finish()?;
            report.line(format!("wrote {} bytes to {name}", image.data().len()));
            Some(name)
        }
    };
    let whole = found.is_some() && (own.scan.encrypted || own.scan.is_whole());
    let (file, data_bytes) = (image.name.clone(), image.data().len());
    report.finish(&Outcome { file, data_bytes, bitstream: found, bin })?;
    Ok(if whole { Status::Passed } else { Status::Failed })
}
